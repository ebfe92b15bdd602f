"""Scenes hold each shape once, whole, in every combination of places, and their labels say which pixel is whose."""

import pytest
import torch

from limelight import UnknownNameError
from limelight.data.shapes import CROSSING, KINDS, SIDE, every_scene, outline


def test_outlines_are_what_they_are_called():
    square, up, down, circle = map(outline, KINDS)
    assert square.sum() == 24
    assert (square[1:-1, 1:-1] == 0).all()
    torch.testing.assert_close(up.flip(0), down)
    assert (up[0].sum(), up[-1].sum()) == (1, 7)
    for shape in (square, up, circle):
        torch.testing.assert_close(shape.flip(1), shape)
    torch.testing.assert_close(circle.mT, circle)
    assert circle[0, 0] == circle[3, 3] == 0
    with pytest.raises(UnknownNameError, match="unknown shape 'cirle'; did you mean 'circle'"):
        outline("cirle")


@pytest.mark.parametrize("kinds", [["square"], ["square", "up"], ["circle", "circle"]])
def test_every_scene_is_there_once_and_labeled(kinds):
    images, labels = every_scene(kinds)
    assert len(images) == 36 ** len(kinds)
    assert images.shape == labels.shape == (len(images), SIDE, SIDE)
    if len(set(kinds)) == len(kinds):
        assert len(labels.unique(dim=0)) == len(labels)
    torch.testing.assert_close(images, (labels != 0).float())
    crossing = (labels == CROSSING).flatten(1).sum(1)
    for number, kind in enumerate(kinds, 1):
        own = (labels == number).flatten(1).sum(1)
        assert ((own + crossing) >= outline(kind).sum()).all()
        assert (own <= outline(kind).sum()).all()
    total = sum(outline(kind).sum() for kind in kinds)
    torch.testing.assert_close((labels > 0).flatten(1).sum(1) + len(kinds) * crossing, total.long().expand(len(images)))


def test_shapes_that_cross_share_pixels():
    _, labels = every_scene(["square", "square"])
    same_place = labels[0]
    assert set(same_place.unique().tolist()) == {CROSSING, 0}
    assert (labels == CROSSING).flatten(1).any(1).float().mean() > 0.5
