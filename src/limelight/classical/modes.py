"""Mean shift and blurring mean shift, which find the maxima of the density: attention applied repeatedly."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from limelight.classical.gaussian import distances, distances_resolvable, gaussian, power_of_two
from limelight.classical.parameters import require_positive, require_whole
from limelight.classical.points import bandwidth_for, pair_distances, points, undisturbed

_SHARE = 0.05  # the mean weight of a pair of points under the default bandwidth
_HALVINGS = 40  # bisection steps that find the default bandwidth
_EVERY = 4  # after each such number of steps, points that have met are merged
_CELL = 0.01  # points within so many bandwidths count as having met


class _Modes(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    def __init__(self, bandwidth: float | None = None, *, max_iter: int = 300, tol: float = 1e-3) -> None:
        self.bandwidth = bandwidth
        self.max_iter = max_iter
        self.tol = tol

    def _prepare(self, X: Any) -> Float[Tensor, "n d"]:
        """The points, checked, relative to their mean and in units of the bandwidth (a power of two near it)."""
        require_whole(self, "max_iter", self.max_iter, 1)
        require_positive(self, "tol", self.tol)
        known = points(self, X, reset=True)
        given = bandwidth_of_share(known) if self.bandwidth is None else self.bandwidth
        self.bandwidth_ = bandwidth_for(self, known, given)
        self._middle, self._unit = known.double().mean(0), power_of_two(self.bandwidth_)
        return self._measured(known)

    def _measured(self, X: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return ((X.double() - self._middle) / self._unit).to(X.dtype)

    @property
    def _h(self) -> float:
        return self.bandwidth_ / self._unit

    def _finish(self, at: Float[Tensor, "n d"], keys: Float[Tensor, "n d"]) -> None:
        """Set the clusters of points that have converged to `at`, with the density of `keys`."""
        # Points do not reach a mode exactly, and on a flat maximum they stop at many places. The places are therefore
        # sorted by density, and one that is nearer than h to a denser center belongs to that center's mode.
        places = torch.unique(at, dim=0)
        density = gaussian(places, keys, self._h).logsumexp()
        self._centers = _separated(places, density, self._h)
        self.cluster_centers_ = (self._centers.double() * self._unit + self._middle).to(at.dtype).numpy()
        self.labels_ = _nearest(at, self._centers).numpy()

    def _warn(self, moving: int) -> None:
        if moving:
            told = f"{type(self).__name__}: {moving} points still move after max_iter={self.max_iter} steps."
            warnings.warn(told, ConvergenceWarning, stacklevel=4)


class MeanShift(_Modes):
    """x ← Σ_j P(x, x_j) x_j, P(x, ·) = softmax(−|x − x_j|²/2h²), until convergence: each point climbs to a mode.

    Gaussian mean shift (Fukunaga & Hostetler 1975; Cheng 1995): attention whose queries are replaced by its outputs.
    A step is along the gradient of the log of the kernel density estimate. A point has converged when a step is
    shorter than `tol`·h, and modes nearer than h to a denser one are merged with it. `predict` moves new
    points in the same way, so points are clustered by basin, not by distance to the center.

    `bandwidth` h; with None it is the h for which the mean of exp −|x_i − x_j|²/2h² over pairs of different points (of
    at most 1000 points, the same for every order of them) is 1/20. scikit-learn's `MeanShift(bandwidth=R)` gives all
    points in a ball the same weight; `bandwidth` here is the standard deviation of a Gaussian. The two smooth equally
    for h = R/√(d + 2).

    Points that meet in one cell of a grid, a hundredth of h wide, continue as one (Carreira-Perpiñán 2006). Points in
    float64 are moved in float32 if that is accurate enough; the last steps are in the dtype of X.

    Attributes: `cluster_centers_` (clusters, d), densest first, `labels_` (n,), `n_iter_`, `bandwidth_`,
    `n_features_in_`. Raises `InputError` for parameters out of range; warns (`ConvergenceWarning`) if
    points still move after `max_iter` steps.
    """

    @undisturbed
    def fit(self, X: Any, y: Any = None) -> Self:
        self._X = self._prepare(X)
        at, self.n_iter_, moving = self._climb(self._X)
        self._finish(at, self._X)
        self._warn(moving)
        return self

    @undisturbed
    def predict(self, X: Any) -> np.ndarray:
        """The cluster of the mode that each point climbs to, (queries,)."""
        check_is_fitted(self)
        at, _, moving = self._climb(self._measured(points(self, X, reset=False).to(self._X.dtype)))
        self._warn(moving)
        return _nearest(at, self._centers).numpy()

    def _climb(self, Q: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], int, int]:
        """The positions after convergence, the number of steps, and the number of points that still move."""
        # P(x, ·) X − x = h² ∇ log p(x), where p is the kernel density estimate: a step is along the gradient, its
        # length needs no choice, and it never lowers p (Comaniciu & Meer 2002). Three things make it fast. Points that
        # have converged are left out. Those that have met continue as one, their `leader`. And if float32 is accurate
        # enough, they are moved in it until convergence, and then in their own dtype.
        at, leader, steps = Q.clone(), torch.arange(len(Q)), 0
        # Rounding of at most 1e-3 fine² in |x − x_j|², with fine² = 100 tol h², is 0.1 tol of h², which changes a step
        # by about a tenth of the length tol·h at which a point has converged.
        fine = self._h * (100 * self.tol) ** 0.5
        first = [torch.float32] * (Q.dtype == torch.float64 and distances_resolvable(at, self._X, fine, torch.float32))
        for dtype in [*first, Q.dtype]:
            keys, moving = self._X.to(dtype), leader.unique()
            while len(moving) and steps < self.max_iter - (dtype != Q.dtype):
                before = at[moving].to(dtype)
                A = gaussian(before, keys, self._h)
                after = (A @ keys.to(A.q.dtype)).to(dtype)
                at[moving], steps = after.to(Q.dtype), steps + 1
                moving = moving[(after - before).norm(dim=1) > self.tol * self._h]
                if len(moving) and steps % _EVERY == 0:
                    moving, leader = _merged(at, moving, leader, _CELL * self._h)
        return at[leader], steps, int(torch.isin(leader, moving).sum())


class BlurringMeanShift(_Modes):
    """X ← P(X) X, P = softmax(−|x_i − x_j|²/2h²): Euclidean attention with Q = K = V, applied repeatedly.

    Blurring mean shift (Fukunaga & Hostetler 1975; Carreira-Perpiñán 2006): the points climb the density of
    their present positions, until the mean step is shorter than `tol`·h. Parameters, default bandwidth, attributes and
    warnings are those of `MeanShift`. The density changes with the points, so there is no `predict` for new points.
    """

    @undisturbed
    def fit(self, X: Any, y: Any = None) -> Self:
        # A Gaussian cluster of deviation s keeps its shape and shrinks to s³/(s² + h²) in each step: once s is smaller
        # than h, it collapses cubically (Carreira-Perpiñán 2006). Clusters that have collapsed still give each other a
        # small weight exp(−D²/2h²), and after very many steps all would meet in one point. So the steps end as soon as
        # the mean step is short, in the long time between the two.
        at = self._prepare(X)
        for step_number in range(1, self.max_iter + 1):
            self.n_iter_ = step_number
            A = gaussian(at, at, self._h)
            before, at = at, (A @ at.to(A.q.dtype)).to(at.dtype)
            step = (at - before).norm(dim=1)
            settled = bool(step.mean() <= self.tol * self._h)
            if settled:
                break
        self._finish(at, at)
        self._warn(0 if settled else int((step > self.tol * self._h).sum()))
        return self


def bandwidth_of_share(X: Float[Tensor, "n d"], share: float = _SHARE) -> float | None:
    """The h for which the mean of exp −|x_i − x_j|²/2h² over different points is `share`; None if all coincide."""
    # The mean grows with h, from 0 to 1, so bisection of log h finds it. Distances are divided by their median before,
    # so that one interval serves every unit. For Gaussian points of deviation σ in d dimensions the mean is
    # (1 + 2σ²/h²)^{−d/2}. It is 1/20 for an h that grows with d, about σ √(d/3) for large d: the estimate stays
    # smooth even if all distances are similar.
    apart = pair_distances(X)
    if not len(apart):
        return None
    unit = float(apart.median())
    halves = (apart / unit).square() / 2
    low, high = -30.0, 30.0  # of log h in this unit
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        more = float((-halves * math.exp(-2 * middle)).exp().mean()) > share
        low, high = (low, middle) if more else (middle, high)
    return unit * math.exp(high)


def _merged(
    at: Float[Tensor, "n d"], moving: Int[Tensor, " m"], leader: Int[Tensor, " n"], cell: float
) -> tuple[Int[Tensor, " fewer"], Int[Tensor, " n"]]:
    """The points that still move, one for each cell of a grid, and for every point the leader that it follows."""
    # A grid finds points that have met in a time linear in their number; comparing distances would take quadratic time.
    # Two points on both sides of a border are not merged, which only costs time. The first point of a cell is the
    # leader. `lead[leader]` follows one more link: points whose leader now has a leader follow that one.
    cells, which = torch.unique((at[moving] / cell).round(), dim=0, return_inverse=True)
    first = torch.full((len(cells),), len(moving)).scatter_reduce(0, which, torch.arange(len(moving)), "amin")
    lead = torch.arange(len(at))
    lead[moving] = moving[first[which]]
    return moving[first], lead[leader]


def _separated(at: Float[Tensor, "n d"], density: Float[Tensor, " n"], h: float) -> Float[Tensor, "clusters d"]:
    """The densest point, then the densest that is at least h away from those before, and so on."""
    order = density.argsort(descending=True, stable=True)
    left, centers = at[order], []
    while len(left):
        centers.append(left[0])
        left = left[1:][(left[1:].double() - left[0].double()).norm(dim=1) >= h]
    return torch.stack(centers)


def _nearest(at: Float[Tensor, "n d"], centers: Float[Tensor, "c d"]) -> Int[Tensor, " n"]:
    """The index of the nearest center, the first of several, from differences of coordinates, some rows at a time."""
    rows = max(1, 2**22 // len(centers))
    return torch.cat([distances(some.double(), centers.double()).argmin(1) for some in at.split(rows)])
