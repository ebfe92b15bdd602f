"""Kernel regression and classification: a weighted mean of the targets of the other points."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.gaussian import gaussian, warn_of_underflow
from limelight.classical.points import bandwidth_for, median_distance, points, sample, undisturbed
from limelight.classical.targets import ClassMeans, TargetMeans, weights_of
from limelight.errors import InputError
from limelight.mask import window
from limelight.similarity import Similarity

_QUERIES = 1000  # at most so many points are left out in turn
_LIGHT = 1e-20  # where some weights are so far below the largest, sums of products with them need float64
_TRIED = [2 ** (-step / 2) for step in range(-2, 13)]  # bandwidths in median distances, from 2 to 1/64, widest first


class _Smoother(BaseEstimator):  # type: ignore[misc]
    """The common part of regression and classification: P v, with the weights of known points for new ones."""

    def __init__(self, bandwidth: float | None = None, similarity: Similarity | None = None) -> None:
        self.bandwidth = bandwidth
        self.similarity = similarity

    def _keep(self, X: Float[Tensor, "n d"], v: Shaped[Tensor, "n e"], sample_weight: Any) -> Self:
        w = weights_of(self, sample_weight, X)
        w = w / w.max()  # only ratios count, and products with these neither overflow nor underflow
        if float(w[w > 0].min()) < _LIGHT:
            X = X.double()
        if self.similarity is None:
            given = leave_one_out(X, v, w) if self.bandwidth is None else self.bandwidth
            self.bandwidth_ = bandwidth_for(self, X, given)
        elif not isinstance(self.similarity, Similarity):
            raise InputError(
                f"{type(self).__name__}(similarity=…) expects a limelight Similarity or None, got {self.similarity!r}"
            )
        elif self.bandwidth is not None:
            raise InputError(
                f"{type(self).__name__} expects a bandwidth or a similarity, which has its own, not both; got "
                f"bandwidth={self.bandwidth!r} and similarity={self.similarity!r}"
            )
        counted = w > 0
        self._X, self._v = X[counted], v[counted].to(X.dtype)
        self._w = None if sample_weight is None else w[counted, None].to(X.dtype)
        return self

    def _mean(self, X: Any) -> Float[Tensor, "queries e"]:
        """Σ_j w_j K(x, x_j) v_j / Σ_j w_j K(x, x_j) for each row x of X."""
        Q = points(self, X, reset=False)
        if self.similarity is not None:
            return _weighted(Attention(Q.to(self._X.dtype), self._X, self.similarity), self._v, self._w).to(Q.dtype)
        A = gaussian(Q, self._X, self.bandwidth_)
        v = self._v if self._w is None else torch.cat([self._w * self._v, self._w], 1)
        mean, log_sums = A.apply_with_logsumexp(v.to(A.dtype))
        warn_of_underflow(self, log_sums, self._X, self.bandwidth_)
        return (mean if self._w is None else mean[:, :-1] / mean[:, -1:]).to(Q.dtype)


class KernelRegressor(TargetMeans, _Smoother):
    """ŷ(x) = Σ_j softmax_j(−|x − x_j|²/2h²) y_j: a mean of the known targets, in which near points count more.

    Kernel regression (Nadaraya 1964; Watson 1964) is attention with the points as keys and their targets
    as values. `bandwidth` is h. With None, fifteen values are tried, from twice the median distance of two points
    down to 1/64 of it, and the one with the least leave-one-out error is used. At most 1000 points are left out in
    turn, the same ones for every order of the rows. Any limelight `similarity` may replace the Gaussian.

    `fit(X, y, sample_weight)` takes X (n, d) and y (n,) or (n, targets), and multiplies each point's weight by its
    `sample_weight`; `predict` returns the dtype of its X (float32 or float64), in memory linear in the number
    of points. Raises `InputError` for a bandwidth that is not positive, and warns if all weights of a point underflow:
    it then gets the value of the nearest point.

    Attributes: `bandwidth_`, `n_features_in_`.
    """

    @undisturbed
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        return self._keep(*self._targets_of(X, y), sample_weight)


class KernelClassifier(ClassMeans, _Smoother):
    """P(c | x) = Σ_{j: y_j = c} softmax_j(−|x − x_j|²/2h²): each class's share of the weight.

    The Nadaraya–Watson mean of the classes' indicators, which is Bayes' rule with kernel density estimates of
    one bandwidth. By default the bandwidth minimizes the squared error of the indicators, Brier's loss. Parameters,
    dtypes, errors and warnings are those of `KernelRegressor`.

    Attributes: `classes_`, `bandwidth_`, `n_features_in_`.
    """

    @undisturbed
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        return self._keep(*self._classes_of(X, y), sample_weight)


def leave_one_out(X: Float[Tensor, "n d"], v: Shaped[Tensor, "n e"], w: Float[Tensor, " n"]) -> float | None:
    """h with the least Σ_i w_i |v_i − ŷ_{−i}(x_i)|², ŷ_{−i} the mean of all others: attention without its diagonal.

    Fifteen bandwidths are tried, from twice the median distance down; of equally good ones the widest is used. None
    for fewer than three points, and if all coincide.
    """
    # With the diagonal, the best bandwidth would be 0: each point would predict itself. A mask leaves it out, and all
    # points are left out in turn by one product. If there are many, only a sample is predicted, with all points as
    # keys. A point of weight 0 is neither a key nor predicted. Targets are centered and divided by their largest
    # absolute value, so that the error does not depend on their units, and several targets count equally. Errors that
    # differ by less than 1e-9 of the mean weighted square of these targets count as equal, since that may be rounding.
    X, w, v = X[w > 0], w[w > 0, None], v[w > 0].double()
    unit = median_distance(X)
    if len(X) < 3 or unit == 0:
        return None
    v = v - (w * v).sum(0) / w.sum()
    size = v.abs().amax(0)
    v = v / size.masked_fill(size == 0, 1)
    asked = sample(X, _QUERIES, v, w)
    first = torch.ones(len(X), dtype=torch.bool)
    first[asked] = False
    order = torch.cat([asked, first.nonzero()[:, 0]])  # the predicted points come first, so that query i is key i
    X, v, w = X[order], v[order], w[order]
    errors = []
    for share in _TRIED:
        A = gaussian(X[: len(asked)], X, share * unit, mask=~window(before=0, after=0))
        told = _weighted(A, v.to(A.q.dtype), w.to(A.q.dtype)).double()
        errors.append(float((w[: len(asked)] * (told - v[: len(asked)]).square()).sum()))
    best = min(errors) + 1e-9 * float((w * v.square()).sum()) / len(v)
    return unit * next(share for share, error in zip(_TRIED, errors, strict=True) if error <= best)


def _weighted(A: Attention, v: Float[Tensor, "m e"], w: Float[Tensor, "m 1"] | None) -> Float[Tensor, "n e"]:
    """The mean of v under the weights of A times w."""
    # Weighting keys by w_j changes the normalizer of each row too: Σ_j P_ij w_j v_j / Σ_j P_ij w_j. One product with
    # (w v, w) gives both sums, and the normalizer of P cancels in their quotient.
    if w is None:
        return A @ v
    sums = A @ torch.cat([w * v, w], 1)
    return sums[:, :-1] / sums[:, -1:]
