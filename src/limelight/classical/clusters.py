"""Soft k-means and fuzzy c-means, which are attention between centers and points.

Both repeat one step: a softmax over centers gives each point's membership in every cluster, and then each center
becomes the mean of all points, weighted by their membership in its cluster.
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

_ON_THE_SPOT = 1000.0  # the score of a point at a center: above −log of every positive float64


class SoftKMeans(Centers):
    """u_ik ∝_k exp −|x_i − c_k|²/2h², c_k = Σ_i u_ik x_i / Σ_i u_ik: soft k-means (MacKay 2003, ch. 20).

    A step is doubly-normalized attention of the centers over the points: normalize over centers, then over points,
    which is `Softmax(alpha=1)`. h² is the temperature: as h → 0 the method becomes k-means; if h² exceeds the points'
    largest variance, all centers coincide.

    n_clusters: 1 to n. init: "k-means++", or centers (n_clusters, d). bandwidth h: None for the root mean squared
    distance, for each feature, of points from the nearest first center (if every point is a first center, a tenth of
    the least distance between two points). The steps end when the centers' squared moves sum to at most tol × the
    square of that distance.

    Sets `cluster_centers_`, `labels_` (the nearest center), `bandwidth_` and `n_iter_`; `predict_proba` is u, and
    `score` is Σ_i 2h² log Σ_k exp −|x_i − c_k|²/2h². Warns if max_iter steps are not enough and if fewer than
    n_clusters centers are different. Raises ValueError for n_clusters > n and `InputError` for a bandwidth that is not
    positive.
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
        mass = sums[:, -1:]  # zero if all points of a cluster have weight zero
        return torch.where(mass > 0, sums[:, :-1] / mass.masked_fill(mass == 0, 1), centers)

    def _cost(self, X: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return -2 * self._h**2 * self._memberships(X, self._centers).logsumexp()


class FuzzyCMeans(Centers):
    """u_ik ∝_k |x_i − c_k|^{−2/(m−1)}, c_k = Σ_i u_ikᵐ x_i / Σ_i u_ikᵐ: fuzzy c-means (Bezdek 1981).

    The memberships are a softmax of −log|x − c|² at temperature m − 1: the similarity `LogDistance`. A point at which
    centers lie belongs to their clusters alone.

    m > 1: near 1 the memberships are those of k-means, and for large m they are equal. n_clusters, init, max_iter and
    tol are as in `SoftKMeans`. Sets `cluster_centers_`, `labels_` and `n_iter_`; `predict_proba` is u, and `score` is
    −Σ_ik u_ikᵐ|x_i − c_k|². Warns and raises as `SoftKMeans` does, and raises `InputError` for m ≤ 1.
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
        mass = sums[:, -1:]  # zero if every point is at another center
        return torch.where(mass > 0, sums[:, :-1] / mass.masked_fill(mass == 0, 1), centers)

    def _cost(self, X: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        u = self._memberships(X, self._centers).dense()
        return (u**self.m * distances(X, self._centers).square()).sum(1)


class LogDistance(Similarity):
    """β = −log|q − k|², scale 1/(m − 1): weights ∝ |q − k|^{−2/(m−1)}, the memberships of fuzzy c-means.

    Keys equal to q share all its weight, up to rounding. Raises `InputError` for m ≤ 1.
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
        # gives the limit. A positive squared distance is at least the least positive float64, about e^{−744}, so no
        # other score exceeds 744. The scale divides scores by m − 1, so if m − 1 > 1 this score is multiplied by it
        # first, and stays far above the others.
        apart = distances(upcast(q), upcast(k))
        return torch.where(apart == 0, _ON_THE_SPOT * max(1.0, self.m - 1), -2 * apart.log())

    def extra_repr(self) -> str:
        return f"m={self.m:g}"
