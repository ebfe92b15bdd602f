"""k nearest neighbours: attention with all weight on the k largest scores, shared equally."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.parameters import require_whole
from limelight.classical.points import points
from limelight.classical.targets import ClassMeans, TargetMeans
from limelight.errors import InputError
from limelight.similarity import Euclidean


class _Neighbours(BaseEstimator):  # type: ignore[misc]
    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    @torch.no_grad()
    def _mean(self, X: Any) -> Float[Tensor, "queries e"]:
        """The mean of what is known of the k points nearest to each row of X, in the dtype of X."""
        Q = points(self, X, reset=False)
        known = len(self._X)
        if self.n_neighbors > known:
            raise InputError(
                f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {self.n_neighbors}, "
                f"n_samples_fit = {known}, n_samples = {len(Q)}"
            )
        return self._v[_nearest(Q.double(), self._X, int(self.n_neighbors))].mean(1).to(Q.dtype)


class KNeighborsRegressor(TargetMeans, _Neighbours):
    """ŷ(x) = (1/k) Σ y_j over the k points x_j nearest to x: the values of the k strongest keys, with equal weights.

    Fix & Hodges (1951), as scikit-learn's `KNeighborsRegressor(weights="uniform")`: the same neighbours, but where
    two are equally far either may be taken. Top-k attention keeps the order of the scores and lets go of their
    sizes; neighbours are found a few queries at a time, in memory linear in the points, and in float64. `fit` takes
    X (n, d) and y (n,) or (n, targets); `predict` answers in the dtype of its X. Raises `InputError` for a number of
    neighbours below one, and at `predict` for more than there are points.
    """

    def fit(self, X: Any, y: Any) -> Self:
        require_whole(self, "n_neighbors", self.n_neighbors, 1)
        known, targets = self._targets_of(X, y)
        self._X, self._v = known.double(), targets.double()
        return self


class KNeighborsClassifier(ClassMeans, _Neighbours):
    """P(c | x): the share of class c among the k points nearest to x.

    As scikit-learn's `KNeighborsClassifier(weights="uniform")`; the first of equal classes is predicted. What holds
    of ties, dtypes and errors is said at `KNeighborsRegressor`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        require_whole(self, "n_neighbors", self.n_neighbors, 1)
        known, members = self._classes_of(X, y)
        self._X, self._v = known.double(), members.double()
        return self


def _nearest(Q: Float[Tensor, "n d"], X: Float[Tensor, "m d"], k: int) -> Int[Tensor, "n k"]:
    """The k strongest keys, for scores of no less than −2, so that none has no weight and only their order counts."""
    middle = X.mean(0)
    far = max(float((points - middle).norm(dim=1).max()) for points in (Q, X))
    return Attention(Q, X, Euclidean(), scale=1 / far**2 if far else 1.0).strongest(k).keys
