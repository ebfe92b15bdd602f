"""Similarities made of similarities: sums, and another scale."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.heads import FINITE, batch_shape_of, hold, per_head, per_row
from limelight.shapes import broadcast_shapes
from limelight.similarity.base import (
    InnerProduct,
    Parts,
    Properties,
    Similarity,
    as_one_product,
    concat_features,
    upcast,
)
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
        self.pair_size, self.coefficient = similarity.pair_size, similarity.coefficient

    def default_scale(self, d: int) -> float | Tensor:
        return per_head(self.scale)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return self.similarity.dense(q, k)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.similarity.batch_shape

    @property
    def is_inner_product(self) -> bool:
        return self.similarity.is_inner_product

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
        return Scaled(self.similarity.under(mask), self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class Sum(Similarity):
    """β = Σ_t scale_t · β_t(q, k), scale 1: each term with its own scale, such as content + position.

    Where every term is an inner product and two terms, so is the sum.

    >>> import torch
    >>> from limelight import ALiBi, Dot
    >>> type(Dot() + ALiBi()).__name__
    'Sum'
    """

    def __init__(self, *terms: Similarity) -> None:
        super().__init__()
        for term in terms:
            if not isinstance(term, Similarity):
                raise InputError(f"a sum of similarities expects Similarity objects, got {term!r}")
        flat = [part for term in terms for part in (term.parts_of_sum() if isinstance(term, Sum) else [term])]
        self.terms = nn.ModuleList(flat)
        self.properties = reduce(and_, (term.properties for term in flat), Properties(True, True, True, True))
        self.same_width = any(term.same_width for term in flat)
        self.pair_size = max(term.pair_size for term in flat)

    def parts_of_sum(self) -> list[Similarity]:
        """The similarities that are added."""
        return [term for term in self.terms if isinstance(term, Similarity)]

    def _scaled(self, q: Tensor) -> list[tuple[Similarity, float | Tensor]]:
        return [(term, term.default_scale(q.shape[-1])) for term in self.parts_of_sum()]

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return reduce(torch.add, [scale * term.dense(q, k) for term, scale in self._scaled(q)])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        scales = (batch_shape_of(term.default_scale(1)) for term in self.parts_of_sum())
        return broadcast_shapes((), *(term.batch_shape for term in self.parts_of_sum()), *scales)

    @property
    def is_inner_product(self) -> bool:
        return all(term.is_inner_product for term in self.parts_of_sum())

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return _add_factors([(term.as_inner_product(q, k, real), scale) for term, scale in self._scaled(q)])

    def rounded_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return _add_factors([(term.rounded_inner_product(q, k, real), scale) for term, scale in self._scaled(q)])

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        products = [
            (term.as_inner_product(q, k, real), scale) for term, scale in self._scaled(q) if term.is_inner_product
        ]
        others = [(term, scale) for term, scale in self._scaled(q) if not term.is_inner_product]
        whole = as_one_product(_add_factors(products)) if products else Parts()
        return Parts(
            whole.queries,
            whole.keys,
            scales=tuple(_as_tensor(scale, term.coefficient, upcast(q)) for term, scale in others),
            within=tuple(term.parts(q, k, real) for term, _ in others),
        )

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        others = [term for term in self.parts_of_sum() if not term.is_inner_product]
        blocks = []
        for term, scale, own in zip(others, parts.scales, parts.within, strict=True):
            beta = term.block(own, i, j)
            blocks.append(beta if scale is None else scale * beta)
        if not parts.queries:
            return reduce(torch.add, blocks)
        q, k = parts.queries[0], parts.keys[0]
        if q.ndim == k.ndim == 2 and blocks and blocks[0].ndim == 2:
            return torch.addmm(reduce(torch.add, blocks), q, k.mT)
        return reduce(_plus, blocks, q @ k.mT)

    def under(self, mask: Mask | None) -> Similarity:
        return Sum(*(term.under(mask) for term in self.parts_of_sum()))


def _properties(similarity: Similarity, scale: float | Tensor) -> Properties:
    """Those of the similarity; a scale that is not positive turns a distance round."""
    positive = holds((scale.detach() > 0).all()) if isinstance(scale, Tensor) else scale > 0
    kept = similarity.properties
    return kept if positive else replace(kept, positive_definite=False, metric=False)


def _plus(whole: Tensor, block: Tensor) -> Tensor:
    """whole + block, in place where it fits: a product's gradient does not need the product."""
    fits = torch.broadcast_shapes(whole.shape, block.shape) == whole.shape
    return whole.add_(block) if fits else whole + block


def _add_factors(terms: list[tuple[InnerProduct, float | Tensor]]) -> InnerProduct:
    """Σ scale · β of similarities that factor, as one inner product and two terms."""
    lefts, rights, a, b = [], [], [], []
    for factors, scale in terms:
        outer = per_row(scale)
        lefts.append((factors.q * scale).to(factors.q.dtype))
        rights.append(factors.k)
        a += [] if factors.query_bias is None else [factors.query_bias * outer]
        b += [] if factors.key_bias is None else [factors.key_bias * outer]
    return InnerProduct(
        concat_features(lefts),
        concat_features(rights),
        reduce(torch.add, a) if a else None,
        reduce(torch.add, b) if b else None,
    )


def _as_tensor(scale: float | Tensor, coefficient: float, like: Tensor) -> Tensor | None:
    """The scale as what has the dimensions of a block, or None for one."""
    if not isinstance(scale, Tensor):
        return None if scale * coefficient == 1 else like.new_full((1, 1), scale * coefficient)
    return (scale * coefficient).to(like.dtype).reshape(scale.shape or (1, 1))
