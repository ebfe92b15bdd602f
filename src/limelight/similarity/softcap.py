"""A similarity whose scores are limited to (−c, c)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limelight.errors import InputError
from limelight.similarity.base_similarity import Properties, Similarity, Sum
from limelight.similarity.forms import PairFunction, Parts
from limelight.similarity.scaled import Scaled

if TYPE_CHECKING:
    from limelight.mask import Mask


class SoftCap(Similarity):
    """β = c · tanh(s/c), scale 1, with s = scale · β' the scores of another similarity (Gemma 2, 2408.00118).

    Scores far below the cap c hardly change, and all lie in (−c, c), so that no pair has more than e^2c times the
    weight of another. `scale` is that of the scores s, by default `similarity.default_scale`; what is added to a
    `SoftCap` (a `Bias`, say) is not capped. It is not an inner product, so it runs on the chunked kernel.

    Raises `InputError` for a cap that is not a positive number, and unless `similarity` is a `Similarity`.

    >>> import torch
    >>> from limelight import Dot, SoftCap
    >>> q, k = torch.tensor([[100.0]]), torch.tensor([[1.0], [-1.0]])
    >>> SoftCap(Dot(), cap=30.0).dense(q, k).round(decimals=1)
    tensor([[ 29.9000, -29.9000]])
    """

    def __init__(self, similarity: Similarity, cap: float, scale: float | Tensor | None = None) -> None:
        super().__init__()
        if isinstance(cap, bool) or not isinstance(cap, (int, float)) or not 0 < cap < math.inf:
            raise InputError(f"SoftCap(cap=…) must be a positive and finite number, got {cap!r}")
        if not isinstance(similarity, Similarity):
            raise InputError(f"SoftCap(similarity) expects a Similarity object, got {similarity!r}")
        self.cap = float(cap)
        # A `Sum` applies the scale to its term, also if the scale depends on the width.
        self.scores = Sum(similarity if scale is None else Scaled(similarity, scale))
        within = similarity.properties
        self.properties = Properties(symmetric=within.symmetric, translation_invariant=within.translation_invariant)
        self.same_width, self.pair_size = similarity.same_width, similarity.pair_size

    @property
    def coefficient(self) -> float:  # type: ignore[override]
        return self.cap

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return self.cap * (self.scores.dense(q, k) / self.cap).tanh()

    def at(self, offset: int) -> Similarity:
        return self._with(scores=self.scores.at(offset))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.scores.batch_shape

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        return self.scores.parts(q, k, real)

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        return (self.scores.block(parts, i, j) / self.cap).tanh()

    @property
    def has_pair_function(self) -> bool:
        return self.scores.has_pair_function

    @property
    def depends_on_contents(self) -> bool:  # type: ignore[override]
        return self.scores.depends_on_contents

    def pair_function(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> PairFunction:
        within, cap = self.scores.pair_function(q, k, real), self.cap
        return replace(within, of=lambda s, i, j, read: cap * torch.tanh(within.of(s, i, j, read) / cap))

    def under(self, mask: Mask | None) -> Similarity:
        return SoftCap(self.scores.under(mask), self.cap)

    def extra_repr(self) -> str:
        return f"cap={self.cap:g}"
