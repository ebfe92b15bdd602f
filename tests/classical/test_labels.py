"""Label spreading: scikit-learn's steps and answers, on real data, without the graph."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn import datasets, semi_supervised
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_estimator

from limelight import InputError
from limelight.classical import off_diagonal as others
from limelight.classical.labels import LabelSpreading

REAL = {
    "iris": (*datasets.load_iris(return_X_y=True), 20),
    "wine": (scale(datasets.load_wine().data), datasets.load_wine().target, 5),
    "breast cancer": (scale(datasets.load_breast_cancer().data), datasets.load_breast_cancer().target, 0.5),
    "digits": (datasets.load_digits().data[:600] / 16, datasets.load_digits().target[:600], 1),
}

BOTH_SPREAD = (LabelSpreading, semi_supervised.LabelSpreading)


def hidden(y, share=0.8, seed=0):
    return np.where(np.random.default_rng(seed).random(len(y)) < share, -1, y)


def test_passes_scikit_learns_checks():
    check_estimator(LabelSpreading(), on_skip=None)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("name", REAL)
def test_is_scikit_learns_to_rounding(name, stored, monkeypatch):
    monkeypatch.setattr(others, "_STORED", 10_000 * stored)
    X, y, gamma = REAL[name]
    y = hidden(y)
    ours, theirs = (kind(gamma=gamma).fit(X, y) for kind in BOTH_SPREAD)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_allclose(ours.label_distributions_, theirs.label_distributions_, atol=1e-12)
    np.testing.assert_array_equal(ours.transduction_, theirs.transduction_)
    between = (X[1:] + X[:-1]) / 2
    np.testing.assert_allclose(ours.predict_proba(between), theirs.predict_proba(between), atol=1e-11)
    np.testing.assert_array_equal(ours.predict(between), theirs.predict(between))


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.95])
def test_spreading_for_every_alpha(alpha):
    X, y, gamma = REAL["iris"]
    ours, theirs = (kind(gamma=gamma, alpha=alpha, max_iter=1000).fit(X, hidden(y)) for kind in BOTH_SPREAD)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.label_distributions_, theirs.label_distributions_, atol=1e-12)


def test_isolated_pairs_are_labeled_correctly():
    """A share of 1e-40 of the weight decides, so it must not be lost beside the largest term of a row."""
    X = np.array([[0.0], [1.0], [11.0], [11.001], [20.0]])
    y = np.array([0, 0, -1, -1, 1])
    ours, theirs = (kind(gamma=1).fit(X, y) for kind in BOTH_SPREAD)
    np.testing.assert_allclose(ours.label_distributions_, theirs.label_distributions_, rtol=1e-9)
    np.testing.assert_array_equal(ours.transduction_, [0, 0, 1, 1, 1])


@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.1, 10))
def test_is_scikit_learns_on_any_few_points(seed, n, gamma):
    generator = np.random.default_rng(seed)
    X, y = generator.normal(size=(n, 2)), generator.integers(-1, 3, n)
    y[0] = 1
    ours, theirs = (kind(gamma=gamma).fit(X, y) for kind in BOTH_SPREAD)
    np.testing.assert_allclose(ours.label_distributions_, theirs.label_distributions_, atol=1e-10)


def test_order_of_the_points_changes_nothing():
    X, y, gamma = REAL["wine"]
    y, order = hidden(y), np.random.default_rng(1).permutation(len(X))
    plain = LabelSpreading(gamma=gamma).fit(X, y).label_distributions_
    mixed = LabelSpreading(gamma=gamma).fit(X[order], y[order]).label_distributions_
    np.testing.assert_allclose(mixed, plain[order], atol=1e-12)


def test_float32_answers_in_float32():
    X, y, gamma = REAL["iris"]
    model = LabelSpreading(gamma=gamma).fit(X.astype("f4"), hidden(y))
    assert model.label_distributions_.dtype == model.predict_proba(X.astype("f4")).dtype == np.float32
    np.testing.assert_allclose(
        model.label_distributions_, LabelSpreading(gamma=gamma).fit(X, hidden(y)).label_distributions_, atol=1e-5
    )


def test_points_that_no_label_reaches_stay_unlabeled_and_are_reported():
    X = np.array([[0.0], [0.1], [1.0], [1.1], [100.0], [200.0]])
    with pytest.warns(UserWarning, match=r"no label reaches 2 of the points to be labeled.*smaller gamma than 20"):
        model = LabelSpreading().fit(X, [0, -1, 1, -1, -1, -1])
    np.testing.assert_array_equal(model.transduction_, [0, 0, 1, 1, -1, -1])
    np.testing.assert_array_equal(model.label_distributions_[4:], 0)
    with pytest.warns(UserWarning, match="no label reaches 1 of the points asked about"):
        found = model.predict([[0.05], [99.0]])
    np.testing.assert_array_equal(found, [0, -1])


def test_one_point_and_duplicates_keep_their_labels():
    assert LabelSpreading().fit([[1.0, 2.0]], [3]).transduction_ == [3]
    np.testing.assert_array_equal(LabelSpreading().fit([[1.0, 2.0]] * 4, [3, -1, 3, -1]).transduction_, 3)


def test_too_few_steps_are_reported():
    X, y, gamma = REAL["iris"]
    with pytest.warns(ConvergenceWarning, match="max_iter=2 was reached without convergence"):
        model = LabelSpreading(gamma=gamma, max_iter=2).fit(X, hidden(y))
    assert model.n_iter_ == 2


def test_refuses_data_without_any_label():
    with pytest.raises(InputError, match="expects at least one labeled point; all 3 labels are −1"):
        LabelSpreading().fit([[0.0], [1.0], [2.0]], [-1, -1, -1])


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", 0), ("gamma", np.nan), ("max_iter", 0), ("max_iter", 2.5), ("tol", -1), ("tol", "small")],
)
def test_refuses_invalid_parameters(name, value):
    with pytest.raises(InputError, match=rf"LabelSpreading\({name}=…\) expects"):
        LabelSpreading(**{name: value}).fit(*REAL["iris"][:2])


@pytest.mark.parametrize("alpha", [0, 1, -0.5, 1.5, None, np.nan])
def test_refuses_an_alpha_outside_the_open_interval(alpha):
    with pytest.raises(InputError, match=r"alpha=…\) expects a number strictly between 0 and 1"):
        LabelSpreading(alpha=alpha).fit(*REAL["iris"][:2])


def test_under_the_largest_gamma_labels_reach_equal_points_alone():
    with pytest.warns(UserWarning, match="no label reaches 1 of"):
        model = LabelSpreading(gamma=1e20).fit([[0.0], [1.0], [1.0], [2.0]], [0, 1, -1, -1])
    np.testing.assert_array_equal(model.transduction_, [0, 1, 1, -1])


@pytest.mark.parametrize("stored", [True, False])
def test_an_outlier_and_an_offset_change_no_label(stored, monkeypatch):
    monkeypatch.setattr(others, "_STORED", 10_000 * stored)
    X, y, gamma = REAL["iris"]
    y = hidden(y)
    plain = LabelSpreading(gamma=gamma).fit(X, y)
    beside = np.vstack([X, np.full((1, 4), -999_999.0)])
    with pytest.warns(UserWarning, match="no label reaches 1 of"):
        model = LabelSpreading(gamma=gamma).fit(beside, [*y, -1])
    np.testing.assert_allclose(model.label_distributions_[:-1], plain.label_distributions_, atol=1e-12)
    moved = LabelSpreading(gamma=gamma).fit(X + 2.0**20, y)
    np.testing.assert_allclose(moved.label_distributions_, plain.label_distributions_, atol=1e-6)


@pytest.mark.parametrize("unit", [2.0**-30, 2.0**-300, 2.0**30])
def test_the_unit_of_the_data_changes_nothing(unit):
    X, y, gamma = REAL["iris"]
    plain, scaled = (LabelSpreading(gamma=gamma / u**2).fit(X * u, hidden(y)) for u in (1.0, unit))
    np.testing.assert_allclose(scaled.label_distributions_, plain.label_distributions_, atol=1e-14)


def test_sparse_points_are_the_same_points():
    X, y, gamma = REAL["iris"]
    plain, sparse = (LabelSpreading(gamma=gamma).fit(points, hidden(y)) for points in (X, csr_array(X)))
    np.testing.assert_array_equal(sparse.label_distributions_, plain.label_distributions_)
    np.testing.assert_array_equal(sparse.predict_proba(csr_array(X)), plain.predict_proba(X))


def test_autocast_and_inference_mode_change_nothing():
    X, y, gamma = REAL["iris"]
    plain = LabelSpreading(gamma=gamma).fit(X, hidden(y))
    with torch.autocast("cpu"), torch.inference_mode():
        model = LabelSpreading(gamma=gamma).fit(X, hidden(y))
        np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(model.label_distributions_, plain.label_distributions_)


def test_refuses_nan():
    with pytest.raises(ValueError, match="Input X contains NaN"):
        LabelSpreading().fit([[0.0], [np.nan]], [0, 1])
