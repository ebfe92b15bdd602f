"""Rows and tables of images keep their pixels in place, and dots stand where their values are."""

import numpy as np

from limelight import figures


def test_signed_images_are_scaled_each_by_its_largest_size():
    batch = np.array([[[1.0, -2.0]], [[0.0, 0.5]], [[0.0, 0.0]]])
    (figure,) = figures.signed_images({"filters": batch, "missing": None})
    shown = figure.data[0].z
    np.testing.assert_array_equal(shown, [[0.5, -1, np.nan, 0, 1, np.nan, 0, 0]])
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1, 1)
    assert figure.layout.title.text == "filters"


def test_a_table_of_images_has_its_rows_and_columns():
    table = np.arange(2 * 3 * 4 * 4, dtype=float).reshape(2, 3, 4, 4)
    (figure,) = figures.image_tables({"patches": table, "missing": None})
    shown = np.array(figure.data[0].z)
    assert shown.shape == (2 * 4 + 1, 3 * 4 + 2)
    for row in range(2):
        for column in range(3):
            np.testing.assert_array_equal(shown[5 * row :, 5 * column :][:4, :4], table[row, column])
    assert np.isnan(shown[4]).all()
    assert np.isnan(shown[:, 4]).all()


def test_rows_and_columns_are_numbered_from_one_or_from_zero():
    for first in (1, 0):
        (figure,) = figures.matrices({"": np.eye(2, 3)}, "head", "layer", "score", **({} if first else {"first": 0}))
        assert list(figure.data[0].y) == [first, first + 1]
        assert list(figure.data[0].x) == [first, first + 1, first + 2]


def test_a_strip_plot_draws_true_values_only_if_there_are_some():
    series = {"one": np.array([[1.0, 2.0], [3.0, 4.0]]), "two": np.array([[5.0, 6.0]])}
    without = figures.strip_plot(series, None, [1, 2], "layer", "value", "A title")
    assert [trace.name for trace in without.data] == ["one", "two"]
    assert list(without.data[0].y) == [1, 2, 3, 4]
    assert np.round(without.data[1].x).tolist() == [1, 2]
    assert without.layout.title.text == "A title"
    with_truth = figures.strip_plot(series, [1.5, 2.5], [1, 2], "layer", "value")
    assert [trace.name for trace in with_truth.data] == ["truth", "truth", "one", "two"]
    assert [tuple(trace.y) for trace in with_truth.data[:2]] == [(1.5, 1.5), (2.5, 2.5)]


def test_few_rows_have_a_tick_each_and_many_have_what_fits():
    (figure,) = figures.matrices({"weights": np.ones((2, 30)), "missing": None}, "head", "block", "weight")
    assert figure.layout.yaxis.dtick == 1
    assert figure.layout.xaxis.dtick is None
    assert list(figure.data[0].y) == [1, 2]
