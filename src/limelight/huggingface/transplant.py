"""Replacing the attention of a model, or of some of its layers, within a `with` block."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from limelight import check
from limelight.errors import InputError
from limelight.huggingface.layers import uses_attention_interface
from limelight.huggingface.mechanism import Mechanism, NoMask
from limelight.huggingface.register import OURS, add
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Dot, Similarity

_NAME = "limelight_transplant"  # the attention implementation in the configs of layers that `transplant` changes


@contextmanager
def transplant(
    model: nn.Module,
    similarity: Similarity = Dot(),
    normalization: Normalization = Softmax(),
    layers: Iterable[int] | None = None,
) -> Iterator[tuple[str, ...]]:
    """Within the `with` block, some layers of the model compute P = softmax_j(scale · β(q_i, k_j) + b_j).

    `layers` are indices into `attention_layers(model)`, or None for all of them; other layers do not
    change. The `with` statement yields the names of the changed layers. After the block, also if it
    raised an exception, the model is as it was. The layers keep their weights, and gradients reach
    them; call `backward` within the block if activations are checkpointed.

    Raises `InputError` for a layer out of range, for a model without layers that can be changed, and
    for a model whose masks are made for an attention other than eager, sdpa or a name of `register`.
    When the model is called, it raises what `register` lists.

    >>> import torch, transformers
    >>> from limelight import Euclidean
    >>> from limelight.huggingface import transplant
    >>> small = dict(n_layer=2, n_head=2, n_embd=8, vocab_size=10, bos_token_id=0, eos_token_id=0)
    >>> config = transformers.GPT2Config(**small)
    >>> model = transformers.GPT2LMHeadModel(config).eval()
    >>> with transplant(model, Euclidean(4.0), layers=[0]) as changed:
    ...     logits = model(torch.tensor([[1, 2, 3]])).logits
    >>> changed, logits.shape
    (('transformer.h.0.attn',), torch.Size([1, 3, 10]))
    """
    check.instance("similarity", similarity, Similarity)
    check.instance("normalization", normalization, Normalization)
    chosen = _choose(model, layers)
    with ExitStack() as undo:
        for name in chosen:
            own = model.get_submodule(name).__dict__
            undo.callback(_restore, own, {key: own[key] for key in ("config", "_limelight") if key in own})
            outer = own.get("_limelight")
            config = own["config"] if outer is None else outer.config
            own.update(config=_renamed_config(config), _limelight=_Transplant(similarity, normalization, config))
        yield tuple(chosen)


def attention_layers(model: nn.Module) -> tuple[str, ...]:
    """The names of the layers whose attention can be replaced, in the model's own order.

    A layer that is used several times (ALBERT shares one) is listed once. In an encoder-decoder the layers
    of the encoder come first, then each decoder block's self-attention and cross-attention.

    >>> import transformers
    >>> from limelight.huggingface import attention_layers
    >>> small = dict(n_layer=2, n_head=2, n_embd=8, vocab_size=10, bos_token_id=0, eos_token_id=0)
    >>> config = transformers.GPT2Config(**small)
    >>> model = transformers.GPT2LMHeadModel(config).eval()
    >>> attention_layers(model)
    ('transformer.h.0.attn', 'transformer.h.1.attn')
    """
    return tuple(name for name, layer in model.named_modules() if uses_attention_interface(layer))


@dataclass(frozen=True)
class _Transplant:
    """The mechanism of a changed layer, and its original configuration, by which the model makes its masks."""

    similarity: Similarity
    normalization: Normalization
    config: Any

    def __call__(self, module: nn.Module, *args: Any, **given: Any) -> Any:
        used = self.config._attn_implementation
        _require_known_masks(used)  # the model's attention may have been changed within the `with` block
        no_mask: NoMask = "the layer's is_causal" if used == "sdpa" else "everything"
        return Mechanism(self.similarity, self.normalization, no_mask)(module, *args, **given)


def _transplanted_attention(module: nn.Module, *args: Any, **given: Any) -> Any:
    return module._limelight(module, *args, **given)  # type: ignore[operator]


add(_NAME, _transplanted_attention)


def _choose(model: nn.Module, layers: Iterable[int] | None) -> list[str]:
    names = attention_layers(model)
    if not names:
        raise InputError(f"{type(model).__name__} has no layer that goes through transformers' AttentionInterface")
    indices = range(len(names)) if layers is None else list(layers)
    for index in indices:
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(names):
            raise InputError(f"layers expects whole numbers from 0 to {len(names) - 1}, got {index!r}")
    chosen = [names[index] for index in dict.fromkeys(indices)]
    for name in chosen:
        _require_known_masks(model.get_submodule(name).__dict__["config"]._attn_implementation)
    return chosen


def _require_known_masks(used: str | None) -> None:
    if used not in {None, "eager", "sdpa", _NAME, *OURS}:
        raise InputError(
            f"the model's masks are made for {used!r}; call model.set_attn_implementation('sdpa') before transplant"
        )


def _renamed_config(config: Any) -> Any:
    """A copy of the config with the name `_NAME`; the original is shared with unchanged layers and with the masks."""
    config = copy.deepcopy(config)
    config._attn_implementation = _NAME
    return config


def _restore(own: dict[str, Any], before: dict[str, Any]) -> None:
    own.pop("_limelight", None)
    own.update(before)
