"""Clusters around centers, which are attention between centers and points: soft k-means and fuzzy c-means.

Both repeat one step. Each point divides itself among the centers (a softmax over centers), and each center
becomes the mean of what the points give to it (a mean over points).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.centers import Centers
from limelight.classical.gaussian import distances, gaussian
from limelight.classical.parameters import require_positive
from limelight.errors import InputError
from limelight.normalization import Softmax
from limelight.similarity import Similarity, upcast

_ON_THE_SPOT = 1000.0  # the score of a point on which a center lies: above −log of every positive float64


class SoftKMeans(Centers):
    """u_ik ∝_k exp −|x_i − c_k|²/2h², c_k = Σ_i u_ik x_i / Σ_i u_ik: soft k-means (MacKay 2003, ch. 20).

    A step is doubly-normalized attention of the centers over the points: normalize over centers, then over points,
    which is `Softmax(alpha=1)`. h² is the temperature: as h → 0 it is k-means; where h² exceeds the points' largest
    variance all centers are one.

    n_clusters: 1 to n. init: "k-means++", or centers (n_clusters, d). bandwidth h: None for the root mean squared
    distance, for each feature, of points from the nearest first center (where the first centers are all the points, a
    tenth of the least distance of two). It ends when the centers' squared moves sum to at most tol × the square of
    that distance.

    Sets `cluster_centers_`, `labels_` (the nearest center), `bandwidth_` and `n_iter_`; `predict_proba` is u, and
    `score` is Σ_i 2h² log Σ_k exp −|x_i − c_k|²/2h². Warns where max_iter does not suffice and where fewer centers
    differ; raises ValueError for n_clusters > n and `InputError` for a bandwidth that is not positive.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        bandwidth: float | None = None,
        init: Any = "k-means++",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: int | None = None,
    ) -> None:
        self.n_clusters, self.bandwidth, self.init, self.max_iter = n_clusters, bandwidth, init, max_iter
        self.tol, self.random_state = tol, random_state

    def _prepare(self, within: float) -> None:
        if self.bandwidth is not None:
            require_positive(self, "bandwidth", self.bandwidth, "a positive number or None")
            self.bandwidth_ = float(self.bandwidth)
        else:
            self.bandwidth_ = within * self._unit

    @property
    def _h(self) -> float:
        return self.bandwidth_ / self._unit

    def _memberships(self, X: Float[Tensor, "n d"], centers: Float[Tensor, "k d"]) -> Attention:
        return gaussian(X, centers, self._h)

    def _step(
        self, X: Float[Tensor, "n d"], centers: Float[Tensor, "k d"], w: Float[Tensor, " n"]
    ) -> Float[Tensor, "k d"]:
        # A softmax over centers makes u_ik, and division by Σ_i u_ik makes it weights over points. As attention of the
        # centers to the points this is exp(s_ki) divided by its column sums and then by its row sums, which is
        # `Softmax(alpha=1)`. The values (w x, w) give a weighted sum and the sum of weights that it is divided by.
        sums = gaussian(centers, X, self._h, Softmax(alpha=1.0)) @ (
            w[:, None] * torch.cat([X, torch.ones_like(X[:, :1])], 1)
        )
        mass = sums[:, -1:]  # zero where all the points that a center has are of weight zero
        return torch.where(mass > 0, sums[:, :-1] / mass.masked_fill(mass == 0, 1), centers)

    def _cost(self, X: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return -2 * self._h**2 * self._memberships(X, self._centers).logsumexp()


class FuzzyCMeans(Centers):
    """u_ik ∝_k |x_i − c_k|^{−2/(m−1)}, c_k = Σ_i u_ikᵐ x_i / Σ_i u_ikᵐ: fuzzy c-means (Bezdek 1981).

    The memberships are a softmax of −log|x − c|² at temperature m − 1: the similarity `LogDistance`. A point that
    centers lie on belongs to them alone.

    m > 1: near 1 memberships are those of k-means, large m makes them even. n_clusters, init, max_iter and tol as
    `SoftKMeans`. Sets `cluster_centers_`, `labels_` and `n_iter_`; `predict_proba` is u, and `score` is
    −Σ_ik u_ikᵐ|x_i − c_k|². Warns and raises as `SoftKMeans`, and `InputError` for m ≤ 1.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        m: float = 2.0,
        init: Any = "k-means++",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: int | None = None,
    ) -> None:
        self.n_clusters, self.m, self.init, self.max_iter = n_clusters, m, init, max_iter
        self.tol, self.random_state = tol, random_state

    def _prepare(self, within: float) -> None:
        LogDistance(self.m)

    def _memberships(self, X: Float[Tensor, "n d"], centers: Float[Tensor, "k d"]) -> Attention:
        return Attention(X, centers, LogDistance(self.m))

    def _step(
        self, X: Float[Tensor, "n d"], centers: Float[Tensor, "k d"], w: Float[Tensor, " n"]
    ) -> Float[Tensor, "k d"]:
        # With scores s and log-normalizer L, uᵐ = exp m(s − L). The softmax of m s is exp(m s − L_m), so that
        # uᵐ = exp(L_m − m L) times that softmax: a number for each point times an operator, which is then transposed to
        # sum over points.
        powers = Attention(X, centers, LogDistance(self.m), scale=self.m / (self.m - 1))
        share = (powers.logsumexp() - self.m * self._memberships(X, centers).logsumexp()).exp()
        sums = powers.T @ ((w * share)[:, None] * torch.cat([X, torch.ones_like(X[:, :1])], 1))
        mass = sums[:, -1:]  # zero where every point lies on another center
        return torch.where(mass > 0, sums[:, :-1] / mass.masked_fill(mass == 0, 1), centers)

    def _cost(self, X: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        u = self._memberships(X, self._centers).dense()
        return (u**self.m * distances(X, self._centers).square()).sum(1)


class LogDistance(Similarity):
    """β = −log|q − k|², scale 1/(m − 1): weights ∝ |q − k|^{−2/(m−1)}, the memberships of fuzzy c-means.

    Keys at q itself share all its weight, up to rounding. Raises `InputError` for m ≤ 1.
    """

    def __init__(self, m: float = 2.0) -> None:
        super().__init__()
        if isinstance(m, bool) or not isinstance(m, (int, float)) or not 1 < m < math.inf:
            raise InputError(f"fuzzy c-means expects m > 1, got m={m!r}")
        self.m = float(m)

    def default_scale(self, d: int) -> float:
        return 1 / (self.m - 1)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        # At distance 0 the score −2 log|q − k| would be ∞, and a softmax of it NaN. A finite score far above all others
        # gives the limit. A squared distance that is not 0 is at least the least positive float64, about e^{−744}, so
        # that no other score exceeds 744. The scale divides scores by m − 1, so where m − 1 > 1 this one is multiplied
        # by it first and stays far above.
        apart = distances(upcast(q), upcast(k))
        return torch.where(apart == 0, _ON_THE_SPOT * max(1.0, self.m - 1), -2 * apart.log())

    def extra_repr(self) -> str:
        return f"m={self.m:g}"
