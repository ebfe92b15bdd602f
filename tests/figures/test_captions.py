"""Images with captions: each has its own words below it, marked as right or wrong."""

import numpy as np
import pytest

from limelight.figures import captioned_images
from limelight.figures.predictions import RIGHT, WRONG


def test_each_image_has_its_caption_below_it():
    images = np.arange(1, 6)[:, None, None] / 10 * np.ones((5, 4, 4))
    grid, words = captioned_images(images, list("abcde"), [True, False] * 2 + [True], "title", across=2).data
    assert list(words.text) == ["a ✓", "b ✗", "c ✓", "d ✗", "e ✓"]
    assert list(words.textfont.color) == [RIGHT, WRONG, RIGHT, WRONG, RIGHT]
    canvas = np.asarray(grid.z, dtype=float)
    for image, x, y in zip(images, words.x, words.y, strict=True):
        above = canvas[int(y) - 2 - 3 : int(y) - 1, round(x) - 2 : round(x) + 2]
        assert np.nanmax(above) == np.nanmin(above) == image[0, 0]


def test_no_images_are_an_empty_figure():
    assert captioned_images(None, [], [], "title").layout.height


def test_a_caption_for_each_image_is_asked_for():
    with pytest.raises(ValueError, match="2 images have 1 captions"):
        captioned_images(np.zeros((2, 4, 4)), ["a"], [True, True], "title")
