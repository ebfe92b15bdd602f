"""Estimates over a few paired seeds, each with a confidence interval that suits the outcome.

No single interval suits every outcome, so each measure declares its `summary`:

- `mean`: for numbers without outliers. Each end is that of Student's t or that of a bootstrap, whichever is farther
  from the mean: the first is right for normal values, the second follows skewed ones. The bootstrap is SciPy's
  percentile method, with the percentiles moved outwards as Student's t does for small samples (Hesterberg 2015,
  "expanded percentile"): with ten seeds the plain percentiles call two equal arms different in 10 % of all trials.
- `median`: for heavy tails, and where a run may fail. Its interval lies between two of the ordered values, by the
  binomial distribution of the number of values below the median, so it holds for every distribution. A failed run may
  count as infinite.
- `share`: for outcomes 0 and 1, such as success. The exact interval of Clopper and Pearson.
- `exact`: for identities, which must hold to rounding in every run. There is nothing to infer from a sample: all values
  are compared with the threshold, and in place of an interval stand the smallest and the largest of them.

Intervals are at 98 %, which keeps both kinds of error below their limits: two runs of the same arm are called
different less than 5 % of the time, and a difference of one standard deviation is missed less than 20 % of the time
with 30 seeds. `make evidence` measures both, and how often each interval holds the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy  # scipy loads scipy.stats, which takes most of a second, only when it is first used

Summary = Literal["mean", "median", "share", "exact"]
Bounds = Callable[[float], tuple[float, float]]  # from a confidence level to the two ends of the interval
CONFIDENCE = 0.98
_RESAMPLES = 9_999
_DRAWN_AT_ONCE = 1 << 16  # values
_NO_SPREAD = 1e-9  # the least standard deviation that is assumed of a resample
_LEAST_P = 1e-4  # smaller ones are not distinguished
_HALVINGS = 25  # steps of the bisection for a p-value


@dataclass(frozen=True)
class Interval:
    """An estimate over n seeds with its interval at `CONFIDENCE`."""

    estimate: float
    low: float
    high: float
    n: int
    summary: Summary = "mean"
    bounds: Bounds | None = field(default=None, repr=False, compare=False)

    def map(self, function: np.ufunc) -> Interval:
        """The interval of an increasing function of the estimate."""
        found = self.bounds
        estimate, low, high = (float(function(x)) for x in (self.estimate, self.low, self.high))

        def mapped(confidence: float) -> tuple[float, float]:
            low, high = found(confidence) if found else (self.low, self.high)
            return float(function(low)), float(function(high))

        return Interval(estimate, low, high, self.n, self.summary, None if found is None else mapped)

    def p_value(self, value: float) -> float:
        """The least α ≥ 0.0001 for which the interval at the confidence 1 − α does not contain the value; 1 if none is.

        It is the p-value of a two-sided test whether the estimated number equals the value.
        """
        if self.bounds is None:
            return _LEAST_P if value < self.low or value > self.high else 1.0
        contained, excluded = math.log(_LEAST_P), 0.0
        if not _contains(self.bounds(1 - _LEAST_P), value):
            return _LEAST_P
        for _ in range(_HALVINGS):
            middle = (contained + excluded) / 2
            if _contains(self.bounds(1 - math.exp(middle)), value):
                contained = middle
            else:
                excluded = middle
        return math.exp(excluded)


def _contains(bounds: tuple[float, float], value: float) -> bool:
    return bounds[0] <= value <= bounds[1]


def _with_bounds(estimate: float, n: int, summary: Summary, bounds: Bounds) -> Interval:
    low, high = bounds(CONFIDENCE)
    return Interval(estimate, low, high, n, summary, bounds)


def mean(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean of independent values with its interval.

    The interval is (−∞, ∞) for fewer than two values, for values that are all equal, which say nothing of how much
    others may differ, and where a value is infinite.

    Raises `ValueError` for NaN.

    >>> from limelight.experiment.statistics import mean
    >>> mean([1.0])  # one value says nothing of the spread
    Interval(estimate=1.0, low=-inf, high=inf, n=1, summary='mean')
    >>> found = mean([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> found.low < 1.5 < found.estimate == 3.0
    True
    """
    sample = _sample(values)
    n = len(sample)
    if n < 2 or not np.isfinite(sample).all() or np.ptp(sample) == 0:
        return Interval(_plain_mean(sample), -math.inf, math.inf, n)
    resampled = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=_RESAMPLES, batch=_at_once(n), method="percentile", rng=0
    ).bootstrap_distribution
    center, error = float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(n)

    def bounds(confidence: float) -> tuple[float, float]:
        low, high = _expanded_percentiles(resampled, n, confidence)
        reach = error * float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1))
        return min(low, center - reach), max(high, center + reach)

    return _with_bounds(center, n, "mean", bounds)


def median(values: Sequence[float] | np.ndarray) -> Interval:
    """The median of independent values with its interval; values may be infinite.

    The number of values below the median is binomial with probability ½. So with probability of at least `CONFIDENCE`
    the median lies between the k-th smallest and the k-th largest value, for the largest k that the binomial
    distribution allows; for fewer than seven values no k is, and the interval is (−∞, ∞).

    Raises `ValueError` for NaN.

    >>> from limelight.experiment.statistics import median
    >>> median([1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 9.0, float('inf')])
    Interval(estimate=2.0, low=1.0, high=inf, n=10, summary='median')
    """
    sample = np.sort(_sample(values))
    n = len(sample)

    def bounds(confidence: float) -> tuple[float, float]:
        k = int(scipy.stats.binom.ppf((1 - confidence) / 2, n, 0.5)) if n else 0  # P(fewer than k below) < (1 − c)/2
        return (float(sample[k - 1]), float(sample[n - k])) if k else (-math.inf, math.inf)

    return _with_bounds(_middle(sample), n, "median", bounds)


def share(values: Sequence[float] | np.ndarray) -> Interval:
    """The share of ones among independent values 0 and 1, with the exact interval of Clopper and Pearson.

    Raises `ValueError` for another value.

    >>> from limelight.experiment.statistics import share
    >>> found = share([1.0] * 10)
    >>> found.estimate, round(found.low, 2), found.high
    (1.0, 0.63, 1.0)
    """
    sample = _sample(values)
    if not np.isin(sample, (0, 1)).all():
        raise ValueError(f"a share is taken of the values 0 and 1, got {sample.tolist()}")
    n, ones = len(sample), int(sample.sum())

    def bounds(confidence: float) -> tuple[float, float]:
        if not n:
            return 0.0, 1.0
        found = scipy.stats.binomtest(ones, n).proportion_ci(confidence, "exact")
        return float(found.low), float(found.high)

    return _with_bounds(ones / n if n else math.nan, n, "share", bounds)


def exact(values: Sequence[float] | np.ndarray) -> Interval:
    """The median of the values, and the smallest and the largest of them in place of an interval.

    >>> from limelight.experiment.statistics import exact
    >>> exact([1e-16, 3e-16, 2e-16])
    Interval(estimate=2e-16, low=1e-16, high=3e-16, n=3, summary='exact')
    """
    sample = np.sort(_sample(values))
    if not len(sample):
        return Interval(math.nan, -math.inf, math.inf, 0, "exact")
    return Interval(_middle(sample), float(sample[0]), float(sample[-1]), len(sample), "exact")


SUMMARIES: dict[Summary, Callable[[Sequence[float] | np.ndarray], Interval]] = {
    "mean": mean, "median": median, "share": share, "exact": exact,
}  # fmt: skip


def spread_ratio(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> Interval:
    """The ratio of two standard deviations over paired values, by a bootstrap of its logarithm.

    The interval is (0, ∞) where there are fewer than three pairs, or either side does not vary.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    n = len(a)
    if n < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Interval(math.nan, 0.0, math.inf, n)

    def log_ratio(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        # A resample may consist of equal values, whose spread is 0. It is raised to a small number for the logarithm.
        spread_x, spread_y = (np.maximum(z.std(axis, ddof=1), _NO_SPREAD) for z in (x, y))
        return np.log(spread_x) - np.log(spread_y)

    resampled = scipy.stats.bootstrap(
        (a, b), log_ratio, n_resamples=_RESAMPLES, batch=_at_once(n), paired=True, method="percentile", rng=0
    ).bootstrap_distribution  # fmt: skip
    estimate = float(log_ratio(a, b, 0))
    return _with_bounds(estimate, n, "mean", lambda c: _expanded_percentiles(resampled, n, c)).map(np.exp)


def differs(first: Sequence[float], second: Sequence[float]) -> bool:
    """True if the interval of the mean paired difference does not contain zero.

    >>> from limelight.experiment.statistics import differs
    >>> differs([1.0, 1.1, 1.2, 1.3, 1.4], [0.0, 0.1, 0.1, 0.2, 0.1])
    True
    """
    difference = mean(np.subtract(first, second))
    return difference.low > 0 or difference.high < 0


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests after Holm's correction, in the same order.

    Rejecting each test whose corrected p-value is at most α rejects a true hypothesis with a probability of at most α,
    for all tests together (Holm 1979): the k-th smallest of m p-values is multiplied by m − k + 1, and none may become
    smaller than the one before it.

    >>> from limelight.experiment.statistics import holm
    >>> holm([0.01, 0.04, 0.02])
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors)
    return [float(p) for p in corrected.clip(max=1.0)]


def _sample(values: Sequence[float] | np.ndarray) -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    if np.isnan(sample).any():
        raise ValueError(f"expected numbers, got NaN among {sample.tolist()}")
    return sample


def _plain_mean(sample: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is not defined
        return float(sample.mean()) if len(sample) else math.nan


def _middle(ordered: np.ndarray) -> float:
    n = len(ordered)
    if not n:
        return math.nan
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    return float(low) if low == high else float(low + high) / 2


def _at_once(n: int) -> int:
    """The number of resamples of n values that are drawn at once.

    All of them are the same for any number at once, since they come from one generator one after the other. Few fit in
    the processor's cache, which is four times as fast for a thousand values; all would take 1.6 GB for ten thousand.
    """
    return max(1, _DRAWN_AT_ONCE // max(n, 1))


def _expanded_percentiles(resampled: np.ndarray, n: int, confidence: float) -> tuple[float, float]:
    tail = _tail(n, confidence)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def _tail(n: int, confidence: float) -> float:
    """The tail probability whose normal quantile is Student's t quantile of the confidence, times √(n/(n−1)).

    The factor is there since the bootstrap's variance has n in its denominator in place of n − 1.
    """
    t = scipy.stats.t.ppf((1 + confidence) / 2, n - 1) * math.sqrt(n / (n - 1))
    return float(scipy.stats.norm.sf(t))
