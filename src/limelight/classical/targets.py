"""Targets as values to average: classes as their indicators, numbers as columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from limelight.classical.points import as_tensor, points_and_targets, undisturbed
from limelight.errors import InputError


def weights_of(estimator: Any, sample_weight: Any, X: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The weight of each point, in float64: ones for None, otherwise checked as scikit-learn checks them.

    Raises `InputError` for a negative weight, and if all are zero.
    """
    if sample_weight is None:
        return torch.ones(len(X), dtype=torch.float64)
    if isinstance(sample_weight, (int, float, np.number)):
        sample_weight = np.full(len(X), sample_weight)
    w = as_tensor(check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"))
    if w.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if len(w) != len(X):
        raise ValueError(f"sample_weight.shape == {tuple(w.shape)}, expected {(len(X),)}!")
    if float(w.min()) < 0 or float(w.max()) == 0:
        raise InputError(
            f"{type(estimator).__name__} expects sample_weight ≥ 0, not all of them zero, got {float(w.min()):g} "
            f"to {float(w.max()):g}"
        )
    return w


class ClassMeans(ClassifierMixin):  # type: ignore[misc]
    """P(c | x) as a mean of the indicators of the classes."""

    _mean: Callable[[Any], Tensor]  # the means of the indicators for each row of X, (queries, c)

    def _classes_of(self, X: Any, y: Any) -> tuple[Float[Tensor, "n d"], Int[Tensor, "n c"]]:
        """The points and the indicators of their classes, checked; sets `classes_`."""
        known, y = points_and_targets(self, X, y)
        check_classification_targets(y)
        self.classes_, members = np.unique(y, return_inverse=True)
        return known, torch.nn.functional.one_hot(as_tensor(members), len(self.classes_))

    @undisturbed
    def predict_proba(self, X: Any) -> np.ndarray:
        """P(c | x), (queries, classes), in the order of `classes_`."""
        check_is_fitted(self)
        return self._mean(X).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest probability, the first of equal ones, (queries,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]


class TargetMeans(RegressorMixin):  # type: ignore[misc]
    """ŷ(x) as a mean of the targets, of which there may be several."""

    _mean: Callable[[Any], Tensor]  # the means of the targets for each row of X, (queries, t)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets_of(self, X: Any, y: Any) -> tuple[Float[Tensor, "n d"], Shaped[Tensor, "n t"]]:
        """The points and their targets, checked."""
        known, y = points_and_targets(self, X, y, multi_output=True, y_numeric=True)
        self._many = y.ndim == 2
        return known, as_tensor(y.reshape(len(y), -1))

    @undisturbed
    def predict(self, X: Any) -> np.ndarray:
        """ŷ (queries,) or (queries, targets)."""
        check_is_fitted(self)
        y = self._mean(X).numpy()
        return y if self._many else y[:, 0]
