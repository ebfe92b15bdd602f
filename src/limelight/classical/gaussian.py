"""Attention with a Gaussian, P_ij = softmax_j(−|q_i − x_j|²/2h²), accurate for any unit, offset and outliers."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.points import median_distance
from limelight.mask import Mask
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Euclidean, Similarity, upcast

_ROUNDING = {
    torch.float32: 1e-3,
    torch.float64: 1e-7,
}  # the largest accepted error of |q − x|²/h² computed from products


class Differences(Similarity):
    """β = −½|q − k|², scale 1/h², as `Euclidean`, each distance computed from the differences of coordinates."""

    def __init__(self, bandwidth: float = 1.0) -> None:
        super().__init__()
        self.bandwidth = bandwidth

    def default_scale(self, d: int) -> float:
        return self.bandwidth**-2

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return -0.5 * distances(upcast(q), upcast(k)).square()

    def extra_repr(self) -> str:
        return f"bandwidth={self.bandwidth}"


def distances(X: Float[Tensor, "*#batch n d"], Y: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
    """|x − y| computed from differences, so that it is zero if and only if x = y."""
    return torch.cdist(X, Y, compute_mode="donot_use_mm_for_euclid_dist")


def gaussian(
    Q: Float[Tensor, "n d"],
    X: Float[Tensor, "m d"],
    h: float,
    normalization: Normalization = Softmax(),
    mask: Mask | None = None,
) -> Attention:
    """P_ij = softmax_j(−|q_i − x_j|²/2h²), in the dtype of the points, or in float64 if that is not accurate enough."""
    # |q − x|² = |q|² + |x|² − 2⟨q, x⟩ is fast, because it is a product of matrices. But if points are far from the
    # mean, it is a small difference of large numbers, of which only rounding errors may be left. So the product is used
    # if its rounding error is small compared with h², first in the dtype of the points and then in float64; otherwise
    # each distance is computed from the differences of coordinates, which takes more time.
    if Q.dtype != X.dtype or not distances_resolvable(Q, X, h, X.dtype):
        Q, X = Q.double(), X.double()
    exact = distances_resolvable(Q, X, h, X.dtype)
    # In units of about h, squares of very small or very large numbers neither underflow nor overflow.
    unit = power_of_two(h)
    Q, X, h = Q / unit, X / unit, h / unit
    return Attention(Q, X, Euclidean(h) if exact else Differences(h), normalization, mask)


def power_of_two(h: float) -> float:
    """The power of two nearest to h: in this unit the bandwidth is near 1, and dividing by it is exact."""
    return 2.0 ** min(max(round(math.log2(h)), -1000), 1000)


def distances_resolvable(Q: Float[Tensor, "n d"], X: Float[Tensor, "m d"], h: float, dtype: torch.dtype) -> bool:
    """True if the rounding error of |q − x|², computed from inner products in this dtype, is small compared with h²."""
    # With q̄ and x̄ measured from the mean of X, rounding changes |q − x|² = |q̄|² + |x̄|² − 2⟨q̄, x̄⟩ by up to a few
    # times eps (|q̄| |x̄| + |q − x|²); |q̄|² is the same for all keys and cancels in the softmax. The second part is a
    # relative error of the distance, which any method has. The first, for the most distant points, must be small
    # compared with h²: half of its ratio to h² is the relative error of a weight exp(−|q − x|²/2h²).
    return bool(reach(Q, X) * reach(X, X) * torch.finfo(dtype).eps <= _ROUNDING[dtype] * h * h)


def reach(Q: Float[Tensor, "n d"], X: Float[Tensor, "m d"]) -> float:
    """The largest distance of a point of Q from the mean of X."""
    return float((Q.double() - X.double().mean(0)).norm(dim=1).max())


def warn_of_underflow(
    estimator: BaseEstimator, log_sums: Float[Tensor, " n"], X: Float[Tensor, "m d"], h: float
) -> None:
    """Warn if all exp −|q − x|²/2h² of a query underflow in this dtype, so that only the nearest point counts."""
    lost = int((log_sums < math.log(torch.finfo(log_sums.dtype).tiny)).sum())
    if lost:
        warnings.warn(
            f"{type(estimator).__name__}: the bandwidth {h:.3g} is so small that every weight of {lost} of "
            f"{len(log_sums)} points underflows; theirs is the answer of the nearest point. The median distance is "
            f"{median_distance(X):.3g}: try a bandwidth near that.",
            stacklevel=4,
        )
