"""A measure that runs the model: how far its output moves if a head is ablated, for each head in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError
from limelight.microscope.head_measures import Measure, PerHead
from limelight.microscope.interventions import Ablate
from limelight.microscope.scope import Scope
from limelight.microscope.watched_attention import WatchedAttention
from limelight.similarity import upcast


def ablation_effect(scope: Scope, inputs: Mapping[str, Any] | Tensor) -> Measure:
    """mean_i |x'_i − x_i| / |x_i|: how far the output x at each token moves if a head's output becomes its mean.

    `inputs` are what the model was called with when the scope watched it: one text, as keyword arguments or as a
    tensor. The output is the logits, the last hidden state, or the first tensor that the model returns. The model runs
    once for each head of the table.

    Raises `InputError`, when the table is made, for several texts or steps, and as `scope.intervene` does.

    >>> import torch
    >>> from limelight import microscope
    >>> layer, x = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval(), torch.randn(1, 5, 8)
    >>> with microscope.attach(layer) as scope:
    ...     out = layer(x)
    >>> table = scope.table([microscope.ablation_effect(scope, x)])
    >>> list(table), len(table["ablation"])
    (['step', 'text', 'layer', 'name', 'head', 'ablation'], 2)
    """
    run = _runner(scope, inputs)
    before: list[Tensor] = []  # the output without any change, computed when it is first needed

    def of(P: WatchedAttention) -> PerHead:
        if scope.texts > 1 or scope.steps > 1:
            raise InputError(
                f"ablation_effect is of one text that is read once, and {scope!r} has more; watch a single text"
            )
        assert P.place is not None
        if not before:
            before.append(run())
        layer, effects = P.place.layer, []
        for head in range(P.shape[0]):
            with scope.intervene(Ablate([(layer, head)])):
                effects.append(moved(before[0], run()))
        return torch.stack(effects).to(P.device)

    return Measure(
        "ablation",
        of,
        "mean_i |x'_i − x_i| / |x_i|,  x' the output with o_i ← mean_i o_i",
        "0 to ∞",
        "How far the model's output moves if what the head says at each token becomes its mean over the text.",
        "mean ablation: Wang et al. 2022 (2211.00593); importance of heads: Michel et al. 2019 (1905.10650)",
    )


def _runner(scope: Scope, inputs: Mapping[str, Any] | Tensor) -> Callable[[], Float[Tensor, "*batch n width"]]:
    def run() -> Tensor:
        with torch.no_grad():
            out = scope.model(**inputs) if isinstance(inputs, Mapping) else scope.model(inputs)
        found = next((x for x in _outputs(out) if isinstance(x, Tensor) and x.is_floating_point()), None)
        if found is None:
            raise InputError(f"ablation_effect compares tensors, and the model returns {type(out).__name__}")
        return upcast(found)

    return run


def _outputs(out: Any) -> Iterator[Any]:
    yield from (getattr(out, name, None) for name in ("logits", "last_hidden_state"))
    if isinstance(out, Mapping):
        yield from out.values()
    elif isinstance(out, (tuple, list)):
        yield from out
    elif is_dataclass(out):
        yield from vars(out).values()
    else:
        yield out


def moved(before: Float[Tensor, "*batch n width"], after: Float[Tensor, "*batch n width"]) -> Float[Tensor, ""]:
    """mean_i |x'_i − x_i| / |x_i|; a token whose output stays counts as 0, also if it is 0, as torch gives padding."""
    change = (after - before).norm(dim=-1)
    return torch.where(change == 0, 0, change / before.norm(dim=-1)).mean()
