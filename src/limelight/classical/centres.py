"""What centres do that attend to points: start, step until they rest, tell whose a point is."""

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
from limelight.classical.parameters import require_tolerance, require_whole
from limelight.classical.points import as_tensor, points
from limelight.errors import InputError
from limelight.similarity import Euclidean


class Centres(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """What the three share: where centres start, when they have come to rest, whose a point is."""

    n_clusters: int
    init: Any
    max_iter: int
    tol: float
    random_state: int | None

    def fit(self, X: Any, y: Any = None) -> Self:
        """Move the centres until they rest on these points, X (n, d)."""
        X = points(self, X, reset=True)
        name = type(self).__name__
        require_whole(self, "max_iter", self.max_iter, 1)
        require_tolerance(self, "tol", self.tol)
        centres = self._start(X)
        self._prepare(X, centres)
        spread = float(X.double().var(0, correction=0).mean())
        self.n_iter_ = 0
        while self.n_iter_ < self.max_iter:
            self.n_iter_ += 1
            before, centres = centres, self._step(X, centres)
            shift = float((centres - before).double().square().sum())
            if shift <= self.tol * spread:
                break
        else:
            warnings.warn(
                f"{name} moved its centres by {math.sqrt(shift):.3g} in the last of {self.max_iter} steps; "
                "allow more steps (max_iter) or a larger tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.cluster_centers_ = centres.numpy()
        self.labels_ = self._labels(X)
        found = len(np.unique(self.cluster_centers_, axis=0))
        if found < self.n_clusters:
            warnings.warn(
                f"{name} found {found} different centres, fewer than n_clusters={self.n_clusters}: points coincide, "
                "or memberships are so even that centres do",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X: Any) -> Int[np.ndarray, " m"]:
        """The nearest centre of each point, X (m, d)."""
        check_is_fitted(self)
        return self._labels(points(self, X, reset=False))

    def predict_proba(self, X: Any) -> Float[np.ndarray, "m clusters"]:
        """How much of each point every centre has: rows sum to one."""
        check_is_fitted(self)
        X = points(self, X, reset=False)
        return self._memberships(X, as_tensor(self.cluster_centers_).to(X.dtype)).dense().numpy()

    def transform(self, X: Any) -> Float[np.ndarray, "m clusters"]:
        """The distance of each point from each centre."""
        check_is_fitted(self)
        X = points(self, X, reset=False)
        return distances(X, as_tensor(self.cluster_centers_).to(X.dtype)).numpy()

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _start(self, X: Float[Tensor, "n d"]) -> Float[Tensor, "clusters d"]:
        require_whole(self, "n_clusters", self.n_clusters, 1)
        name, shape = type(self).__name__, (self.n_clusters, X.shape[1])
        if self.n_clusters > len(X):
            raise ValueError(f"n_samples={len(X)} should be >= n_clusters={self.n_clusters}.")
        if isinstance(self.init, str):
            if self.init != "k-means++":
                raise InputError(f"{name}(init=…) expects 'k-means++' or an array {shape}, got {self.init!r}")
            random = check_random_state(self.random_state)
            return as_tensor(kmeans_plusplus(X.numpy(), self.n_clusters, random_state=random)[0])
        centres = np.array(self.init, dtype=X.numpy().dtype)
        if centres.shape != shape or not np.isfinite(centres).all():
            raise InputError(f"{name}(init=…) expects {shape} finite numbers, got shape {centres.shape}")
        return as_tensor(centres)

    def _labels(self, X: Float[Tensor, "n d"]) -> Int[np.ndarray, " n"]:
        return Attention(X, as_tensor(self.cluster_centers_).to(X.dtype), Euclidean()).strongest(1).keys[:, 0].numpy()

    def _prepare(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> None:
        """Check what is the method's own."""

    @abstractmethod
    def _memberships(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Attention:
        """u (n, k): points attend to centres."""

    @abstractmethod
    def _step(self, X: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        """Where the centres move."""


def distances(X: Float[Tensor, "*#batch n d"], Y: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
    """|x − y| by differences, which is zero where and only where they are equal."""
    return torch.cdist(X, Y, compute_mode="donot_use_mm_for_euclid_dist")
