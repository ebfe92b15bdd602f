"""The count of linear regions."""

import pytest
import torch

from limelight.errors import InputError
from limelight.interpret.linear_regions import count_linear_regions

GRID = torch.cartesian_prod(torch.linspace(-2, 2, 40), torch.linspace(-2, 2, 40))


def test_a_plane_is_one_piece():
    assert count_linear_regions(lambda p: 3 * p[:, 0] - p[:, 1] + 1, GRID) == 1


def test_each_fold_adds_one():
    assert count_linear_regions(lambda p: p[:, 0].abs(), GRID) == 2
    assert count_linear_regions(lambda p: p[:, 0].abs() + p[:, 1].abs(), GRID) == 4


def test_a_region_with_too_few_points_is_not_counted():
    def corner(p):
        return p[:, 0] + 5 * torch.relu(p[:, 0] + p[:, 1] - 3.7)

    assert count_linear_regions(corner, GRID) == 1
    assert count_linear_regions(corner, GRID, share=1e-3) == 2


def test_the_transition_between_two_planes_is_not_counted():
    assert count_linear_regions(lambda p: p[:, 0] * torch.sigmoid(200 * p[:, 1]), GRID) == 2


@pytest.mark.parametrize(
    ("f", "x", "told"),
    [
        (lambda p: p, GRID, "map"),
        (lambda p: p[:, 0], GRID[0], "points of shape"),
        (lambda p: p[:, 0], GRID[:0], "n ≥ 1"),
    ],
)
def test_a_model_that_is_no_function_of_points_is_refused(f, x, told):
    with pytest.raises(InputError, match=told):
        count_linear_regions(f, x)


@pytest.mark.parametrize("share", [0, 1, -1, float("nan")])
def test_an_invalid_share_is_refused(share):
    with pytest.raises(InputError, match="share"):
        count_linear_regions(lambda p: p[:, 0], GRID, share=share)
