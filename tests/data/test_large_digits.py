"""Digits on a canvas lie where they are put, whole, and turn about its middle."""

import pytest
import torch

from limelight import InputError
from limelight.data.digits import digits
from limelight.data.large_digits import DIGIT, SIDE, anywhere, on_canvas, turned


def test_a_digit_lies_where_it_is_put():
    images = digits()[0][:4]
    found = on_canvas(images, torch.tensor([[0, 0], [2, -3], [-8, 8], [8, 0]]))
    large = torch.nn.functional.interpolate(images[:, None], (DIGIT, DIGIT), mode="bilinear")[:, 0]
    for image, digit, (top, left) in zip(found, large, [(8, 8), (10, 5), (0, 16), (16, 8)], strict=True):
        torch.testing.assert_close(image[top : top + DIGIT, left : left + DIGIT], digit)
        assert image.sum() == pytest.approx(float(digit.sum()), rel=1e-5)
    with pytest.raises(InputError, match="at most 8 pixels, got 9"):
        on_canvas(images[:1], torch.tensor([[0, -9]]))
    assert on_canvas(images[:0], torch.zeros(0, 2, dtype=torch.long)).shape == (0, SIDE, SIDE)


def test_digits_reach_as_far_as_is_said_each_way():
    found = anywhere(torch.ones(400, 8, 8), 2, torch.Generator().manual_seed(0))
    rows, columns = ((found > 0).any(axis).int().argmax(1) for axis in (2, 1))
    for first in (rows, columns):
        assert sorted(set(first.tolist())) == [6, 7, 8, 9, 10]
        assert int(first.bincount().max()) < 120


def test_images_turn_counterclockwise_about_their_middle():
    images = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned(images, 0.0), images)
    torch.testing.assert_close(turned(images, 90.0), images.rot90(1, (1, 2)), atol=1e-5, rtol=0)
    smooth = torch.nn.functional.avg_pool2d(torch.rand(2, 36, 36, generator=torch.Generator().manual_seed(1)), 5, 1)
    back = turned(turned(smooth, 20.0), -20.0)
    assert float((back - smooth)[:, 10:-10, 10:-10].abs().max()) < 0.05
    assert turned(torch.ones(1, 9, 9), 45.0)[0, 0, 0] == 0
    with pytest.raises(InputError, match="square"):
        turned(images[:, :5], 10.0)
