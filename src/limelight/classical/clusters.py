"""Clusters around centres, which are attention between centres and points: k-means, soft k-means, fuzzy c-means.

All three repeat one step. Each point divides itself among the centres (a softmax over centres), and each centre
becomes the mean of what the points give to it (a mean over points).
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.centres import Centres, distances
from limelight.classical.points import bandwidth_for
from limelight.errors import InputError
from limelight.normalisation import Softmax, TopK
from limelight.similarity import Euclidean, Similarity, wide

_ON_THE_SPOT = 1000.0  # the score of a point that a centre lies on: above −log of every positive float64


class KMeans(Centres):
    """Each centre is the mean of the points nearest to it (Lloyd 1982): u_ik = 1 for the nearest centre k, else 0.

    Points attend to their nearest centre, `TopK(1)`; centres move by the transpose, c_k = Σ_i u_ik x_i / Σ_i u_ik. From
    the same `init` it ends where scikit-learn's `KMeans` ends. A point as near to two centres is shared by them; a
    centre that no point is nearest to moves to the point farthest from its own.

    n_clusters: 1 to n. init: "k-means++" (one start), or centres (n_clusters, d). It ends when the centres' squared
    moves sum to ≤ tol × the features' mean variance.

    Sets `cluster_centers_`, `labels_`, `inertia_` = Σ_i min_k |x_i − c_k|² and `n_iter_`. Warns where max_iter does
    not suffice and where fewer centres differ; raises ValueError for n_clusters > n.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        init: Any = "k-means++",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: int | None = None,
    ) -> None:
        self.n_clusters, self.init, self.max_iter = n_clusters, init, max_iter
        self.tol, self.random_state = tol, random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Move the centres until they rest on these points, X (n, d)."""
        super().fit(X)
        self.inertia_ = float((self.transform(X).min(1) ** 2).sum())
        return self

    def _memberships(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Attention:
        return Attention(X, centres, Euclidean(), TopK(1))

    def _step(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        sums = self._memberships(X, centres).T @ torch.cat([X, torch.ones_like(X[:, :1])], 1)
        mass = sums[:, -1]
        moved = sums[:, :-1] / mass.masked_fill(mass == 0, 1)[:, None]
        if bool((mass == 0).any()):
            own = distances(X, centres).amin(1)
            far = own.topk(int((mass == 0).sum())).indices
            moved[mass == 0] = torch.where(own[far, None] > 0, X[far], centres[mass == 0])
        return moved


class SoftKMeans(Centres):
    """u_ik ∝_k exp −|x_i − c_k|²/2h², c_k = Σ_i u_ik x_i / Σ_i u_ik: soft k-means (MacKay 2003, ch. 20).

    A step is doubly-normalised attention of the centres over the points: normalise over centres, then over points,
    which is `Softmax(alpha=1)`. h² is the temperature: as h → 0 it is k-means; where h² exceeds the points' largest
    variance all centres are one.

    n_clusters, init, max_iter and tol as `KMeans`. bandwidth h: None for the root mean squared distance, for each
    feature, of points from the nearest first centre. Sets `cluster_centers_`, `labels_`, `bandwidth_` and `n_iter_`;
    `predict_proba` is u. Warns and raises as `KMeans`, and `InputError` for a bandwidth that is not positive.
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

    def _prepare(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> None:
        if self.bandwidth is not None:
            self.bandwidth_ = bandwidth_for(self, X, self.bandwidth)
            return
        within = distances(X, centres).amin(1).double()
        self.bandwidth_ = float((within.square().mean() / X.shape[1]).sqrt()) or 1.0  # 0 where centres are the points

    def _memberships(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Attention:
        return Attention(X, centres, Euclidean(self.bandwidth_))

    def _step(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        return Attention(centres, X, Euclidean(self.bandwidth_), Softmax(alpha=1.0)) @ X


class FuzzyCMeans(Centres):
    """u_ik ∝_k |x_i − c_k|^{−2/(m−1)}, c_k = Σ_i u_ikᵐ x_i / Σ_i u_ikᵐ: fuzzy c-means (Bezdek 1981).

    The memberships are a softmax of −log|x − c|² at temperature m − 1: the similarity `LogDistance`. A point that
    centres lie on belongs to them alone.

    m > 1: near 1 memberships are those of k-means, large m makes them even. n_clusters, init, max_iter and tol as
    `KMeans`. Sets `cluster_centers_`, `labels_` and `n_iter_`; `predict_proba` is u. Warns and raises as `KMeans`, and
    `InputError` for m ≤ 1.
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

    def _prepare(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> None:
        LogDistance(self.m)

    def _memberships(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Attention:
        return Attention(X, centres, LogDistance(self.m))

    def _step(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        # uᵐ = exp m(s − L) is a softmax at m times the scale, times what that softmax divided by.
        powers = Attention(X, centres, LogDistance(self.m), scale=self.m / (self.m - 1))
        share = (powers.logsumexp() - self.m * self._memberships(X, centres).logsumexp()).exp()[:, None]
        sums = powers.T @ (share * torch.cat([X, torch.ones_like(X[:, :1])], 1)).to(X.dtype)
        mass = sums[:, -1:]  # zero where every point lies on another centre
        return torch.where(mass > 0, sums[:, :-1] / mass.masked_fill(mass == 0, 1), centres)


class LogDistance(Similarity):
    """β = −log|q − k|², scale 1/(m − 1): weights ∝ |q − k|^{−2/(m−1)}, the memberships of fuzzy c-means.

    Where q = k the weight is all but infinite, and shared by the keys that coincide. Raises `InputError` for m ≤ 1.
    """

    def __init__(self, m: float = 2.0) -> None:
        super().__init__()
        if isinstance(m, bool) or not isinstance(m, (int, float)) or not 1 < m < math.inf:
            raise InputError(f"fuzzy c-means expects m > 1, got m={m!r}")
        self.m = float(m)

    def default_scale(self, d: int) -> float:
        return 1 / (self.m - 1)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        apart = distances(wide(q), wide(k))
        return torch.where(apart == 0, _ON_THE_SPOT * max(1.0, self.m - 1), -2 * apart.log())

    def extra_repr(self) -> str:
        return f"m={self.m:g}"
