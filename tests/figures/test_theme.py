"""Titles, legends and logarithmic axes have the room that they need."""

import numpy as np
import pytest
from plotly.graph_objects import Figure, Scatter

from limelight.experiment.measure import Measure
from limelight.experiment.search import Found
from limelight.figures.lines import curves
from limelight.figures.theme import NEUTRAL, decades, strokes, styled
from limelight.report.sensitivity import sensitivity


def lines(count):
    return Figure([Scatter(x=[0, 1], y=[0, 1], name=f"arm {i}") for i in range(count)])


def test_a_title_of_two_lines_is_moved_down_by_half_a_line():
    short, long = (styled(lines(1), 300, title).layout for title in ("one line", "a word " * 12))
    assert long.title.text.count("<br>") == 1
    assert long.title.pad.t - short.title.pad.t == 8.5
    assert long.margin.t - short.margin.t == 17


def test_a_title_and_a_legend_of_many_names_have_room_for_both():
    margins = [styled(lines(count), 300, "title").layout.margin.t for count in (1, 3, 4, 10)]
    assert [below - margins[0] for below in margins[1:]] == [20, 40, 80]
    assert styled(lines(10), 300).layout.margin.t == styled(lines(1), 300).layout.margin.t  # Plotly makes room itself


def test_two_arms_of_one_color_have_different_lines():
    found = strokes([f"arm {i}" for i in range(10)])
    assert len({(stroke["color"], stroke["dash"]) for stroke in found.values()}) == 10
    assert found["arm 9"] == {"color": NEUTRAL, "dash": "solid"}
    drawn = curves({f"arm {i}": np.ones((2, 3)) for i in range(8)}, 1, "x", "y").data[1::2]
    assert [line.line.dash for line in drawn] == ["solid"] * 6 + ["dot", "solid"]


def test_an_axis_has_at_most_so_many_labels():
    assert decades(1e-24, 1, labels=4)["dtick"] == 7
    assert decades(1e-24, 1)["dtick"] == 4


def test_an_axis_of_less_than_two_powers_of_ten_has_labels_between_them():
    assert decades(0.2, 1.3)["dtick"] == decades(0.02, 1.3)["dtick"] == "D2"
    assert decades(0.02, 1.3, labels=4)["dtick"] == 1


@pytest.mark.parametrize(
    ("better", "scores", "axis"),
    [
        ("lower", (1e-4, 2.0), "log"),
        ("lower", (0.1, 2.0), None),
        ("lower", (0.0, 2.0), None),
        ("lower", (1e-4, float("inf")), None),
        ("higher", (1e-4, 2.0), None),
    ],
)
def test_losses_that_span_powers_of_ten_have_a_logarithmic_axis(better, scores, axis):
    class Claim:
        score, rates = "loss", (0.01, 0.1)
        measures = {"loss": Measure("loss", "nats", better, failed=9.0)}

    found = [Found("one", dict(zip(Claim.rates, scores, strict=True)), 0.01, 0.01)]
    assert sensitivity(Claim(), found).layout.yaxis.type == axis
