"""Kernel regression and classification: a weighted mean of what is known of the other points."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.points import (
    bandwidth_for,
    gaussian,
    points,
    warn_of_underflow,
)
from limelight.classical.targets import ClassMeans, TargetMeans
from limelight.errors import InputError
from limelight.similarity import Similarity


class _Smoother(BaseEstimator):  # type: ignore[misc]
    """What regression and classification share: P v for the weights of new points over those known."""

    def __init__(self, bandwidth: float | None = None, similarity: Similarity | None = None) -> None:
        self.bandwidth = bandwidth
        self.similarity = similarity

    def _keep(self, X: Float[Tensor, "n d"], v: Shaped[Tensor, "n e"]) -> Self:
        if self.similarity is None:
            self.bandwidth_ = bandwidth_for(self, X, self.bandwidth)
        elif not isinstance(self.similarity, Similarity):
            raise InputError(
                f"{type(self).__name__}(similarity=…) expects a limelight Similarity or None, got {self.similarity!r}"
            )
        elif self.bandwidth is not None:
            raise InputError(
                f"{type(self).__name__} takes a bandwidth or a similarity, which has its own; got "
                f"bandwidth={self.bandwidth!r} and similarity={self.similarity!r}"
            )
        self._X, self._v = X, v.to(X.dtype)
        return self

    @torch.no_grad()
    def _mean(self, X: Any) -> Float[Tensor, "queries e"]:
        """Σ_j softmax_j(s(x, x_j)) v_j for each row x of X."""
        Q = points(self, X, reset=False)
        if self.similarity is not None:
            return Attention(Q.to(self._X.dtype), self._X, self.similarity) @ self._v
        A = gaussian(self, Q, self._X, self.bandwidth_)
        mean, log_sums = A.weights().scores.reduce(self._v.to(A.q.dtype))  # both from one pass
        warn_of_underflow(self, log_sums, self._X, self.bandwidth_)
        return mean.to(Q.dtype)


class KernelRegressor(TargetMeans, _Smoother):
    """ŷ(x) = Σ_j softmax_j(−|x − x_j|²/2h²) y_j: the mean of what is known, near points counting more.

    Kernel regression (Nadaraya 1964; Watson 1964) is attention with the points as keys and what is known of
    them as values. `bandwidth` is h, by default the median distance between two points, which is smooth rather than
    sharp: choose it by cross-validation. Any limelight `similarity` may stand in for the Gaussian one.

    `fit(X, y)` takes X (n, d) and y (n,) or (n, targets); `predict` answers in the dtype of its X (float32 or
    float64), in memory linear in the number of points. Raises `InputError` for a bandwidth that is not positive or
    is too small for distances to be told apart, and warns where all weights of a point underflow: it then has
    the value of the nearest point.

    Attributes: `bandwidth_`, `n_features_in_`.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The median distance is a bandwidth that smooths: in ten dimensions it leaves little of a linear function.
        tags.regressor_tags.poor_score = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        return self._keep(*self._targets_of(X, y))


class KernelClassifier(ClassMeans, _Smoother):
    """P(c | x) = Σ_{j: y_j = c} softmax_j(−|x − x_j|²/2h²): each class's share of the weight.

    The Nadaraya–Watson mean of the classes' indicators, which is Bayes' rule with kernel density estimates of
    one bandwidth. Parameters, dtypes, errors and warnings are `KernelRegressor`'s.

    Attributes: `classes_`, `bandwidth_`, `n_features_in_`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        return self._keep(*self._classes_of(X, y))
