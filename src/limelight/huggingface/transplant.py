"""A mechanism lent to a model, or to some of its layers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from limelight import check
from limelight.errors import InputError
from limelight.huggingface.mechanism import Mechanism
from limelight.huggingface.register import OURS, add
from limelight.normalisation import Normalisation, Softmax
from limelight.similarity import Dot, Similarity

_GRAFT = "limelight_transplant"  # what the layers that `transplant` changes are set to


@contextmanager
def transplant(
    model: nn.Module,
    similarity: Similarity = Dot(),
    normalisation: Normalisation = Softmax(),
    layers: Iterable[int] | None = None,
) -> Iterator[tuple[str, ...]]:
    """Within the `with`, these layers of the model compute softmax_j(scale · β(q_i, k_j) + b_j); all others go on.

    `layers` are positions in `attention_layers(model)`, None = all; the `with` yields the names of
    those changed. On leaving, by an exception too, the model is as it was. Weights stay where they
    are, and gradients reach them; call `backward` inside where activations are checkpointed.

    Raises `InputError` for a layer out of range, for a model without layers that can be changed,
    and for one whose masks are made for something else than eager, sdpa or a name of `register`;
    at use as `register` does.
    """
    check.instance("similarity", similarity, Similarity)
    check.instance("normalisation", normalisation, Normalisation)
    chosen = _choose(model, layers)
    with ExitStack() as undo:
        for name in chosen:
            own = model.get_submodule(name).__dict__
            undo.callback(_put_back, own, {key: own[key] for key in ("config", "_limelight") if key in own})
            own.update(config=_grafted(own["config"]), _limelight=Mechanism(similarity, normalisation))
        yield tuple(chosen)


def attention_layers(model: nn.Module) -> tuple[str, ...]:
    """Which layers can be given another attention? Their names, in the model's own order.

    A layer used several times (ALBERT shares one) counts once; in an encoder-decoder the encoder's
    come first, then each decoder block's self-attention and cross-attention.
    """
    return tuple(name for name, layer in model.named_modules() if _asks_the_interface(layer))


def _graft(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return module._limelight(module, *args, **kwargs)  # type: ignore[operator]


add(_GRAFT, _graft)


def _asks_the_interface(layer: nn.Module) -> bool:
    code = getattr(inspect.unwrap(type(layer).forward), "__code__", None)
    return "config" in layer.__dict__ and "ALL_ATTENTION_FUNCTIONS" in getattr(code, "co_names", ())


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
        used = model.get_submodule(name).__dict__["config"]._attn_implementation
        if used not in {None, "eager", "sdpa", _GRAFT, *OURS}:
            raise InputError(
                f"the model's masks are made for {used!r}; call model.set_attn_implementation('sdpa') before transplant"
            )
    return chosen


def _grafted(config: Any) -> Any:
    """A copy, since the config is shared with the layers that go on as they were, and with the masks."""
    config = copy.deepcopy(config)
    config._attn_implementation = _GRAFT
    return config


def _put_back(own: dict[str, Any], before: dict[str, Any]) -> None:
    own.pop("_limelight", None)
    own.update(before)
