"""k nearest neighbours: attention with all weight on the k largest scores, shared equally."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.parameters import require_whole
from limelight.classical.points import as_tensor, points, points_and_targets
from limelight.errors import InputError
from limelight.similarity import Euclidean


class _Neighbours(BaseEstimator):  # type: ignore[misc]
    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    @torch.no_grad()
    def _mean(self, X: Any, v: Float[Tensor, "n e"]) -> Float[Tensor, "queries e"]:
        """The mean of v over the k points nearest to each row of X, in the dtype of X."""
        Q = points(self, X, reset=False)
        known = len(self._X)
        if self.n_neighbors > known:
            raise InputError(
                f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {self.n_neighbors}, "
                f"n_samples_fit = {known}, n_samples = {len(Q)}"
            )
        return v[_nearest(Q.double(), self._X, int(self.n_neighbors))].mean(1).to(Q.dtype)


class KNeighborsRegressor(RegressorMixin, _Neighbours):  # type: ignore[misc]
    """ŷ(x) = (1/k) Σ y_j over the k points x_j nearest to x: the values of the k strongest keys, with equal weights.

    Fix & Hodges (1951), as scikit-learn's `KNeighborsRegressor(weights="uniform")`: the same neighbours, but where
    two are equally far either may be taken. Top-k attention keeps the order of the scores and lets go of their
    sizes; neighbours are found a few queries at a time, in memory linear in the points, and in float64. `fit` takes
    X (n, d) and y (n,) or (n, targets); `predict` answers in the dtype of its X. Raises `InputError` for a number of
    neighbours below one, and at `predict` for more than there are points.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        require_whole(self, "n_neighbors", self.n_neighbors, 1)
        known, y = points_and_targets(self, X, y, multi_output=True, y_numeric=True)
        self._X, self._many = known.double(), y.ndim == 2
        self._y = as_tensor(y.reshape(len(y), -1)).double()
        return self

    def predict(self, X: Any) -> np.ndarray:
        """ŷ (queries,) or (queries, targets)."""
        check_is_fitted(self)
        y = self._mean(X, self._y).numpy()
        return y if self._many else y[:, 0]


class KNeighborsClassifier(ClassifierMixin, _Neighbours):  # type: ignore[misc]
    """P(c | x): the share of class c among the k points nearest to x.

    As scikit-learn's `KNeighborsClassifier(weights="uniform")`; the first of equal classes is predicted. What holds
    of ties, dtypes and errors is said at `KNeighborsRegressor`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        require_whole(self, "n_neighbors", self.n_neighbors, 1)
        known, y = points_and_targets(self, X, y)
        check_classification_targets(y)
        self.classes_, members = np.unique(y, return_inverse=True)
        self._X = known.double()
        self._members = torch.nn.functional.one_hot(as_tensor(members), len(self.classes_)).double()
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """P(c | x), (queries, classes), in the order of `classes_`."""
        check_is_fitted(self)
        return self._mean(X, self._members).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The class that most neighbours have, (queries,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]


def _nearest(Q: Float[Tensor, "n d"], X: Float[Tensor, "m d"], k: int) -> Int[Tensor, "n k"]:
    """The k strongest keys, for scores of no less than −2, so that none has no weight and only their order counts."""
    middle = X.mean(0)
    far = max(float((points - middle).norm(dim=1).max()) for points in (Q, X))
    return Attention(Q, X, Euclidean(), scale=1 / far**2 if far else 1.0).strongest(k).keys
