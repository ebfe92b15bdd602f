"""A mechanism lent to a model, or to some of its layers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from limelight import check
from limelight.errors import InputError
from limelight.huggingface.layers import asks_the_interface
from limelight.huggingface.mechanism import Mechanism, NoMask
from limelight.huggingface.register import OURS, add
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Dot, Similarity

_GRAFT = "limelight_transplant"  # what the layers that `transplant` changes are set to


@contextmanager
def transplant(
    model: nn.Module,
    similarity: Similarity = Dot(),
    normalization: Normalization = Softmax(),
    layers: Iterable[int] | None = None,
) -> Iterator[tuple[str, ...]]:
    """Within the `with`, these layers of the model compute softmax_j(scale · β(q_i, k_j) + b_j); all others go on.

    `layers` are positions in `attention_layers(model)`, None = all; the `with` yields the names of
    those changed. On leaving, by an exception too, the model is as it was. Weights stay where they
    are, and gradients reach them; call `backward` inside where activations are checkpointed.

    Raises `InputError` for a layer out of range, for a model without layers that can be changed,
    and for one whose masks are made for something else than eager, sdpa or a name of `register`;
    at use as `register` does.

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
            undo.callback(_put_back, own, {key: own[key] for key in ("config", "_limelight") if key in own})
            outer = own.get("_limelight")
            config = own["config"] if outer is None else outer.config
            own.update(config=_grafted(config), _limelight=_Graft(similarity, normalization, config))
        yield tuple(chosen)


def attention_layers(model: nn.Module) -> tuple[str, ...]:
    """Which layers can be given another attention? Their names, in the model's own order.

    A layer used several times (ALBERT shares one) counts once; in an encoder-decoder the encoder's
    come first, then each decoder block's self-attention and cross-attention.

    >>> import transformers
    >>> from limelight.huggingface import attention_layers
    >>> small = dict(n_layer=2, n_head=2, n_embd=8, vocab_size=10, bos_token_id=0, eos_token_id=0)
    >>> config = transformers.GPT2Config(**small)
    >>> model = transformers.GPT2LMHeadModel(config).eval()
    >>> attention_layers(model)
    ('transformer.h.0.attn', 'transformer.h.1.attn')
    """
    return tuple(name for name, layer in model.named_modules() if asks_the_interface(layer))


@dataclass(frozen=True)
class _Graft:
    """What a layer computes meanwhile, and the configuration that names how the model makes its masks."""

    similarity: Similarity
    normalization: Normalization
    config: Any

    def __call__(self, module: nn.Module, *args: Any, **given: Any) -> Any:
        used = self.config._attn_implementation
        _require_known_masks(used)  # which may have been set to another within the `with`
        no_mask: NoMask = "the layer's is_causal" if used == "sdpa" else "everything"
        return Mechanism(self.similarity, self.normalization, no_mask)(module, *args, **given)


def _graft(module: nn.Module, *args: Any, **given: Any) -> Any:
    return module._limelight(module, *args, **given)  # type: ignore[operator]


add(_GRAFT, _graft)


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
    if used not in {None, "eager", "sdpa", _GRAFT, *OURS}:
        raise InputError(
            f"the model's masks are made for {used!r}; call model.set_attn_implementation('sdpa') before transplant"
        )


def _grafted(config: Any) -> Any:
    """A copy, since the config is shared with the layers that go on as they were, and with the masks."""
    config = copy.deepcopy(config)
    config._attn_implementation = _GRAFT
    return config


def _put_back(own: dict[str, Any], before: dict[str, Any]) -> None:
    own.pop("_limelight", None)
    own.update(before)
