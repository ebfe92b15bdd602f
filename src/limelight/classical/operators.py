"""Operators derived from an attention: rescaled, symmetrized, centered. None of their matrices is stored."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.linear_operator import DerivedOperator, LinearOperator
from limelight.similarity import Similarity, upcast


class _OfAttention(DerivedOperator):
    """An operator derived from an attention, which is its attribute `attention`."""

    def __init__(self, attention: Attention) -> None:
        super().__init__(attention)
        self.attention = attention


class Rescaled(_OfAttention):
    """diag(left) P diag(right): for example the weights before normalization, or the symmetric conjugate of P."""

    def __init__(
        self, attention: Attention, left: Float[Tensor, " n"], right: Float[Tensor, " m"] | None = None
    ) -> None:
        super().__init__(attention)
        self.left, self.right = left, right

    def _apply(self, v: Float[Tensor, "m e"]) -> Float[Tensor, "n e"]:
        return self.left[:, None] * (self.attention @ (v if self.right is None else self.right[:, None] * v))

    def _apply_transposed(self, w: Float[Tensor, "n e"]) -> Float[Tensor, "m e"]:
        product = self.attention.T @ (self.left[:, None] * w)
        return product if self.right is None else self.right[:, None] * product


class Symmetrized(_OfAttention):
    """weight · (P + Pᵀ)/2."""

    def __init__(self, attention: Attention, weight: float = 1.0) -> None:
        super().__init__(attention)
        self.weight = weight

    def _apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return 0.5 * self.weight * (self.attention @ v + self.attention.T @ v)

    def _apply_transposed(self, w: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return self._apply(w)


class Centered(LinearOperator):
    """J β J, J = I − 11ᵀ/n, of a similarity that is an inner product plus two biases, β_ij = ⟨q_i, k_j⟩ + a_i + b_j.

    It equals ⟨q_i − q̄, k_j − k̄⟩, and takes memory linear in n.
    """

    def __init__(self, X: Float[Tensor, "n d"], similarity: Similarity) -> None:
        # J subtracts the mean. A bias a_i is the same in every column, so J from the right makes it 0, and J from
        # the left makes b_j 0; the factors of the inner products become centered. So J β J v = q̃ (k̃ᵀ v), two thin
        # products.
        product = similarity.as_inner_product(X, X)
        self.q, self.k = (upcast(x) - upcast(x).mean(0) for x in (product.q, product.k))
        self.shape = (len(X), len(X))

    @property
    def dtype(self) -> torch.dtype:
        return self.q.dtype

    @property
    def device(self) -> torch.device:
        return self.q.device

    def _apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return self.q @ (self.k.mT @ v)

    def _apply_transposed(self, w: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return self.k @ (self.q.mT @ w)
