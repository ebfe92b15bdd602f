"""Means, intervals and extremes of heads over texts."""

import math

import numpy as np
import pytest
import scipy.stats

from limelight import InputError
from limelight.experiment.statistics import CONFIDENCE
from limelight.microscope import Table
from limelight.what_if import OverTexts


def tables(*values):
    """A table with two heads for each text."""
    places = {"step": [0, 0], "text": [0, 0], "layer": [0, 0], "name": ["a", "a"], "head": [0, 1]}
    return tuple(Table(places | {"entropy": [x, y]}) for x, y in values)


def over(*values):
    return OverTexts(tuple(f"text {i}" for i in range(len(values))), tables(*values))


def test_the_interval_is_that_of_students_t():
    x = np.array([1.0, 2.0, 4.0, 3.5])
    one = over(*((value, 0.5) for value in x)).spread("entropy")[0]
    right = scipy.stats.t.interval(CONFIDENCE, 3, x.mean(), scipy.stats.sem(x))
    assert (one.mean, one.low, one.high) == pytest.approx((x.mean(), *right))
    assert (one.least, one.least_in, one.most, one.most_in, one.texts) == (1.0, 0, 4.0, 2, 4)


def test_a_text_without_meaning_is_left_out():
    found = over((1.0, math.nan), (math.nan, math.nan), (3.0, math.nan))
    one, none = found.spread("entropy")
    assert (one.mean, one.texts, one.most_in) == (2.0, 2, 2)
    assert none is None
    assert found.table()["entropy"][0] == 2.0
    assert math.isnan(found.table()["entropy"][1])


def test_one_text_and_equal_values_have_no_interval():
    for values in (((1.0, 2.0),), ((1.0, 2.0), (1.0, 2.0))):
        one = over(*values).spread("entropy")[0]
        assert (one.low, one.high) == (-math.inf, math.inf)
        assert (one.least_in, one.most_in) == (0, 0)  # the first of several


def test_other_heads_and_measures_are_refused():
    first, second = tables((1.0, 2.0), (3.0, 4.0))
    with pytest.raises(InputError, match="tables of the same heads and measures"):
        OverTexts(("a", "b"), (first, Table(second | {"head": [0, 2]})))
    with pytest.raises(InputError, match="tables of the same heads and measures"):
        OverTexts(("a", "b"), (first, Table(second | {"other": [0.0, 0.0]})))
    with pytest.raises(InputError, match="a table for each text, got 2 for 1"):
        OverTexts(("a",), (first, second))
    with pytest.raises(InputError, match="no measure 'drift'"):
        OverTexts(("a",), (first,)).spread("drift")
