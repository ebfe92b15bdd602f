"""Scenes hold the digit that their box and their label say, among clutter that neither describes."""

import torch

from limelight.data.cluttered_digits import INK, SIDE, ink_boxes, scenes
from limelight.data.digits import digits


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_box_of_ink_is_the_smallest_that_holds_it():
    image = torch.zeros(2, 8, 8)
    image[0, 2:5, 3] = 1.0
    image[1, 0, 0] = image[1, 7, 6] = INK
    assert ink_boxes(image).tolist() == [[2, 3, 5, 4], [0, 0, 8, 7]]


def test_the_digit_lies_in_its_box():
    one, label = digits()[0][:1], digits()[1][:1]
    made = scenes(one, label, 50, seeded())
    shape = ink_boxes(one)[0]
    ink = one[0, shape[0] : shape[2], shape[1] : shape[3]]
    for image, box in zip(made.images, made.boxes.tolist(), strict=True):
        top, left, bottom, right = box
        assert 0 <= top < bottom <= SIDE
        assert 0 <= left < right <= SIDE
        assert (image[top:bottom, left:right] >= ink).all()
    assert (made.labels == label).all()
    assert len({tuple(box) for box in made.boxes.tolist()}) > 30


def test_scenes_are_those_of_their_seed():
    made, again, other = (scenes(*digits(), 40, seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(made, again, strict=True))
    assert not torch.equal(made.images, other.images)
    assert float(made.images.min()) >= 0
    assert float(made.images.max()) <= 1


def test_clutter_is_more_than_noise():
    """Away from the digit there is ink, so that ink alone does not say where the digit is."""
    made = scenes(*digits(), 200, seeded())
    outside = made.images.clone()
    for image, (top, left, bottom, right) in zip(outside, made.boxes.tolist(), strict=True):
        image[max(top - 1, 0) : bottom + 1, max(left - 2, 0) : right + 2] = 0
    assert ((outside >= 0.5).sum((1, 2)) > 5).float().mean() > 0.8
