"""What is made of attention's matrix before it is applied: rescaled, symmetrized, centered. None of it is stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.similarity import Similarity, upcast


@dataclass(frozen=True)
class Rescaled:
    """diag(left) P diag(right): what a softmax divided by put back, or P's symmetric conjugate."""

    attention: Attention
    left: Float[Tensor, " n"]
    right: Float[Tensor, " m"] | None = None

    def __matmul__(self, v: Float[Tensor, "m e"]) -> Float[Tensor, "n e"]:
        v = v if self.right is None else self.right[:, None] * v
        return self.left[:, None] * (self.attention @ v)


@dataclass(frozen=True)
class Symmetrized:
    """weight · (P + Pᵀ)/2."""

    attention: Attention
    weight: float = 1.0

    def __matmul__(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return 0.5 * self.weight * (self.attention @ v + self.attention.T @ v)


class Centered:
    """J β J, J = I − 11ᵀ/n, of a similarity that is an inner product and two terms, β_ij = ⟨q_i, k_j⟩ + a_i + b_j.

    The terms have no part in it: J β J = ⟨q_i − q̄, k_j − k̄⟩, in memory linear in n.
    """

    def __init__(self, X: Float[Tensor, "n d"], similarity: Similarity) -> None:
        factors = similarity.as_inner_product(X, X)
        self.q, self.k = (upcast(x) - upcast(x).mean(0) for x in (factors.q, factors.k))

    def __matmul__(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return self.q @ (self.k.mT @ v.to(torch.promote_types(v.dtype, self.k.dtype)))
