"""Curvature preference of responses and of units whose answer is known."""

import math

import pytest
import torch

from limelight import InputError
from limelight.data.stimuli import arcs
from limelight.interpret.curvature import curvature_preference

AROUND = torch.arange(16) * math.pi / 8
MIDDLE = torch.zeros(1, 2)


def test_preference_is_the_contrast_of_the_best_responses():
    straight = torch.tensor([1.0, 3.0, 0.0, 2.0, 0.0])
    curved = torch.tensor([[1.0, 3.0], [1.0, 0.0], [0.5, 1.0], [2.0, 1.0], [0.0, 0.0]])
    found = curvature_preference(straight, curved)
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5, 1.0, 0.0, torch.nan]), equal_nan=True)
    torch.testing.assert_close(curvature_preference(9 * straight, 9 * curved), found, equal_nan=True)


def test_units_of_known_answer():
    """A template of a semicircle, without a mean, prefers arcs; one of a segment prefers segments, a disk neither."""

    def template(turn):
        drawn = arcs(15, torch.tensor([0.4]), MIDDLE, 10.0, turn)[0, 0]
        blurred = torch.nn.functional.avg_pool2d(drawn[None], 7, 1, 3)[0]
        return drawn - blurred * drawn.sum() / blurred.sum()

    at = torch.arange(15) - 7
    disk = ((at[:, None] ** 2 + at**2) <= 49).float()
    filters = torch.stack([template(math.pi), template(0.0), disk])[:, None]

    def best(turn):
        shown = arcs(32, AROUND, MIDDLE, 10.0, turn)[:, 0, None]
        return torch.nn.functional.conv2d(shown, filters).relu().amax((0, 2, 3))

    found = curvature_preference(best(0.0), torch.stack([best(turn) for turn in (1.0, 2.0, math.pi)], -1))
    assert float(found[0]) > 0.1
    assert float(found[1]) < -0.02
    assert abs(float(found[2])) < 0.03


def test_responses_that_cannot_be_judged_are_refused():
    for straight, curved in ((torch.ones(3), torch.ones(3)), (torch.ones(3), torch.ones(2, 4)),
                             (torch.ones(3), torch.ones(3, 0))):  # fmt: skip
        with pytest.raises(InputError, match="curvature_preference expects responses"):
            curvature_preference(straight, curved)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="finite and at least 0"):
            curvature_preference(torch.tensor([wrong]), torch.ones(1, 2))
        with pytest.raises(InputError, match="finite and at least 0"):
            curvature_preference(torch.ones(1), torch.tensor([[1.0, wrong]]))
