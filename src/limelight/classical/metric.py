"""Kernel regression with a learned metric: φ is such that points with near images predict each other well."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.classical.gaussian import gaussian
from limelight.classical.parameters import require_whole
from limelight.classical.points import median_distance, points, undisturbed
from limelight.classical.targets import ClassMeans, TargetMeans
from limelight.errors import ConvergenceError, InputError
from limelight.mask import Band
from limelight.similarity import Metric


class _MetricSmoother(BaseEstimator):  # type: ignore[misc]
    def __init__(self, phi: nn.Module | None = None, *, max_iter: int = 50) -> None:
        self.phi = phi
        self.max_iter = max_iter

    def _learn(self, X: Float[Tensor, "n d"], v: Float[Tensor, "n e"]) -> None:
        """Learn the φ with the least leave-one-out error: the mean squared error of predictions from all others."""
        # The diagonal is masked. If a point attended to itself, a φ that moves all points far apart would predict each
        # one by itself: the error would be zero, but nothing would have been learned. L-BFGS finds φ, with a line
        # search (strong Wolfe conditions), so that no step size has to be chosen. The default φ is learned on X in
        # units of the median distance h, so that it does not depend on the units of X, and is divided by h afterwards.
        require_whole(self, "max_iter", self.max_iter, 1)
        if self.phi is not None and not isinstance(self.phi, nn.Module):
            raise InputError(f"{type(self).__name__}(phi=…) expects a torch module or None, got {self.phi!r}")
        if len(X) < 2:
            told = f"{type(self).__name__} leaves each point out in turn and expects two or more"
            raise InputError(f"{told}; got n_samples = {len(X)}")
        h = 1.0 if self.phi is not None else median_distance(X) or 1.0
        given, X = X, (X.double() / h).to(X.dtype)
        self.phi_ = (_linear(X) if self.phi is None else copy.deepcopy(self.phi)).to(X.dtype)
        parameters = [each for each in self.phi_.parameters() if each.requires_grad]
        self.n_iter_ = 0
        if parameters:
            descent = torch.optim.LBFGS(parameters, max_iter=self.max_iter, line_search_fn="strong_wolfe")

            def loss() -> Tensor:
                descent.zero_grad()
                told = Attention(X, X, Metric(self.phi_), mask=~Band(0, 0)) @ v
                error = (told - v).square().sum(1).mean()
                error.backward()
                return error

            with torch.enable_grad():
                descent.step(loss)
            self.n_iter_ = int(descent.state[parameters[0]]["n_iter"])
        if not all(bool(each.isfinite().all()) for each in parameters):
            raise ConvergenceError(
                f"{type(self).__name__}: φ became NaN or infinite while it was learned; scale the features"
            )
        self.phi_.requires_grad_(False)
        if self.phi is None:
            self.phi_.get_parameter("weight").div_(h)
        self._X, self._v = given, v

    def _mean(self, X: Any) -> Float[Tensor, "queries e"]:
        Q = points(self, X, reset=False)
        A = gaussian(self.phi_(Q.to(self._X.dtype)), self.phi_(self._X), 0.5**0.5)  # −|φ(x) − φ(x_j)|², exactly
        return (A @ self._v.to(A.q.dtype)).to(Q.dtype)


class MetricKernelClassifier(ClassMeans, _MetricSmoother):
    """P(c | x) = Σ_{j: y_j = c} softmax_j(−|φ(x) − φ(x_j)|²), with φ learned.

    φ minimizes the leave-one-out error Σ_i |P_i − e_{y_i}|², where e_c is the indicator of class c. This is the idea of
    neighborhood components analysis (Goldberger et al. 2004) with Brier's loss: metric attention (2412.18288) on
    raw data. By default φ is linear and square, from features divided by the median distance; any module
    (*, d) → (*, r) may be given and is copied. L-BFGS takes `max_iter` steps at most.

    Attributes: `phi_`, `n_iter_`, `classes_`, `n_features_in_`. Raises `InputError` for a single point, and
    `ConvergenceError` where φ becomes NaN or infinite.
    """

    @undisturbed
    def fit(self, X: Any, y: Any) -> Self:
        known, members = self._classes_of(X, y)
        self._learn(known, members.to(known.dtype))
        return self


class MetricKernelRegressor(TargetMeans, _MetricSmoother):
    """ŷ(x) = Σ_j softmax_j(−|φ(x) − φ(x_j)|²) y_j, with φ learned on the leave-one-out squared error.

    Metric learning for kernel regression (Weinberger & Tesauro 2007). Targets are standardized while φ is learned.
    Parameters, attributes and errors are `MetricKernelClassifier`'s; y is (n,) or (n, targets).
    """

    @undisturbed
    def fit(self, X: Any, y: Any) -> Self:
        known, targets = self._targets_of(X, y)
        targets = targets.to(known.dtype)
        self._middle, spread = targets.mean(0), targets.std(0, correction=0)
        self._spread = spread.masked_fill(spread == 0, 1)
        self._learn(known, (targets - self._middle) / self._spread)
        return self

    def _mean(self, X: Any) -> Float[Tensor, "queries e"]:
        mean = super()._mean(X)
        return mean * self._spread.to(mean) + self._middle.to(mean)


def _linear(X: Float[Tensor, "n d"]) -> nn.Linear:
    """x/√2, so that learning starts from kernel regression with a bandwidth of 1."""
    phi = nn.Linear(X.shape[1], X.shape[1], bias=False, dtype=X.dtype)
    nn.init.eye_(phi.weight.data).div_(2**0.5)
    return phi
