"""Attention to all other points: P without its diagonal, for methods whose graph has no loops."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.classical.gaussian import distances, distances_resolvable, gaussian, power_of_two
from limelight.kernels.symmetric import SymmetricWeights
from limelight.mask import causal
from limelight.similarity import Euclidean

_SAFE = 1e-280  # degree down to which float64 keeps all digits of what it is a sum of
_STORED = 2000  # points up to which the matrix is stored, in 32 MB: below that a product with it is faster


class _Way(Protocol):
    """How P is applied."""

    log_degree: Float[Tensor, " n"]

    def apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]: ...

    def dense(self) -> Float[Tensor, "n n"] | None: ...


class OffDiagonalAttention:
    """P_ij ∝ exp −|x_i − x_j|²/2h² over j ≠ i, and the logarithm of its degrees, log Σ_{j≠i} exp −|x_i − x_j|²/2h².

    The weights themselves are applied, each to both of its points, and divided by their sums; for a few points
    they are stored. Where sums underflow, or a product is no distance (see `gaussian.py`), it is attention,
    whose sums are kept as logarithms: to the points before and to the points after, two causal ones joined by a sum of
    positive terms, since without its diagonal, a 1, a row may be 1e-400.
    """

    def __init__(self, X: Float[Tensor, "n d"], h: float) -> None:
        X = X.double()
        self._way = _fast(X, h) or _Sides(X, h)
        self.log_degree: Float[Tensor, " n"] = self._way.log_degree

    def __matmul__(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """P v; zero for a single point."""
        return self._way.apply(v)

    def dense(self) -> Float[Tensor, "n n"] | None:
        """P itself, as a new matrix, where its weights are stored, else None."""
        return self._way.dense()


def _fast(X: Float[Tensor, "n d"], h: float) -> _Way | None:
    """The weights applied as they are, where they are exact and no sum of them underflows."""
    exact, unit = distances_resolvable(X, X, h, X.dtype), power_of_two(h)
    if len(X) <= _STORED:
        way = _Divided(_stored(X / unit, h / unit, exact))
    elif exact:
        way = _Divided(SymmetricWeights(Euclidean().as_inner_product(X / unit, X / unit), (h / unit) ** -2))
    else:
        return None
    return None if bool((way.degree < _SAFE).any()) else way


def _stored(X: Float[Tensor, "n d"], h: float, exact: bool) -> Float[Tensor, "n n"]:
    """exp −|x_i − x_j|²/2h² without its diagonal."""
    if exact:
        centered = (X - X.mean(0)) / h
        norms = centered.square().sum(1, keepdim=True) / -2
        one = torch.ones_like(norms)
        scores = torch.cat([centered, norms, one], 1) @ torch.cat([centered, one, norms], 1).mT
        scores.clamp_(max=0)
    else:
        scores = distances(X, X).div_(h).square_().mul_(-0.5)
    return scores.exp_().fill_diagonal_(0)


class _Divided:
    def __init__(self, weights: Tensor | SymmetricWeights) -> None:
        self._weights = weights
        n = len(weights) if isinstance(weights, Tensor) else weights.size
        self.degree = (weights @ torch.ones(n, 1, dtype=torch.float64))[:, 0]
        self.log_degree = self.degree.log()

    def apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        product: Tensor = self._weights @ v
        return product / self.degree[:, None]

    def dense(self) -> Float[Tensor, "n n"] | None:
        return self._weights / self.degree[:, None] if isinstance(self._weights, Tensor) else None


class _Sides:
    def __init__(self, X: Float[Tensor, "n d"], h: float) -> None:
        self._n = len(X)
        self._sides = [gaussian(x[1:], x[:-1], h, mask=causal) for x in (X, X.flip(0))] if len(X) > 1 else []
        if not self._sides:
            self.log_degree = torch.full((self._n,), -math.inf, dtype=X.dtype)
            return
        before, after = (side.logsumexp() for side in self._sides)
        nobody = before.new_full((1,), -math.inf)
        self._log_sums = [torch.cat([nobody, before]), torch.cat([nobody, after]).flip(0)]
        self.log_degree = torch.logaddexp(*self._log_sums)

    def apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        if not self._sides:
            return torch.zeros_like(v)
        before, after = (side @ values[:-1] for side, values in zip(self._sides, (v, v.flip(0)), strict=True))
        nothing = torch.zeros_like(v[:1])
        lead = (self._log_sums[0] - self._log_sums[1])[:, None]  # 1 − σ(lead) would lose a share of 1e-20
        return lead.sigmoid() * torch.cat([nothing, before]) + (-lead).sigmoid() * torch.cat([nothing, after]).flip(0)

    def dense(self) -> None:
        return None
