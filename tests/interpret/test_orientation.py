"""Orientation selectivity of tuning curves, units and filters whose answer is known."""

import math

import pytest
import torch

from limelight import InputError
from limelight.data.stimuli import bars, gabors
from limelight.interpret.orientation import circular_variance, line_share, preferred_orientation

ANGLES = torch.arange(12, dtype=torch.float64) * math.pi / 12


def test_circular_variance_of_a_cosine_is_known():
    """For r = 1 + m cos 2(θ − φ) the resultant is m / 2 at φ."""
    for m, phi in ((0.0, 0.0), (0.5, 0.3), (1.0, 2.9)):
        responses = 1 + m * (2 * (ANGLES - phi)).cos()
        assert float(circular_variance(responses, ANGLES)) == pytest.approx(1 - m / 2)
        if m:
            assert float(preferred_orientation(responses, ANGLES)) == pytest.approx(phi)


def test_its_extremes_and_what_does_not_change_it():
    one = torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(circular_variance(one, ANGLES), torch.zeros(12, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(preferred_orientation(one, ANGLES), ANGLES)
    responses = torch.rand(5, 12, dtype=torch.float64)
    found = circular_variance(responses, ANGLES)
    torch.testing.assert_close(circular_variance(7 * responses.roll(3, -1), ANGLES), found)
    order = torch.randperm(12)
    torch.testing.assert_close(circular_variance(responses[:, order], ANGLES[order]), found)
    torch.testing.assert_close(circular_variance(responses, ANGLES + 0.4), found)
    opposite = torch.zeros(12, dtype=torch.float64)
    opposite[[0, 6]] = 1  # two orientations at right angles cancel
    assert float(circular_variance(opposite, ANGLES)) == pytest.approx(1)


def test_a_unit_that_responds_to_nothing_has_no_selectivity():
    assert circular_variance(torch.zeros(2, 12, dtype=torch.float64), ANGLES).isnan().all()


def test_units_of_known_answer():
    """A Gabor is selective and prefers its own orientation; a disk, shown the same bars, is not."""
    angles = ANGLES.float()
    at = torch.arange(9) - 4
    disk = ((at[:, None] ** 2 + at**2) < 10).float()[None]
    shown = bars(25, angles, torch.arange(8) / 2)
    for filters, low, high in ((gabors(9, angles, 6.0, sigma=2.5), 0.5, 1.0), (disk, 0.0, 0.05)):
        answers = torch.nn.functional.conv2d(shown.flatten(0, 1)[:, None], filters[:, None]).relu()
        best = answers.amax((2, 3)).unflatten(0, (12, 8)).amax(1).mT
        selectivity = 1 - circular_variance(best, angles)
        assert low <= float(selectivity.min()) <= float(selectivity.max()) <= high
        if len(filters) == 12:
            off = (preferred_orientation(best, angles) - angles + math.pi / 2).remainder(math.pi) - math.pi / 2
            assert float(off.abs().max()) < 0.05


def test_lines_of_filters_of_known_answer():
    at = torch.arange(5) - 2.0
    x, y = at.expand(5, 5), -at[:, None].expand(5, 5)
    oblique = [(3 * (x * math.sin(t) - y * math.cos(t)) / 4).tanh() for t in (0.0, math.pi / 4, math.pi / 2, 2.0)]
    found = line_share(torch.stack([*oblique, x, y.square(), (x.square() + y.square() == 0).float()]))
    assert float(found[:6].min()) > 0.95
    assert float(found[4]) == pytest.approx(1)
    assert float(found[6]) < 0.2  # a spot
    noise = line_share(torch.randn(1000, 5, 5, generator=torch.Generator().manual_seed(0)))
    assert float(noise.mean()) == pytest.approx(0.3, abs=0.05)
    assert float(line_share(gabors(5, ANGLES.float(), 4.0)).min()) > 0.6


def test_neither_size_nor_mean_of_a_filter_matters():
    filters = torch.randn(6, 5, 5, dtype=torch.float64)
    found = line_share(filters)
    torch.testing.assert_close(line_share(1e-12 * filters), found)
    torch.testing.assert_close(line_share(filters + 3), found)
    torch.testing.assert_close(line_share(filters.mT), found)
    assert line_share(torch.ones(1, 5, 5)).isnan().all()
    assert float(line_share(torch.randn(4, 3, 3)).max()) <= 1 + 1e-6


@pytest.mark.parametrize("measure", [circular_variance, preferred_orientation])
def test_responses_that_cannot_be_judged_are_refused(measure):
    for wrong in (torch.full((12,), -1.0), torch.full((12,), float("nan")), torch.full((12,), float("inf"))):
        with pytest.raises(InputError, match="finite and at least 0"):
            measure(wrong, ANGLES)
    with pytest.raises(InputError, match="orientations"):
        measure(torch.ones(11), ANGLES)
    for uneven in (2 * ANGLES, ANGLES.square(), torch.zeros(12)):
        with pytest.raises(InputError, match="equal steps"):
            measure(torch.ones(12), uneven)
    with pytest.raises(InputError, match="at least three"):
        measure(torch.ones(2), ANGLES[:2])


def test_filters_that_cannot_be_judged_are_refused():
    for wrong in (torch.ones(5, 5), torch.ones(1, 5, 4), torch.ones(1, 2, 2)):
        with pytest.raises(InputError, match="filters"):
            line_share(wrong)
