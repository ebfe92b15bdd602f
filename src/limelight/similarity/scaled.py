"""A similarity with another scale."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jaxtyping import Bool, Float, Int
from torch import Tensor

from limelight.heads import FINITE, hold, per_head
from limelight.similarity.base_similarity import Properties, Similarity
from limelight.similarity.forms import InnerProduct, KeyFactors, PairFunction, Parts
from limelight.tracing import holds

if TYPE_CHECKING:
    from limelight.mask import Mask


class Scaled(Similarity):
    """β of another similarity with this scale instead of its own: `Dot() + Scaled(ALiBi(8), 0.5)`.

    scale is a finite number, or a tensor or parameter for heads, (heads,) or (*batch, 1, 1).

    >>> import torch
    >>> from limelight import ALiBi, Attention, Dot, Scaled
    >>> x = torch.randn(8, 10, 4)  # 8 heads
    >>> Attention(x, x, Dot() + Scaled(ALiBi(8), 0.5)).shape
    (8, 10, 10)
    """

    def __init__(self, similarity: Similarity, scale: float | Tensor) -> None:
        super().__init__()
        self.similarity = similarity
        self.scale: float | Tensor
        hold(self, "scale", scale, FINITE)
        self.properties, self.same_width = _properties(similarity, scale), similarity.same_width
        self.pair_size = similarity.pair_size

    @property
    def coefficient(self) -> float:  # type: ignore[override]
        return self.similarity.coefficient

    def default_scale(self, d: int) -> float | Tensor:
        return per_head(self.scale)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return self.similarity.dense(q, k)

    def of_few(
        self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]
    ) -> Float[Tensor, "*#batch n m"] | None:
        return self.similarity.of_few(q, k)

    def key_factors(self, k: Float[Tensor, "*#batch m d"]) -> KeyFactors | None:
        return self.similarity.key_factors(k)

    def query_factors(self, q: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n r"]:
        return self.similarity.query_factors(q)

    def of_product(
        self, product: Float[Tensor, "*#batch n m"], q: Float[Tensor, "*#batch n d"]
    ) -> Float[Tensor, "*#batch n m"]:
        return self.similarity.of_product(product, q)

    def at(self, offset: int) -> Similarity:
        return self._with(similarity=self.similarity.at(offset))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.similarity.batch_shape

    @property
    def is_inner_product(self) -> bool:
        return self.similarity.is_inner_product

    @property
    def has_pair_bias(self) -> bool:
        return self.similarity.has_pair_bias

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return self.similarity.as_inner_product(q, k, real)

    def rounded_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return self.similarity.rounded_inner_product(q, k, real)

    @property
    def has_pair_function(self) -> bool:
        return self.similarity.has_pair_function

    @property
    def depends_on_contents(self) -> bool:  # type: ignore[override]
        return self.similarity.depends_on_contents

    def pair_function(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> PairFunction:
        return self.similarity.pair_function(q, k, real)

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        return self.similarity.parts(q, k, real)

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        return self.similarity.block(parts, i, j)

    def under(self, mask: Mask | None) -> Similarity:
        changed = self.similarity.under(mask)
        return self if changed is self.similarity else Scaled(changed, self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


def unscaled(similarity: Similarity) -> Similarity:
    """The similarity without any `Scaled` around it."""
    return unscaled(similarity.similarity) if isinstance(similarity, Scaled) else similarity


def _properties(similarity: Similarity, scale: float | Tensor) -> Properties:
    """The properties of β times this scale: without a positive scale it is neither positive definite nor a metric."""
    positive = holds((scale.detach() > 0).all()) if isinstance(scale, Tensor) else scale > 0
    kept = similarity.properties
    return kept if positive else replace(kept, positive_definite=False, metric=False)
