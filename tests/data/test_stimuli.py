"""Bars, arcs, gratings and Gabor functions are what they are called: placed, turned, bent and as large as is said."""

import math

import pytest
import torch

from limelight import InputError
from limelight.data.stimuli import arcs, bars, gabors, gratings

MIDDLE = torch.zeros(1, 2)


def one_arc(turn, orientation=0.0, length=16.0, side=40, width=2.0):
    return arcs(side, torch.tensor([orientation]), MIDDLE, length, turn, width)[0, 0]


def coordinates(side):
    at = torch.arange(side) - (side - 1) / 2
    return at[None, :].expand(side, side), -at[:, None].expand(side, side)  # x to the right, y up


def test_bars_turn_counterclockwise_and_move_across_themselves():
    angles = torch.tensor([0.0, math.pi / 4, math.pi / 2])
    found = bars(21, angles, torch.tensor([0.0, 3.0]), width=1.0)
    assert found.shape == (3, 2, 21, 21)
    assert (found[0, 0] > 0.99).nonzero().tolist() == [[10, i] for i in range(21)]
    assert (found[0, 1] > 0.99).nonzero().tolist() == [[7, i] for i in range(21)]  # up
    assert (found[2, 1] > 0.99).nonzero().tolist() == [[i, 7] for i in range(21)]  # to the left
    torch.testing.assert_close(found[1, 0], found[1, 0].T.flip(0, 1))
    assert (found[1, 0].diagonal() < 0.9).any()
    assert (found[1, 0].flip(1).diagonal() > 0.99).all()  # from the lower left to the upper right


def test_a_bar_looks_the_same_at_every_orientation():
    across = bars(31, torch.linspace(0, math.pi, 13), torch.zeros(1), width=3.0)[:, 0]
    x, y = coordinates(31)
    near = x.square() + y.square() < 12**2
    ink = (across * near).sum((1, 2))
    assert float(ink.std() / ink.mean()) < 0.03  # some of it by pixels at the rim of the disk
    assert float(ink.mean() / (3 * 24)) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("turn", [0.0, 0.3, math.pi / 2, math.pi, 1.9 * math.pi])
def test_arcs_of_one_length_have_one_area_and_stand_in_the_middle(turn):
    straight, x, y = one_arc(0.0), *coordinates(40)
    for angle in torch.linspace(0, 6, 7).tolist():
        arc = one_arc(turn, angle)
        assert float(arc.sum() / straight.sum()) == pytest.approx(1, abs=0.05)
        for coordinate in (x, y):
            assert float((coordinate * arc).sum() / arc.sum()) == pytest.approx(0, abs=0.4)


@pytest.mark.parametrize("turn", [0.5, math.pi / 2, math.pi, 1.5 * math.pi])
def test_an_arc_lies_on_a_circle_of_its_curvature(turn):
    """All its ink is within half a width of a circle of radius length / turn, and bulges to +y."""
    arc, (x, y), radius = one_arc(turn), coordinates(40), 16 / turn
    center = -radius * math.sin(turn / 2) / (turn / 2)
    off = (torch.hypot(x, y - center) - radius).abs()
    assert float(off[arc > 0.99].max()) <= 0.51
    white = arc > 0.5
    assert float(y[white].max()) == pytest.approx(center + radius, abs=1.6)
    spread = torch.atan2(x, y - center)[white & (off < 0.6)]
    ends = 1 / radius  # an end is round, half a width of one pixel long
    assert float(spread.max()) == pytest.approx(turn / 2, abs=ends + 0.5 / radius)


def test_a_small_turn_is_nearly_straight_and_a_whole_one_a_circle():
    torch.testing.assert_close(one_arc(1e-3), one_arc(0.0), atol=0.02, rtol=0)
    circle = one_arc(2 * math.pi, length=30.0)
    torch.testing.assert_close(circle, circle.T, atol=1e-4, rtol=0)
    torch.testing.assert_close(circle, circle.flip(0), atol=1e-4, rtol=0)


def test_arcs_are_turned_and_shifted():
    up = arcs(24, torch.tensor([0.0]), MIDDLE, 10.0, math.pi)[0, 0]
    found = arcs(24, torch.tensor([math.pi / 2, math.pi]), torch.tensor([[0.0, 0.0], [3.0, -2.0]]), 10.0, math.pi)
    torch.testing.assert_close(found[0, 0], up.rot90(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1, 0], up.flip(0, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0, 1], found[0, 0].roll((2, 3), (0, 1)), atol=1e-4, rtol=0)  # right and down


def test_gratings_have_their_wavelength_orientation_and_mean():
    angles, phases = torch.tensor([0.0, math.pi / 2]), torch.tensor([0.0, math.pi])
    found = gratings(24, angles, phases, 6.0)
    assert found.shape == (2, 2, 24, 24)
    torch.testing.assert_close(found[0, :, :, :1].expand(-1, -1, 24), found[0])  # horizontal stripes
    torch.testing.assert_close(found[1, :, :1].expand(-1, 24, -1), found[1])
    torch.testing.assert_close(found[0, 0, 6:], found[0, 0, :-6], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 0] + found[:, 1], torch.ones(2, 24, 24))
    assert float(found.mean()) == pytest.approx(0.5, abs=1e-5)


def test_gabors_have_no_mean_and_unit_size_and_answer_to_their_orientation():
    angles = torch.arange(8) * math.pi / 8
    found = gabors(9, angles, 5.0)
    torch.testing.assert_close(found.sum((1, 2)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.square().sum((1, 2)), torch.ones(8))
    lines = bars(9, angles, torch.zeros(1))[:, 0]
    answers = torch.einsum("ghw,lhw->gl", found, lines)
    assert answers.argmax(1).tolist() == list(range(8))
    torch.testing.assert_close(gabors(9, angles, 5.0, math.pi / 2).flip(1, 2), -gabors(9, angles, 5.0, math.pi / 2))


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: bars(0, torch.zeros(1), torch.zeros(1)), "side"),
        (lambda: bars(5, torch.zeros(1), torch.zeros(1), width=0.0), "width"),
        (lambda: arcs(5, torch.zeros(1), MIDDLE, -1.0, 0.0), "length"),
        (lambda: arcs(5, torch.zeros(1), MIDDLE, float("nan"), 0.0), "length"),
        (lambda: arcs(5, torch.zeros(1), MIDDLE, 1.0, -0.1), "turn"),
        (lambda: arcs(5, torch.zeros(1), MIDDLE, 1.0, 7.0), "turn"),
        (lambda: gratings(5, torch.zeros(1), torch.zeros(1), 1.0), "wavelength"),
        (lambda: gabors(1, torch.zeros(1), 4.0), "side"),
        (lambda: gabors(5, torch.zeros(1), 4.0, sigma=0.0), "sigma"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, wrong):
    with pytest.raises(InputError, match=wrong):
        make()
