"""Label spreading, which labels points from a few labeled ones, on a graph that is never stored."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from limelight.classical.gaussian import gaussian
from limelight.classical.graphs import SPARSE
from limelight.classical.off_diagonal import OffDiagonalAttention
from limelight.classical.parameters import require_positive, require_tolerance, require_whole
from limelight.classical.points import points, points_and_targets, undisturbed
from limelight.errors import InputError


class LabelSpreading(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """F ← α S F + (1 − α) Y, S = D^{−1/2} W D^{−1/2}, W_ij = exp −γ|x_i − x_j|² for i ≠ j, D the row sums of W.

    Zhou et al. (2004), as scikit-learn's `LabelSpreading(kernel="rbf")`: the same steps, and the same result up to
    rounding, without the n×n graph. F (n, classes) is the share of each class at each point, and Y that of the given
    labels; −1 in y means no label. With the row softmax P = D^{−1} W and its log-normalizer log D, S F = D^{1/2} P
    D^{−1/2} F. `gamma` is 1/2h² of a Gaussian of bandwidth h. The steps end when Σ|ΔF| < tol. They are in float64;
    distributions have the dtype of X. A sparse X is made dense, (n, d).

    Attributes: `classes_`, `label_distributions_` (n, classes), `transduction_` (n,), `n_iter_`, `n_features_in_`.
    Raises `InputError` for parameters out of range, such as α outside (0, 1), and if no point has a label. Warns if
    `max_iter` steps were too few and if no label reached a point: its distribution is zero, and it stays −1 in
    `transduction_`.
    """

    def __init__(self, gamma: float = 20, *, alpha: float = 0.2, max_iter: int = 30, tol: float = 1e-3) -> None:
        self.gamma = gamma
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol

    @undisturbed
    def fit(self, X: Any, y: Any) -> Self:
        """X (n, d) and y (n,), −1 for points without a label."""
        self._check()
        given, y = points_and_targets(self, X, y, accept_sparse=SPARSE)
        check_classification_targets(y)
        unlabeled = y == -1
        if unlabeled.all():
            raise InputError(f"{type(self).__name__} expects at least one labeled point; all {len(y)} labels are −1")
        self.classes_ = np.unique(y[~unlabeled])
        self._X, self._dtype = given.double(), given.dtype
        self._h = 1 / math.sqrt(2 * self.gamma)
        self._F = self._settle(torch.from_numpy((y[:, None] == self.classes_).astype(np.float64)))
        self.label_distributions_ = self._F.to(self._dtype).numpy()
        self.transduction_ = self._classes_of(self._F, "of the points to be labeled", y)
        return self

    @undisturbed
    def predict_proba(self, X: Any) -> np.ndarray:
        """Σ_j softmax_j(−γ|x − x_j|²) F_j divided by its sum, (queries, classes); zero if the sum is zero."""
        return self._shares(X).numpy()

    @undisturbed
    def predict(self, X: Any) -> np.ndarray:
        """The class with the largest share; −1, with a warning, if all shares are zero."""
        return self._classes_of(self._shares(X), "of the points asked about", self.classes_)

    def _check(self) -> None:
        require_positive(self, "gamma", self.gamma)
        require_whole(self, "max_iter", self.max_iter, 1)
        require_tolerance(self, "tol", self.tol)
        if not isinstance(self.alpha, (float, np.floating)) or not 0 < self.alpha < 1:
            raise InputError(f"LabelSpreading(alpha=…) expects a number strictly between 0 and 1, got {self.alpha!r}")

    def _shares(self, X: Any) -> Float[Tensor, "queries c"]:
        check_is_fitted(self)
        Q = points(self, X, reset=False, accept_sparse=SPARSE)
        return _normalized(gaussian(Q.double(), self._X, self._h) @ self._F).to(Q.dtype)

    def _settle(self, known: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        # S has no eigenvalue beyond ±1, so each step multiplies the error by α or less, and F tends to
        # (1 − α)(I − α S)⁻¹ Y (Zhou et al. 2004). With P = D⁻¹W, S F = D^{1/2} P D^{−1/2} F: a step is one product with
        # the attention P and two multiplications of rows, and log D is the log-normalizer of P. Where all weights of a
        # point underflow, its row of S is 0, although P, which is normalized in logarithms, still has one.
        others = OffDiagonalAttention(self._X, self._h)
        log_d = others.log_degree
        reached = log_d > math.log(torch.finfo(log_d.dtype).tiny)
        root, inverse = ((sign * log_d / 2).exp().masked_fill(~reached, 0)[:, None] for sign in (1, -1))
        F, before, self.n_iter_ = known, torch.zeros_like(known), 0
        while float((F - before).abs().sum()) >= self.tol:  # counted and compared as scikit-learn does
            if self.n_iter_ == self.max_iter:
                told = f"max_iter={self.max_iter} was reached without convergence."
                warnings.warn(told, ConvergenceWarning, stacklevel=4)
                break
            before, F = F, self.alpha * root * (others @ (inverse * F)) + (1 - self.alpha) * known
            self.n_iter_ += 1
        return _normalized(F)

    def _classes_of(self, F: Float[Tensor, "n c"], whose: str, like: np.ndarray) -> np.ndarray:
        classes = self.classes_[F.argmax(1).numpy()].astype(like.dtype, copy=False)
        unreached = (F.sum(1) == 0).numpy()
        if unreached.any():
            classes[unreached] = -1
            warnings.warn(
                f"{type(self).__name__}: no label reaches {unreached.sum()} {whose}: every weight exp(−γ|x − y|²) of a "
                f"labeled point underflows. They stay −1; try a smaller gamma than {self.gamma:g}, or scale the "
                "features.",
                stacklevel=4,
            )
        return classes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _normalized(F: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    total = F.sum(1, keepdim=True)
    return F / total.masked_fill(total == 0, 1)
