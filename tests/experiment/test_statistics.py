"""Intervals, and the two kinds of error of a comparison."""

import math

import numpy as np
import pytest
from benchmarks import evidence
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from limelight.experiment import statistics
from limelight.experiment.statistics import (
    CONFIDENCE,
    SUMMARIES,
    Interval,
    differs,
    exact,
    holm,
    mean,
    median,
    share,
    spread_ratio,
)

TRIALS = 200


@pytest.mark.parametrize("shape", evidence.SHAPES)
@pytest.mark.parametrize("seeds", [10, pytest.param(30, marks=pytest.mark.slow)])  # fewer seeds: more often
def test_the_same_arm_twice_is_seldom_called_different(shape, seeds):
    draw, _ = evidence.SHAPES[shape]
    assert evidence.false_alarms(draw, seeds, TRIALS, np.random.default_rng(1)) <= evidence.FALSE_ALARM_LIMIT


@pytest.mark.parametrize("shape", evidence.SHAPES)
def test_a_difference_of_one_standard_deviation_is_mostly_found(shape):
    draw, deviation = evidence.SHAPES[shape]
    found = evidence.power(draw, deviation, evidence.POWER_SEEDS, TRIALS // 2, np.random.default_rng(1))
    assert found >= evidence.POWER_LIMIT


def test_plain_percentiles_would_raise_false_alarms():
    """Without expanded percentiles, ten seeds call equal arms different too often."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(TRIALS):
        difference = rng.normal(size=10) - rng.normal(size=10)
        plain = stats.bootstrap((difference,), np.mean, confidence_level=0.95, method="percentile", rng=rng)
        alarms += plain.confidence_interval.low > 0 or plain.confidence_interval.high < 0
    assert alarms / TRIALS > evidence.FALSE_ALARM_LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "summary", "draw", "truth"), [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in evidence.COVERED]
)
@pytest.mark.parametrize("seeds", evidence.SEEDS)
def test_an_interval_holds_the_truth_as_often_as_it_says_where_its_summary_suits(name, summary, draw, truth, seeds):
    found = evidence.coverage(summary, draw, truth, seeds, TRIALS, np.random.default_rng(1))
    if (name, summary) == ("rare failure", "mean"):
        assert found < 0.9  # why there are others
    elif (name, summary) not in evidence.UNSUITED:
        assert found >= evidence.COVERAGE_LIMIT - 0.02  # which 200 trials tell to one or two points


@pytest.mark.parametrize("seeds", [10, 30, 200])
def test_for_normal_values_the_mean_has_at_least_students_interval(seeds):
    values = np.random.default_rng(1).normal(3, 2, size=seeds)
    found = mean(values)
    student = stats.t.interval(CONFIDENCE, seeds - 1, values.mean(), stats.sem(values))
    width = student[1] - student[0]
    assert found.estimate == pytest.approx(values.mean())
    assert student[0] - 0.2 * width <= found.low <= student[0]
    assert student[1] <= found.high <= student[1] + 0.2 * width


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.floats(-10, 10), st.floats(0.1, 10))
def test_a_mean_moves_and_stretches_with_the_values(values, shift, stretch):
    plain, moved = mean(values), mean(np.array(values) * stretch + shift)
    assert plain.low <= plain.estimate + 1e-9
    assert plain.estimate <= plain.high + 1e-9
    if math.isfinite(plain.low) and math.isfinite(moved.low):  # else the values are equal, before or after rounding
        np.testing.assert_allclose(
            [moved.low, moved.high], np.array([plain.low, plain.high]) * stretch + shift, rtol=1e-6, atol=1e-6
        )


@given(st.lists(st.floats(-1e300, 1e300) | st.just(math.inf), min_size=1, max_size=40))
def test_the_median_is_that_of_numpy_and_its_interval_is_exact(values):
    found = median(values)
    ordered = sorted(values)
    middle = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    assert middle[0] <= found.estimate <= middle[1]
    outside = np.sum(np.array(values) < found.low)  # k − 1 values, where no others are equal to the end
    assert stats.binom.cdf(outside - 1, len(values), 0.5) <= (1 - CONFIDENCE) / 2
    assert (len(values) < 7) == (found.low == -math.inf)


@pytest.mark.parametrize(("ones", "n"), [(0, 10), (10, 10), (7, 10), (29, 30), (0, 0)])
def test_a_share_has_the_interval_of_clopper_and_pearson(ones, n):
    found = share([1.0] * ones + [0.0] * (n - ones))
    tail = (1 - CONFIDENCE) / 2
    assert found.low == pytest.approx(stats.beta.ppf(tail, ones, n - ones + 1) if ones else 0.0)
    assert found.high == pytest.approx(stats.beta.ppf(1 - tail, ones + 1, n - ones) if ones < n else 1.0)


def test_few_and_equal_and_strange_values():
    unknown = (-math.inf, math.inf)
    assert mean([2.0]) == Interval(2.0, *unknown, 1)
    assert math.isnan(mean([]).estimate)
    assert mean([2.0] * 10) == Interval(2.0, *unknown, 10)  # ten equal values do not say that there are no others
    assert mean([1.0, math.inf, 2.0]) == Interval(math.inf, *unknown, 3)
    assert median([2.0] * 10) == Interval(2.0, 2.0, 2.0, 10, "median")
    assert exact([]).n == 0
    for summary in SUMMARIES.values():
        with pytest.raises(ValueError, match=r"NaN|0 and 1"):
            summary([1.0, math.nan])
    with pytest.raises(ValueError, match="the values 0 and 1"):
        share([0.5])
    assert not differs([1.0] * 10, [1.0] * 10)


@pytest.mark.parametrize("summary", [mean, median])
def test_a_p_value_is_where_the_interval_begins_to_hold_the_value(summary):
    values = np.random.default_rng(0).normal(size=30)
    found = summary(values)
    for value in (-0.4, 0.0, 0.3):
        p = found.p_value(value)
        low, high = found.bounds(1 - p * 1.001)
        assert not low <= value <= high
        low, high = found.bounds(1 - p * 0.999)
        assert low <= value <= high
    assert found.p_value(99.0) == 1e-4
    moved = found.map(np.exp)
    assert moved.p_value(1.0) == pytest.approx(found.p_value(0.0))


def test_for_normal_values_a_p_value_is_near_students():
    values = np.random.default_rng(3).normal(size=20)
    assert mean(values).p_value(0.2) == pytest.approx(stats.ttest_1samp(values, 0.2).pvalue, rel=0.2)


@given(st.lists(st.floats(0, 1), max_size=9))
def test_holms_correction_is_that_of_its_definition(p_values):
    found = holm(p_values)
    ordered = sorted(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected = 0
        while rejected < len(ordered) and ordered[rejected] * (len(ordered) - rejected) <= level:
            rejected += 1
        assert sum(p <= level for p in found) == rejected
    assert all(a <= b for a, b in zip(p_values, found, strict=True))


@pytest.mark.slow
def test_any_wrong_word_among_several_parts_is_rare():
    assert evidence.family_error(6, 10, TRIALS // 2, np.random.default_rng(1)) <= evidence.FALSE_ALARM_LIMIT


def test_the_ratio_of_two_spreads():
    rng = np.random.default_rng(0)
    narrow, broad = rng.normal(0, 1, 30), rng.normal(0, 4, 30)
    found = spread_ratio(narrow, broad)
    assert found.low < 0.25 < found.high < 1
    assert spread_ratio(narrow, narrow) == Interval(1.0, 1.0, 1.0, 30)
    unknown = spread_ratio([1.0] * 10, list(range(10)))
    assert (unknown.low, unknown.high) == (0.0, math.inf)


@pytest.mark.parametrize("n", [2, 10, 257])
def test_the_resamples_are_the_same_however_many_are_drawn_at_once(monkeypatch, n):
    values, others = np.random.default_rng(n).normal(size=(2, n))
    found = mean(values), spread_ratio(values, others)
    monkeypatch.setattr(statistics, "_DRAWN_AT_ONCE", 10**9)
    assert (mean(values), spread_ratio(values, others)) == found
