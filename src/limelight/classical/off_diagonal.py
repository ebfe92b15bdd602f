"""Attention to all other points: P without its diagonal, for methods whose graph has no loops."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.classical.conjugate import WalkConjugate
from limelight.classical.gaussian import distances, distances_resolvable, gaussian, power_of_two
from limelight.kernels.symmetric import SymmetricWeights
from limelight.mask import causal
from limelight.similarity import Euclidean

_SAFE = 1e-280  # the least degree whose terms float64 still represents with all digits
_STORED = 2000  # for at most so many points the matrix is stored, in 32 MB, since a product with it is faster


class _Application(Protocol):
    """A way to apply P."""

    log_degree: Float[Tensor, " n"]

    def apply(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]: ...

    def dense(self) -> Float[Tensor, "n n"] | None: ...


class OffDiagonalAttention:
    """P_ij ∝ exp −|x_i − x_j|²/2h² over j ≠ i, and the logarithm of its degrees, log Σ_{j≠i} exp −|x_i − x_j|²/2h².

    A single point has the degree 0.
    """

    def __init__(self, X: Float[Tensor, "n d"], h: float) -> None:
        # If no degree underflows, the weights are applied without normalization and the result is divided by the
        # degrees (`_DividedByDegrees`). This is fast: no row needs its maximum, and weights that are not stored are
        # computed once for both of their points. Otherwise attention is used, whose sums are kept as logarithms
        # (`_TwoHalves`).
        X = X.double()
        self._application = _fast(X, h) or _TwoHalves(X, h)
        self.log_degree: Float[Tensor, " n"] = self._application.log_degree

    def __matmul__(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """P v; zero for a single point."""
        return self._application.apply(v)

    def conjugate(self) -> WalkConjugate:
        """The symmetric matrix of P."""
        return WalkConjugate(self._application.apply, self.log_degree, self._application.dense)


def _fast(X: Float[Tensor, "n d"], h: float) -> _Application | None:
    """P as weights divided by degrees; None if a degree underflows, or if many points need differences."""
    exact, unit = distances_resolvable(X, X, h, X.dtype), power_of_two(h)
    if len(X) <= _STORED:
        application = _DividedByDegrees(_stored(X / unit, h / unit, exact))
    elif exact:
        product = Euclidean().as_inner_product(X / unit, X / unit)
        application = _DividedByDegrees(SymmetricWeights(product, (h / unit) ** -2))
    else:
        return None
    return None if bool((application.degree < _SAFE).any()) else application


def _stored(X: Float[Tensor, "n d"], h: float, exact: bool) -> Float[Tensor, "n n"]:
    """exp −|x_i − x_j|²/2h² without its diagonal."""
    # −½|x − y|² = ⟨x, y⟩ − ½|x|² − ½|y|² is one product of matrices of the extended vectors (x, −½|x|², 1) and
    # (y, 1, −½|y|²), which is used if its rounding error is small (see `distances_resolvable`). Rounding may make it
    # slightly positive.
    if exact:
        centered = (X - X.mean(0)) / h
        norms = centered.square().sum(1, keepdim=True) / -2
        one = torch.ones_like(norms)
        scores = torch.cat([centered, norms, one], 1) @ torch.cat([centered, one, norms], 1).mT
        scores.clamp_(max=0)
    else:
        scores = distances(X, X).div_(h).square_().mul_(-0.5)
    return scores.exp_().fill_diagonal_(0)


class _DividedByDegrees:
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


class _TwoHalves:
    def __init__(self, X: Float[Tensor, "n d"], h: float) -> None:
        # Without its diagonal, which is 1, a row may sum to 1e-400, so the diagonal cannot be included and then
        # subtracted. A causal mask leaves it out: query i + 1 sees the keys up to i, and with the points in reverse
        # order it sees those after i + 1. The two have log-normalizers L and L′, and log(e^L + e^L′) is the logarithm
        # of the degree: a sum of positive terms, so that nothing cancels.
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
        # The two normalized halves are weighted by their shares of the degree, e^L/(e^L + e^L′) = σ(L − L′) and σ(L′ −
        # L).
        before, after = (side @ values[:-1] for side, values in zip(self._sides, (v, v.flip(0)), strict=True))
        nothing = torch.zeros_like(v[:1])
        lead = (self._log_sums[0] - self._log_sums[1])[:, None]  # 1 − σ(lead) would be 0 for a share of 1e-20
        return lead.sigmoid() * torch.cat([nothing, before]) + (-lead).sigmoid() * torch.cat([nothing, after]).flip(0)

    def dense(self) -> None:
        return None
