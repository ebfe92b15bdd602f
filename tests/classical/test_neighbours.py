"""k nearest neighbours: scikit-learn's answers, on real data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets, neighbors
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_estimator

from limelight import InputError
from limelight.classical.neighbours import KNeighborsClassifier, KNeighborsRegressor

BOTH = [KNeighborsRegressor, KNeighborsClassifier]
REAL = {  # without ties, where either neighbour is right
    "wine": (scale(datasets.load_wine().data), datasets.load_wine().target),
    "breast cancer": datasets.load_breast_cancer(return_X_y=True),
    "diabetes": datasets.load_diabetes(return_X_y=True),
    "digits": (scale(datasets.load_digits().data[:600]), datasets.load_digits().target[:600]),
}


@pytest.mark.parametrize("kind", BOTH)
def test_passes_scikit_learns_checks(kind):
    check_estimator(kind(), on_skip=None)


@pytest.mark.parametrize("k", [1, 4, 15])
@pytest.mark.parametrize("name", REAL)
def test_is_scikit_learns(name, k):
    X, y = REAL[name]
    known, asked = slice(None, None, 2), slice(1, None, 2)
    ours, theirs = (
        kind(k).fit(X[known], y[known]).predict(X[asked])
        for kind in (KNeighborsRegressor, neighbors.KNeighborsRegressor)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    if name == "diabetes":
        return
    for method in ("predict", "predict_proba"):
        ours, theirs = (
            getattr(kind(k).fit(X[known], y[known]), method)(X[asked])
            for kind in (KNeighborsClassifier, neighbors.KNeighborsClassifier)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-14)


@given(st.integers(0, 1000), st.integers(1, 20), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_neighbours_are_the_nearest_however_far_and_wherever(seed, k, size, shift):
    generator = np.random.default_rng(seed)
    X, Q, y = generator.normal(size=(20, 2)), generator.normal(size=(7, 2)), generator.normal(size=20)
    nearest = ((Q[:, None] - X[None]) ** 2).sum(-1).argsort(1)[:, :k]
    found = KNeighborsRegressor(k).fit(size * X + shift, y).predict(size * Q + shift)
    np.testing.assert_allclose(found, y[nearest].mean(1), atol=1e-12)


def test_a_point_far_from_all_has_neighbours_too():
    X, y = np.array([[0.0], [1.0], [2.0], [1e4]]), np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(KNeighborsRegressor(2).fit(X, y).predict([[1e5], [0.1], [-1e5]]), [3.5, 1.5, 1.5])


def test_many_targets_are_each_their_own():
    X, y = REAL["diabetes"]
    both = KNeighborsRegressor().fit(X, np.stack([y, -y], 1)).predict(X)
    np.testing.assert_allclose(both[:, 0], -both[:, 1])


@pytest.mark.parametrize("kind", BOTH)
def test_float32_answers_in_float32(kind):
    X, y = REAL["wine"]
    model = kind().fit(X.astype("f4"), y)
    answer = model.predict(X.astype("f4")) if kind is KNeighborsRegressor else model.predict_proba(X.astype("f4"))
    assert answer.dtype == np.float32


@pytest.mark.parametrize("X", [[[1.0, 2.0]], [[1.0, 2.0]] * 5], ids=["one point", "duplicates"])
def test_where_all_points_coincide_all_are_neighbours(X):
    y = np.arange(len(X), dtype=float)
    found = KNeighborsRegressor(len(X)).fit(X, y).predict([[1.0, 2.0], [3.0, 2.0]])
    np.testing.assert_allclose(found, y.mean())


@pytest.mark.parametrize("kind", BOTH)
def test_refuses_more_neighbours_than_points(kind):
    model = kind(6).fit(np.arange(5.0)[:, None], [0, 1, 0, 1, 0])
    with pytest.raises(InputError, match="n_neighbors = 6, n_samples_fit = 5, n_samples = 1"):
        model.predict([[0.0]])


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("k", [0, -1, 2.5, True, "all"])
def test_refuses_a_number_of_neighbours_that_is_none(kind, k):
    with pytest.raises(InputError, match=r"n_neighbors=…\) expects a whole number ≥ 1"):
        kind(k).fit(*REAL["wine"])


@pytest.mark.parametrize("kind", BOTH)
def test_refuses_nan(kind):
    with pytest.raises(ValueError, match="Input X contains NaN"):
        kind().fit([[0.0], [np.nan]], [0, 1])
