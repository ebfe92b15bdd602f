"""Rows of images, and words below one of them."""

import numpy as np

from limelight import figures
from limelight.figures.grids import tiled

ROWS = {"one": np.full((3, 2, 4), 0.2), "two": np.full((3, 2, 4), 0.7)}


def test_images_stand_in_named_rows_and_columns_with_gaps_between():
    canvas = tiled(ROWS, "one")
    assert canvas.shape[1] == 3 * 5 - 1
    assert np.isnan(canvas[:, 4]).all()
    for name, top in zip(ROWS, figures.image_rows(ROWS, "abc", "one").layout.yaxis.tickvals, strict=True):
        np.testing.assert_array_equal(canvas[int(top) : int(top) + 2, 5:9], ROWS[name][1])
    assert np.isfinite(canvas).sum() == 6 * 8


def test_words_are_between_their_row_and_the_next_or_below_the_last():
    for under, above, below in (("one", 1, 8), ("two", 4, 11)):
        figure = figures.image_rows(ROWS, ["a", "b", "c"], under)
        rows = tiled(ROWS, under)
        assert list(figure.data[1].text) == ["a", "b", "c"]
        assert list(figure.data[1].x) == [1.5, 6.5, 11.5]
        assert above < figure.data[1].y[0] < below
        assert np.isnan(rows[round(figure.data[1].y[0])]).all()
        assert figure.layout.yaxis.range == (len(rows) - 0.5, -0.5)
        assert list(figure.layout.yaxis.ticktext) == ["one", "two"]
