"""Boxes are drawn where they are, each on its own image."""

import numpy as np

from limelight import figures


def test_a_box_is_drawn_around_the_pixels_that_it_holds():
    images = np.zeros((5, 6, 8))
    images[4, 2:4, 3:7] = 1
    boxes = np.zeros((5, 4))
    boxes[4] = 2, 3, 4, 7  # top, left, bottom, right
    figure = figures.boxed_images(images, {"true box": boxes, "missing": None}, across=4)
    shown, outline = figure.data
    assert (outline.name, len(outline.x)) == ("true box", 5 * 6)
    x, y = np.array(outline.x).reshape(5, 6)[4, :5], np.array(outline.y).reshape(5, 6)[4, :5]
    rows, cols = np.nonzero(np.nan_to_num(np.array(shown.z)) == 1)
    assert (x.min(), x.max(), y.min(), y.max()) == (
        cols.min() - 0.5, cols.max() + 0.5, rows.min() - 0.5, rows.max() + 0.5,
    )  # fmt: skip
    assert rows.min() == 8 + 2  # in the second row of images, which begins below the first and a gap of two pixels
    assert np.isnan(np.array(outline.x)[5::6].astype(float)).all()


def test_images_that_no_trial_kept_leave_an_empty_figure():
    figure = figures.boxed_images(None, {"true box": None})
    assert figure.layout.height
    assert figures.map_grid(None, {"map": None}, 4) == ()


def test_maps_go_from_zero_to_their_own_peak():
    maps = np.stack([np.full((2, 2), 4.0), np.array([[-1.0, 0.0], [5.0, 10.0]]), np.ones((2, 2))])
    scenes, shown = figures.map_grid(np.zeros((3, 2, 2)), {"map": maps}, 2)
    assert shown.layout.title.text == "map"
    z = np.array(shown.data[0].z)
    assert z.shape == (2, 2 + 2 + 2)
    assert np.nanmax(z[:, :2]) == 1
    assert np.nanmax(z[:, 4:]) == 1
    assert (shown.data[0].zmin, shown.data[0].zmax) == (0, 1)
    assert np.array(scenes.data[0].z).shape == z.shape


def test_a_photograph_is_white_where_it_is_bright():
    """On a page of any color: a drawing has the color of ink instead."""
    image = np.array([[[0.0, 1.0]]])
    for photograph in (
        figures.boxed_images(image, {}, colors=figures.PHOTOGRAPH),
        figures.map_grid(image, {}, 1, figures.PHOTOGRAPH)[0],
    ):
        assert [color for _, color in photograph.data[0].colorscale] == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert figures.boxed_images(image, {}).data[0].colorscale[1][1] != "rgb(255, 255, 255)"
