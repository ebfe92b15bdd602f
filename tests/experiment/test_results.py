"""What results of arms are compared by: the summary that a measure declares, and runs that failed."""

import math

import pytest

from limelight.experiment.measure import Measure
from limelight.experiment.results import Record, Results


def results(summary, first, second, failed=math.inf):
    """Two arms with these values; None stands for a run that diverged."""
    measures = {"error": Measure("error", "", "lower", failed, summary)}
    records = [
        Record("c", arm, seed, "diverged") if value is None else Record("c", arm, seed, "done", values={"error": value})
        for arm, values in (("a", first), ("b", second))
        for seed, value in enumerate(values)
    ]
    return Results(["a", "b"], measures, records)


def test_a_measure_says_how_it_is_summarized():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 100.0]
    for summary, estimate in (("mean", 14.5), ("median", 5.5), ("exact", 5.5)):
        found = results(summary, values, values).summary("a", "error")
        assert (found.estimate, found.summary) == (estimate, summary)
    assert results("share", [1.0, 0.0, 1.0, 1.0], []).summary("a", "error").estimate == 0.75


def test_a_share_counts_runs_on_one_side_of_a_level():
    found = results("mean", [0.1, 0.2, 0.3, None], [])
    assert found.share("a", "error", "at most", 0.2).estimate == 0.5
    assert found.share("a", "error", "at least", 0.2).estimate == 0.75  # a run that diverged has an infinite error


def test_a_median_ratio_takes_runs_that_failed_and_zeros():
    found = results("median", [1.0] * 7 + [None, None, 0.0], [2.0] * 7 + [1.0, None, 0.0])
    ratio = found.ratio("a", "b", "error")
    assert (ratio.estimate, ratio.low, ratio.high) == (0.5, 0.5, math.inf)
    difference = found.difference("a", "b", "error")
    assert (difference.estimate, difference.high) == (-1.0, math.inf)


def test_a_mean_of_runs_that_count_as_infinite_is_unknown():
    found = results("mean", [1.0] * 9 + [None], [2.0, 1.0] * 5)
    for effect in (found.difference("a", "b", "error"), found.summary("a", "error")):
        assert (effect.estimate, effect.low, effect.high) == (math.inf, -math.inf, math.inf)
    assert found.ratio("a", "b", "error").low == 0.0


def test_the_mean_ratio_is_geometric():
    assert results("mean", [1.0, 4.0], [2.0, 2.0]).ratio("a", "b", "error").estimate == pytest.approx(1.0)
