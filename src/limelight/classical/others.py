"""Attention to all other points: P without its diagonal, for methods whose graph has no loops."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.kernels.symmetric import SymmetricWeights
from limelight.mask import causal
from limelight.similarity import Euclidean

_SAFE = 1e-280  # degree down to which float64 keeps all digits of what it is a sum of


class Others:
    """P_ij ∝ exp −|x_i − x_j|²/2h² over j ≠ i, and the logarithm of its degrees, log Σ_{j≠i} exp −|x_i − x_j|²/2h².

    The weights themselves are applied, each to both of its points, and divided by their sums. Where these
    underflow, it is attention, whose sums are kept as logarithms: to the points before and to the points after, two
    causal ones joined by a sum of positive terms, since without its diagonal, a 1, a row may be 1e-400.
    """

    def __init__(self, X: Float[Tensor, "n d"], h: float) -> None:
        together = _Together(X.double(), h)
        lost = bool((together.degree < _SAFE).any())
        self._way: _Together | _Sides = _Sides(X, h) if lost else together
        self.log_degree: Float[Tensor, " n"] = self._way.log_degree

    def __matmul__(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """P v; zero for a single point."""
        return self._way.apply(v)


class _Together:
    def __init__(self, X: Float[Tensor, "n d"], h: float) -> None:
        self._weights = SymmetricWeights(Euclidean().factor(X, X), h**-2)
        self.degree = (self._weights @ X.new_ones(len(X), 1))[:, 0]

    @property
    def log_degree(self) -> Float[Tensor, " n"]:
        return self.degree.log()

    def apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return (self._weights @ v) / self.degree[:, None]


class _Sides:
    def __init__(self, X: Float[Tensor, "n d"], h: float) -> None:
        self._n, turned = len(X), X.flip(0)
        self._sides = [Attention(x[1:], x[:-1], Euclidean(h), mask=causal) for x in (X, turned)] if len(X) > 1 else []
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
