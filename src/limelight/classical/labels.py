"""Labels for points that have none: label propagation and label spreading, on a graph that is never stored."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.others import Others
from limelight.classical.parameters import require_whole
from limelight.classical.points import (
    gaussian,
    points,
    points_and_targets,
    require_positive,
    require_told_apart,
)
from limelight.errors import InputError
from limelight.similarity import Euclidean

_Step = Callable[[Float[Tensor, "n c"]], Float[Tensor, "n c"]]


class _Labels(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """F ← step(F) until Σ|ΔF| < tol, F (n, classes) the share of each class in each point; −1 in y means no label."""

    gamma: float
    max_iter: int
    tol: float

    @abstractmethod
    def _step(self, X: Float[Tensor, "n d"], known: Float[Tensor, "n c"], labelled: Bool[Tensor, "n 1"]) -> _Step:
        """What is done again and again, for points X with the labels `known` (zero where there is none)."""

    def _check(self) -> None:
        require_positive(self, "gamma", self.gamma)
        require_whole(self, "max_iter", self.max_iter, 1)
        if isinstance(self.tol, bool) or not isinstance(self.tol, (int, float, np.number)) or not self.tol >= 0:
            raise InputError(f"{type(self).__name__}(tol=…) expects a number ≥ 0, got {self.tol!r}")

    @torch.no_grad()
    def fit(self, X: Any, y: Any) -> Self:
        """X (n, d) and y (n,), −1 for points without a label.

        Raises `InputError` where no point has a label, and warns where `max_iter` steps were too few and where no
        label reached a point: its distribution is zero, and it stays −1 in `transduction_`.
        """
        self._check()
        given, y = points_and_targets(self, X, y)
        check_classification_targets(y)
        unlabelled = y == -1
        if unlabelled.all():
            raise InputError(f"{type(self).__name__} expects at least one labelled point; all {len(y)} labels are −1")
        self.classes_ = np.unique(y[~unlabelled])
        self._X, self._dtype = given.double(), given.dtype
        self._h = 1 / math.sqrt(2 * self.gamma)
        told = f"h = 1/√(2γ) for {type(self).__name__}(gamma={self.gamma:g})"
        require_told_apart(self._X, self._X, self._h, told, "a gamma of 1/2h² with h near that")
        known = torch.from_numpy((y[:, None] == self.classes_).astype(np.float64))
        self._F = self._settle(known, self._step(self._X, known, torch.from_numpy(~unlabelled)[:, None]))
        self.label_distributions_ = self._F.to(self._dtype).numpy()
        self.transduction_ = self._classes_of(self._F, "of the points to be labelled", y)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Σ_j softmax_j(−γ|x − x_j|²) F_j over its sum, (queries, classes); zero where that is zero."""
        return self._shares(X).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest share; −1, with a warning, where no class has any."""
        return self._classes_of(self._shares(X), "of the points asked about", self.classes_)

    @torch.no_grad()
    def _shares(self, X: Any) -> Float[Tensor, "queries c"]:
        check_is_fitted(self)
        Q = points(self, X, reset=False)
        return _normalised(gaussian(self, Q.double(), self._X, self._h) @ self._F).to(Q.dtype)

    def _settle(self, F: Float[Tensor, "n c"], step: _Step) -> Float[Tensor, "n c"]:
        before, self.n_iter_ = torch.zeros_like(F), 0
        while float((F - before).abs().sum()) >= self.tol:  # counted and compared as scikit-learn does
            if self.n_iter_ == self.max_iter:
                told = f"max_iter={self.max_iter} was reached without convergence."
                warnings.warn(told, ConvergenceWarning, stacklevel=3)
                break
            before, F = F, step(F)
            self.n_iter_ += 1
        return _normalised(F)

    def _classes_of(self, F: Float[Tensor, "n c"], whose: str, like: np.ndarray) -> np.ndarray:
        classes = self.classes_[F.argmax(1).numpy()].astype(like.dtype, copy=False)
        unreached = (F.sum(1) == 0).numpy()
        if unreached.any():
            classes[unreached] = -1
            warnings.warn(
                f"{type(self).__name__}: no label reaches {unreached.sum()} {whose}: every weight "
                f"exp(−γ|x − y|²) towards one underflows. They stay −1; try a smaller gamma than {self.gamma:g}, or "
                "scale the features.",
                stacklevel=3,
            )
        return classes


class LabelPropagation(_Labels):
    """F ← P F, P_ij = softmax_j(−γ|x_i − x_j|²), rows divided by their sums and labelled points put back.

    Zhu & Ghahramani (2002), as scikit-learn's `LabelPropagation(kernel="rbf")`: the same steps, the same answer to
    rounding, without the n×n graph. `gamma` is 1/2h² of a Gaussian of bandwidth h. Computed in float64;
    distributions have the dtype of X.

    Attributes: `classes_`, `label_distributions_` (n, classes), `transduction_` (n,), `n_iter_`, `n_features_in_`.
    """

    def __init__(self, gamma: float = 20, *, max_iter: int = 1000, tol: float = 1e-3) -> None:
        self.gamma = gamma
        self.max_iter = max_iter
        self.tol = tol

    def _step(self, X: Float[Tensor, "n d"], known: Float[Tensor, "n c"], labelled: Bool[Tensor, "n 1"]) -> _Step:
        P = Attention(X, X, Euclidean(self._h))
        return lambda F: torch.where(labelled, known, _normalised(P @ F))


class LabelSpreading(_Labels):
    """F ← α S F + (1 − α) Y, S = D^{−1/2} W D^{−1/2}, W_ij = exp −γ|x_i − x_j|² for i ≠ j, D the row sums of W.

    Zhou et al. (2004), as scikit-learn's `LabelSpreading(kernel="rbf")`: the same steps, the same answer to
    rounding, without the n×n graph. With the row softmax P = D^{−1} W and its log-normaliser log D,
    S F = D^{1/2} P D^{−1/2} F. Computed in float64; distributions have the dtype of X.

    Raises `InputError` also for α outside (0, 1). Attributes are `LabelPropagation`'s.
    """

    def __init__(self, gamma: float = 20, *, alpha: float = 0.2, max_iter: int = 30, tol: float = 1e-3) -> None:
        self.gamma = gamma
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol

    def _check(self) -> None:
        super()._check()
        if not isinstance(self.alpha, (float, np.floating)) or not 0 < self.alpha < 1:
            raise InputError(f"LabelSpreading(alpha=…) expects a number strictly between 0 and 1, got {self.alpha!r}")

    def _step(self, X: Float[Tensor, "n d"], known: Float[Tensor, "n c"], labelled: Bool[Tensor, "n 1"]) -> _Step:
        others = Others(X, self._h)
        log_d = others.log_degree
        reached = log_d > math.log(torch.finfo(log_d.dtype).tiny)  # else W is a row of zeros, and so is S
        root, inverse = ((sign * log_d / 2).exp().masked_fill(~reached, 0)[:, None] for sign in (1, -1))
        return lambda F: self.alpha * root * (others @ (inverse * F)) + (1 - self.alpha) * known


def _normalised(F: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    total = F.sum(1, keepdim=True)
    return F / total.masked_fill(total == 0, 1)
