"""The common part of soft k-means and fuzzy c-means: initial centers, convergence, and the center of each point."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.gaussian import distances, power_of_two
from limelight.classical.parameters import require_tolerance, require_whole
from limelight.classical.points import as_tensor, points, undisturbed
from limelight.classical.targets import weights_of
from limelight.errors import InputError


class Centers(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Base class: it initializes the centers, moves them until convergence, and assigns points to them.

    The result does not depend on the unit or the offset of the data. It is computed in float64 and returned in the
    units and the dtype of X.
    """

    n_clusters: int
    init: Any
    max_iter: int
    tol: float
    random_state: int | None

    @undisturbed
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Move the centers until convergence on these points, X (n, d), with weights `sample_weight` (n,)."""
        # Points are measured from their mean, in a unit near the largest coordinate, so that no square overflows or
        # underflows and steps do not depend on the units of X. Each step minimizes the cost over the memberships and
        # then over the centers, with the other fixed, so the cost never rises. The centers have converged when the sum
        # of their squared moves is at most tol times the mean squared distance, for each feature, from the first ones.
        given = points(self, X, reset=True)
        w = weights_of(self, sample_weight, given)
        w = w / w.max()  # only ratios count, and sums of these do not overflow
        name = type(self).__name__
        require_whole(self, "max_iter", self.max_iter, 1)
        require_tolerance(self, "tol", self.tol)
        self._origin = (w @ given.double()) / w.sum()
        self._unit = power_of_two(float((given.double() - self._origin).abs().max()) or 1.0)
        X = self._measured(given)
        centers = self._start(X, w)
        within = _within(X, centers, w)
        self._prepare(within)
        least = self.tol * within**2
        self.n_iter_ = 0
        while self.n_iter_ < self.max_iter:
            self.n_iter_ += 1
            before, centers = centers, self._step(X, centers, w)
            shift = float((centers - before).square().sum())
            if shift <= least or shift == 0:
                break
        else:
            warnings.warn(
                f"{name} moved its centers by {math.sqrt(shift) * self._unit:.3g} in the last of {self.max_iter} "
                "steps; allow more steps (max_iter) or a larger tol",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.cluster_centers_ = (centers * self._unit + self._origin).to(given.dtype).numpy()
        self._centers = centers
        self.labels_ = self._labels(X)
        found = len(np.unique(self.cluster_centers_, axis=0))
        if found < self.n_clusters:
            warnings.warn(
                f"{name} found {found} different centers, fewer than n_clusters={self.n_clusters}: points coincide, "
                "or memberships are so even that centers do",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    @undisturbed
    def predict(self, X: Any) -> Int[np.ndarray, " m"]:
        """The nearest center of each point, X (m, d); the first of those equally near."""
        return self._labels(self._asked(X)[0])

    @undisturbed
    def predict_proba(self, X: Any) -> Float[np.ndarray, "m clusters"]:
        """The membership of each point in each cluster, (m, clusters): rows sum to one."""
        asked, dtype = self._asked(X)
        return self._memberships(asked, self._centers).dense().to(dtype).numpy()

    @undisturbed
    def transform(self, X: Any) -> Float[np.ndarray, "m clusters"]:
        """The distance of each point from each center."""
        asked, dtype = self._asked(X)
        return (distances(asked, self._centers) * self._unit).to(dtype).numpy()

    @undisturbed
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the cost that the steps minimize; for h → 0 or m → 1 it is minus the inertia of k-means."""
        asked, _ = self._asked(X)
        w = weights_of(self, sample_weight, asked)
        return -float(w @ self._cost(asked)) * self._unit**2

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _asked(self, X: Any) -> tuple[Float[Tensor, "m d"], torch.dtype]:
        check_is_fitted(self)
        given = points(self, X, reset=False)
        return self._measured(given), given.dtype

    def _measured(self, X: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """X in float64, relative to the mean of the fitted points, in units of their size."""
        return (X.double() - self._origin) / self._unit

    def _start(self, X: Float[Tensor, "n d"], w: Float[Tensor, " n"]) -> Float[Tensor, "clusters d"]:
        require_whole(self, "n_clusters", self.n_clusters, 1)
        name, shape = type(self).__name__, (self.n_clusters, X.shape[1])
        if self.n_clusters > len(X):
            raise ValueError(f"n_samples={len(X)} should be >= n_clusters={self.n_clusters}.")
        if isinstance(self.init, str):
            if self.init != "k-means++":
                raise InputError(f"{name}(init=…) expects 'k-means++' or an array {shape}, got {self.init!r}")
            random = check_random_state(self.random_state)
            found = kmeans_plusplus(X.numpy(), self.n_clusters, sample_weight=w.numpy(), random_state=random)[0]
            return as_tensor(found)
        centers = np.array(self.init, dtype=np.float64)
        if centers.shape != shape or not np.isfinite(centers).all():
            raise InputError(f"{name}(init=…) expects {shape} finite numbers, got shape {centers.shape}")
        return self._measured(as_tensor(centers))

    def _labels(self, X: Float[Tensor, "n d"]) -> Int[np.ndarray, " n"]:
        # For two centers at the same distance `argmin` takes the first. Distances computed from differences are exactly
        # equal if the differences of coordinates are; with those computed from products, rounding would decide.
        labels: Int[np.ndarray, " n"] = distances(X, self._centers).argmin(1).numpy()
        return labels

    @abstractmethod
    def _prepare(self, within: float) -> None:
        """Check the method's parameters. `within` is the root mean squared distance from the nearest first center."""

    @abstractmethod
    def _memberships(self, X: Float[Tensor, "n d"], centers: Float[Tensor, "k d"]) -> Attention:
        """The memberships u (n, k), as attention of points to centers."""

    @abstractmethod
    def _step(
        self, X: Float[Tensor, "n d"], centers: Float[Tensor, "k d"], w: Float[Tensor, " n"]
    ) -> Float[Tensor, "k d"]:
        """The centers after one step."""

    @abstractmethod
    def _cost(self, X: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The contribution of each point to the cost that the steps minimize, in squared units."""


def _within(X: Float[Tensor, "n d"], centers: Float[Tensor, "k d"], w: Float[Tensor, " n"]) -> float:
    """The root mean squared distance, for each feature, from the nearest center; always positive."""
    # If every point is one of the first centers, it would be zero, which is not a valid bandwidth. Then it is a tenth
    # of the least positive distance of a point from a center: each center stays at its point, since exp(−10²/2) is
    # nearly 0. It is 1 if all points coincide.
    apart = distances(X, centers)
    mean = float((w @ apart.amin(1).square()) / (w.sum() * X.shape[1]))
    if mean > 0:
        return mean**0.5
    apart = apart[apart > 0]
    return float(apart.min()) / 10 if len(apart) else 1.0
