"""Attention to all other points: P without its diagonal, for methods whose graph has no loops."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.mask import causal
from limelight.similarity import Euclidean

_SAFE = 1e-2  # degree down to which taking the diagonal off leaves 14 digits


class Others:
    """P_ij ∝ exp −|x_i − x_j|²/2h² over j ≠ i, and the logarithm of its degrees, log Σ_{j≠i} exp −|x_i − x_j|²/2h².

    Where every degree is large enough, the diagonal is taken off what attention to all points gives. Else that
    would cancel, since the diagonal is 1 and the rest of a row may be 1e-20: then it is attention to the points
    before and to the points after, two causal ones joined by a sum of positive terms.
    """

    def __init__(self, X: Float[Tensor, "n d"], h: float) -> None:
        everyone = Attention(X, X, Euclidean(h))
        log_sums = everyone.logsumexp()
        degree = log_sums.expm1()
        apart = bool((degree < _SAFE).any())
        self._way: _WithoutItself | _Sides = _Sides(X, h) if apart else _WithoutItself(everyone, log_sums)
        self.log_degree: Float[Tensor, " n"] = self._way.log_degree

    def __matmul__(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """P v; zero for a single point."""
        return self._way.apply(v)


class _WithoutItself:
    def __init__(self, everyone: Attention, log_sums: Float[Tensor, " n"]) -> None:
        self._everyone, self._own = everyone, (-log_sums).exp()[:, None]
        self.log_degree = log_sums.expm1().log()

    def apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return (self._everyone @ v - self._own * v) / (1 - self._own)


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
