"""Intervals, and the two kinds of error of a comparison."""

import math

import numpy as np
import pytest
from benchmarks import evidence
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from limelight.experiment.statistics import CONFIDENCE, Interval, differs, interval, spread_ratio

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


@pytest.mark.parametrize("seeds", [10, 30, 200])
def test_for_normal_values_it_is_students_interval(seeds):
    values = np.random.default_rng(1).normal(3, 2, size=seeds)
    found = interval(values)
    student = stats.t.interval(CONFIDENCE, seeds - 1, values.mean(), stats.sem(values))
    width = student[1] - student[0]
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(student[0], abs=0.2 * width)
    assert found.high == pytest.approx(student[1], abs=0.2 * width)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.floats(-10, 10), st.floats(0.1, 10))
def test_it_moves_and_stretches_with_the_values(values, shift, stretch):
    plain, moved = interval(values), interval(np.array(values) * stretch + shift)
    assert plain.low <= plain.estimate + 1e-9
    assert plain.estimate <= plain.high + 1e-9
    np.testing.assert_allclose(
        [moved.low, moved.high], np.array([plain.low, plain.high]) * stretch + shift, rtol=1e-6, atol=1e-6
    )


def test_few_and_equal_and_strange_values():
    assert interval([2.0]) == Interval(2.0, -math.inf, math.inf, 1)
    assert math.isnan(interval([]).estimate)
    assert interval([2.0] * 10) == Interval(2.0, 2.0, 2.0, 10)
    with pytest.raises(ValueError, match="finite"):
        interval([1.0, math.nan])
    assert not differs([1.0] * 10, [1.0] * 10)
    assert differs([1.0] * 10, [2.0] * 10)


def test_the_ratio_of_two_spreads():
    rng = np.random.default_rng(0)
    narrow, broad = rng.normal(0, 1, 30), rng.normal(0, 4, 30)
    found = spread_ratio(narrow, broad)
    assert found.low < 0.25 < found.high < 1
    assert spread_ratio(narrow, narrow) == Interval(1.0, 1.0, 1.0, 30)
    unknown = spread_ratio([1.0] * 10, list(range(10)))
    assert (unknown.low, unknown.high) == (0.0, math.inf)
