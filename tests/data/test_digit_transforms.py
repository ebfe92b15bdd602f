"""The arrangements of the digits are as their names say."""

import pytest
import torch

from limelight import InputError
from limelight.data.digit_transforms import arrangements, centered, mirrored
from limelight.data.digits import FRAME, digits


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_middle_is_the_middle():
    images, _ = digits()
    framed = centered(images)
    assert framed.shape == (1797, FRAME, FRAME)
    torch.testing.assert_close(framed[:, 2:10, 2:10], images)
    torch.testing.assert_close(framed.sum((1, 2)), images.sum((1, 2)))
    for wrong in (torch.zeros(2, 7, 8), torch.zeros(2, 14, 14), torch.zeros(8, 8)):
        with pytest.raises(InputError, match="centered expects"):
            centered(wrong)


def test_a_mirror_swaps_left_and_right():
    images = centered(digits()[0][:400])
    torch.testing.assert_close(mirrored(images)[:, :, 0:5], images[:, :, 7:12].flip(-1))
    torch.testing.assert_close(mirrored(mirrored(images)), images)
    torch.testing.assert_close(mirrored(images, share=0), images)
    half = mirrored(images, seeded(), share=0.5)
    turned = (half == images.flip(-1)).all(-1).all(-1)
    assert 150 < turned.sum() < 250
    assert (turned | (half == images).all(-1).all(-1)).all()
    with pytest.raises(InputError, match="number from 0 to 1"):
        mirrored(images, share=1.5)


def test_the_arrangements_show_the_same_digits():
    images = digits()[0][:300]
    ways = arrangements(images, seeded(3))
    assert set(ways) == {"centered", "shifted", "mirrored", "permuted"}
    for way in ways.values():
        torch.testing.assert_close(way.sum((1, 2)), images.sum((1, 2)))
    shifted, shuffled = ways["shifted"].flatten(1), ways["permuted"].flatten(1)
    torch.testing.assert_close(shuffled.sort(-1).values, shifted.sort(-1).values)
    assert not torch.equal(shuffled, shifted)
    again, other = arrangements(images, seeded(3)), arrangements(images, seeded(4))
    assert all(torch.equal(ways[name], again[name]) for name in ways)
    assert not any(torch.equal(ways[name], other[name]) for name in ways if name != "centered")
