"""What is known of points, as values to take means of: classes as their indicators, numbers as columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from limelight.classical.points import as_tensor, points_and_targets


class ClassMeans(ClassifierMixin):  # type: ignore[misc]
    """P(c | x) as a mean of the indicators of the classes."""

    _mean: Callable[[Any], Tensor]  # of the indicators, (queries, c), for each row of X

    def _classes_of(self, X: Any, y: Any) -> tuple[Float[Tensor, "n d"], Int[Tensor, "n c"]]:
        """The points and the indicators of their classes, checked; sets `classes_`."""
        known, y = points_and_targets(self, X, y)
        check_classification_targets(y)
        self.classes_, members = np.unique(y, return_inverse=True)
        return known, torch.nn.functional.one_hot(as_tensor(members), len(self.classes_))

    def predict_proba(self, X: Any) -> np.ndarray:
        """P(c | x), (queries, classes), in the order of `classes_`."""
        check_is_fitted(self)
        return self._mean(X).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest share, the first of equal ones, (queries,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]


class TargetMeans(RegressorMixin):  # type: ignore[misc]
    """ŷ(x) as a mean of the targets, of which there may be several."""

    _mean: Callable[[Any], Tensor]  # of the targets, (queries, t), for each row of X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets_of(self, X: Any, y: Any) -> tuple[Float[Tensor, "n d"], Shaped[Tensor, "n t"]]:
        """The points and their targets, checked."""
        known, y = points_and_targets(self, X, y, multi_output=True, y_numeric=True)
        self._many = y.ndim == 2
        return known, as_tensor(y.reshape(len(y), -1))

    def predict(self, X: Any) -> np.ndarray:
        """ŷ (queries,) or (queries, targets)."""
        check_is_fitted(self)
        y = self._mean(X).numpy()
        return y if self._many else y[:, 0]
