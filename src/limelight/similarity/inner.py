"""Similarities that are inner products: of q and k, of directions, through a matrix, with learned keys."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.heads import require_count
from limelight.similarity.base_similarity import Properties, Similarity
from limelight.similarity.forms import InnerProduct, KeyFactors
from limelight.similarity.tensors import upcast


class Dot(Similarity):
    """β = ⟨q, k⟩, scale 1/√d: the attention of the Transformer (Vaswani et al. 2017).

    >>> import torch
    >>> from limelight import Attention, Dot
    >>> q = k = torch.eye(2)
    >>> Attention(q, k, Dot(), scale=1.0).dense().round(decimals=3)
    tensor([[0.7310, 0.2690],
            [0.2690, 0.7310]])
    """

    properties = Properties(symmetric=True, positive_definite=True)

    def default_scale(self, d: int) -> float:
        return 1 / math.sqrt(d)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return upcast(q) @ upcast(k).mT

    def of_few(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return self.dense(q, k)

    def key_factors(self, k: Float[Tensor, "*#batch m d"]) -> KeyFactors:
        return KeyFactors(k)

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return InnerProduct(q, k)


class Cosine(Similarity):
    """β = ⟨q, k⟩ / |q||k|, scale 1. A zero vector is at right angles to everything: β = 0, gradient 0.

    >>> import torch
    >>> from limelight import Cosine
    >>> q, k = torch.tensor([[3.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0], [-2.0, 0.0]])
    >>> Cosine().dense(q, k)
    tensor([[ 1.,  0., -1.]])
    """

    properties = Properties(symmetric=True, positive_definite=True)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return _unit(upcast(q)) @ _unit(upcast(k)).mT

    def of_few(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return self.dense(q, k)

    def key_factors(self, k: Float[Tensor, "*#batch m d"]) -> KeyFactors:
        return KeyFactors(_unit(k))

    def query_factors(self, q: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n r"]:
        return _unit(q)

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        return InnerProduct(_unit(q), _unit(k))


class Alignment(Similarity):
    """β = (1 + cos∠(q, k))/2 in [0, 1], scale 1: binding by the alignment of directions (2402.05627).

    As a score this is `Cosine` at half its scale; the constant cancels in a row softmax and is kept
    for those that do not, such as `Sigmoid`.

    >>> import torch
    >>> from limelight import Alignment
    >>> q, k = torch.tensor([[3.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0], [-2.0, 0.0]])
    >>> Alignment().dense(q, k)
    tensor([[1.0000, 0.5000, 0.0000]])
    """

    properties = Properties(symmetric=True, positive_definite=True)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return 0.5 + 0.5 * _unit(upcast(q)) @ _unit(upcast(k)).mT

    def of_few(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return self.dense(q, k)

    def key_factors(self, k: Float[Tensor, "*#batch m d"]) -> KeyFactors:
        return KeyFactors(_unit(k))

    def query_factors(self, q: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n r"]:
        return 0.5 * _unit(q)

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        half = upcast(q).new_full(q.shape[:-1], 0.5)
        return InnerProduct(0.5 * _unit(q), _unit(k), query_bias=half)


class Bilinear(Similarity):
    """β = qᵀ W k with a learned W (d, key_width), scale 1/√d: not symmetric (Luong et al. 2015, "general").

    q is (*batch, n, d) and k (*batch, m, key_width); key_width defaults to d.

    >>> import torch
    >>> from limelight import Attention, Bilinear
    >>> q, k = torch.randn(5, 4), torch.randn(7, 3)
    >>> Attention(q, k, Bilinear(4, 3)).shape
    (5, 7)
    """

    same_width = False

    def __init__(self, d: int, key_width: int | None = None) -> None:
        super().__init__()
        key_width = d if key_width is None else key_width
        for name, size in (("d", d), ("key_width", key_width)):
            require_count(f"Bilinear({name}=…)", size)
        self.weight = nn.Parameter(torch.empty(d, key_width))
        nn.init.xavier_uniform_(self.weight)

    def default_scale(self, d: int) -> float:
        return 1 / math.sqrt(d)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        require_widths(self, q, k, *self.weight.shape)
        return upcast(q) @ self.weight.to(upcast(q).dtype) @ upcast(k).mT

    def of_few(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        return self.dense(q, k)

    def key_factors(self, k: Float[Tensor, "*#batch m e"]) -> KeyFactors:
        return KeyFactors(k)

    def query_factors(self, q: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n r"]:
        return q @ self.weight.to(q.dtype)

    def as_inner_product(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> InnerProduct:
        require_widths(self, q, k, *self.weight.shape)
        return InnerProduct(q @ self.weight.to(q.dtype), k)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))


def require_widths(similarity: Similarity, q: Tensor, k: Tensor, d: int, e: int) -> None:
    if (q.shape[-1], k.shape[-1]) != (d, e):
        raise InputError(
            f"{type(similarity).__name__} expects queries of width {d} and keys of width {e}, "
            f"got {q.shape[-1]} and {k.shape[-1]}"
        )


def _unit(x: Float[Tensor, "*#batch n d"]) -> Float[Tensor, "*#batch n d"]:
    # x/|x|, and 0 for x = 0. There 1/norm is ∞, and `where` alone would not do: the gradient of the branch that is not
    # taken is 0 · ∞ = NaN. So the norm is replaced by 1 before the division. x is first divided by its largest entry,
    # which changes neither the direction nor its gradient, since the squares of very large and very small numbers
    # would overflow or vanish.
    wide = upcast(x)
    largest = torch.linalg.vector_norm(wide.detach(), math.inf, dim=-1, keepdim=True)
    wide = wide / largest.masked_fill(largest == 0, 1)
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    inverse = torch.where(norm > 0, 1 / norm.masked_fill(norm == 0, 1), 0)
    return (wide * inverse).to(x.dtype)
