"""Measures of how well a map marks an object, compared with their definitions, pair by pair and pixel by pixel."""

import pytest
import torch

from limelight import InputError
from limelight.interpret.marking import overlap_above, ranked_higher, stretched, weight_by_area


@pytest.fixture
def maps():
    return torch.rand(3, 2, 5, 4, generator=torch.Generator().manual_seed(0)).mul(4).round() * torch.arange(1, 7).view(
        3, 2, 1, 1
    )  # with ties


@pytest.fixture
def inside():
    return torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) < 0.4


def test_weight_by_area_is_one_for_an_even_map_and_the_inverse_area_at_most(inside):
    covered = inside.float()
    assert weight_by_area(torch.full((5, 4), 0.3), covered).item() == pytest.approx(1)
    assert weight_by_area(covered, covered).item() == pytest.approx(20 / int(inside.sum()))
    assert weight_by_area(1 - covered, covered).item() == 0


def test_weight_by_area_is_a_mean_over_the_object(maps, inside):
    covered = torch.rand(5, 4, generator=torch.Generator().manual_seed(2))
    found = weight_by_area(maps, covered)
    for i in range(3):
        for j in range(2):
            p = maps[i, j] / maps[i, j].sum()
            assert found[i, j].item() == pytest.approx(float((p * covered).sum() / covered.mean()), rel=1e-5)
    torch.testing.assert_close(weight_by_area(7 * maps, covered), found)  # of any scale


def test_ranked_higher_counts_pairs(maps, inside):
    found = ranked_higher(maps, inside)
    for i in range(3):
        for j in range(2):
            pairs = maps[i, j][inside][:, None] - maps[i, j][~inside]
            right = (pairs > 0).float().mean() + (pairs == 0).float().mean() / 2
            assert found[i, j].item() == pytest.approx(right.item())
    torch.testing.assert_close(ranked_higher(maps.exp(), inside), found)  # only the order counts
    torch.testing.assert_close(ranked_higher(-maps, inside), 1 - found)
    assert ranked_higher(torch.zeros(5, 4), inside).item() == 0.5


def test_stretched_is_from_zero_to_one(maps):
    found = stretched(maps - 9)
    assert (found.amin((-2, -1)) == 0).all()
    assert (found.amax((-2, -1)) == 1).all()
    torch.testing.assert_close(found, stretched(5 * maps + 1))
    assert (stretched(torch.full((2, 2), 4.0)) == 0).all()


def test_overlap_above_counts_pixels(maps, inside):
    shares = torch.tensor([0.1, 0.5, 1.0])
    found = overlap_above(maps, inside, shares)
    assert found.shape == (3, 2, 3)
    for i in range(3):
        for j in range(2):
            for k, share in enumerate(shares):
                above = maps[i, j] >= share * maps[i, j].max()
                right = (above & inside).sum() / (above | inside).sum()
                assert found[i, j, k].item() == pytest.approx(right.item())


@pytest.mark.parametrize(
    ("measure", "arguments", "words"),
    [
        (weight_by_area, (torch.ones(2, 3), torch.ones(3, 2)), "the same rows and cols"),
        (weight_by_area, (-torch.ones(2, 2), torch.ones(2, 2)), "none negative"),
        (weight_by_area, (torch.zeros(2, 2), torch.ones(2, 2)), "not all zero"),
        (weight_by_area, (torch.full((2, 2), torch.inf), torch.ones(2, 2)), "finite"),
        (weight_by_area, (torch.ones(2, 2), torch.zeros(2, 2)), "covers nothing"),
        (ranked_higher, (torch.ones(2), torch.ones(2, 2).bool()), "the same rows and cols"),
        (ranked_higher, (torch.full((2, 2), torch.nan), torch.eye(2).bool()), "finite"),
        (ranked_higher, (torch.ones(2, 2), torch.ones(2, 2).bool()), "both inside and outside"),
        (ranked_higher, (torch.ones(2, 2), torch.zeros(2, 2).bool()), "both inside and outside"),
        (overlap_above, (torch.ones(2, 2), torch.zeros(2, 2).bool(), torch.tensor([0.5])), "at least one pixel"),
    ],
)
def test_what_is_not_defined_is_refused(measure, arguments, words):
    with pytest.raises(InputError, match=words):
        measure(*arguments)
