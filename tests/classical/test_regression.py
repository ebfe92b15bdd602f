"""Kernel regression and classification: beside the published equation, dense in float64, on real data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.base import clone
from sklearn.metrics.pairwise import laplacian_kernel, rbf_kernel
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_estimator

from limelight import InputError
from limelight.classical.points import median_distance
from limelight.classical.regression import KernelClassifier, KernelRegressor
from limelight.similarity import Laplacian

BOTH = [KernelRegressor, KernelClassifier]
REGRESSION = {
    "diabetes": datasets.load_diabetes(return_X_y=True),
    "wine": (scale(datasets.load_wine().data[:, 1:]), datasets.load_wine().data[:, 0]),
    "iris": (datasets.load_iris().data[:, :3], datasets.load_iris().data[:, 3]),
}
CLASSES = {
    "iris": datasets.load_iris(return_X_y=True),
    "breast cancer": (scale(datasets.load_breast_cancer().data), datasets.load_breast_cancer().target),
    "digits": datasets.load_digits(return_X_y=True),
}


@pytest.mark.parametrize("kind", BOTH)
def test_passes_scikit_learns_checks(kind):
    check_estimator(kind(), on_skip=None)


@pytest.mark.parametrize("bandwidth", [None, 0.5])
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_is_the_published_equation(name, bandwidth):
    X, y = REGRESSION[name]
    bandwidth = bandwidth and bandwidth * median_distance(torch.from_numpy(X))
    model = KernelRegressor(bandwidth).fit(X[::2], y[::2])
    W = rbf_kernel(X[1::2], X[::2], gamma=0.5 / model.bandwidth_**2)
    np.testing.assert_allclose(model.predict(X[1::2]), W @ y[::2] / W.sum(1), rtol=1e-12)


@pytest.mark.parametrize("bandwidth", [None, 0.3])
@pytest.mark.parametrize("name", CLASSES)
def test_classification_is_the_published_equation(name, bandwidth):
    X, y = CLASSES[name]
    bandwidth = bandwidth and bandwidth * median_distance(torch.from_numpy(X))
    model = KernelClassifier(bandwidth).fit(X[::2], y[::2])
    W = rbf_kernel(X[1::2], X[::2], gamma=0.5 / model.bandwidth_**2)
    shares = W @ (y[::2, None] == np.unique(y)) / W.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X[1::2]), shares, atol=1e-13)
    np.testing.assert_array_equal(model.predict(X[1::2]), np.unique(y)[shares.argmax(1)])


def test_float32_answers_in_float32_and_errs_by_its_rounding():
    X, y = REGRESSION["diabetes"]
    wide, narrow = (KernelRegressor().fit(X.astype(dtype), y).predict(X.astype(dtype)) for dtype in ("f8", "f4"))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)


def test_a_query_far_from_float32_points_is_computed_in_float64():
    X = np.random.default_rng(0).normal(size=(200, 3)).astype("f4")
    y = X.sum(1)
    far = np.array([[3e5, 2e5, 1e5]], dtype="f4")
    model = KernelRegressor(bandwidth=1e3).fit(X, y)
    scores = -((far.astype("f8") - X.astype("f8")) ** 2).sum(1) / 2e6
    weights = np.exp(scores - scores.max())
    with pytest.warns(UserWarning, match="underflows"):
        found = model.predict(far)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, weights @ y.astype("f8") / weights.sum(), rtol=1e-5)


def test_many_targets_are_each_their_own():
    X, y = REGRESSION["diabetes"]
    Y = np.stack([y, X[:, 2]], 1)
    both = KernelRegressor().fit(X, Y).predict(X)
    assert both.shape == Y.shape
    np.testing.assert_allclose(both[:, 0], KernelRegressor().fit(X, y).predict(X), rtol=1e-12)


@pytest.mark.parametrize("kind", BOTH)
def test_any_similarity_may_stand_in(kind):
    X, y = CLASSES["iris"]
    model = clone(kind(similarity=Laplacian(0.5))).fit(X, y)
    W = laplacian_kernel(X, gamma=2)
    shares = W @ (y[:, None] == np.unique(y)) / W.sum(1, keepdims=True)
    expected = shares if kind is KernelClassifier else shares @ np.unique(y)
    found = model.predict_proba(X) if kind is KernelClassifier else model.predict(X)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(st.integers(0, 1000), st.floats(0.2, 5), st.floats(-3, 3))
def test_predictions_stay_within_the_targets_and_follow_shift_and_scale(seed, h, shift):
    generator = np.random.default_rng(seed)
    X, y, Q = generator.normal(size=(20, 3)), generator.normal(size=20), generator.normal(size=(10, 3))
    plain = KernelRegressor(h).fit(X, y).predict(Q)
    assert y.min() - 1e-9 <= plain.min() <= plain.max() <= y.max() + 1e-9
    np.testing.assert_allclose(KernelRegressor(2 * h).fit(2 * X + shift, y).predict(2 * Q + shift), plain, atol=1e-9)
    np.testing.assert_allclose(KernelRegressor(h).fit(X, 3 * y + shift).predict(Q), 3 * plain + shift, atol=1e-9)


@pytest.mark.parametrize("X", [[[1.0, 2.0]], [[1.0, 2.0]] * 5], ids=["one point", "duplicates"])
def test_where_all_points_coincide_the_mean_is_predicted(X):
    y = np.arange(len(X), dtype=float)
    np.testing.assert_allclose(KernelRegressor().fit(X, y).predict([[1.0, 2.0], [2.0, 2.0]]), y.mean())


def test_constant_features_change_nothing():
    X, y = REGRESSION["iris"]
    more = np.hstack([X, np.full((len(X), 2), 1e3)])
    np.testing.assert_allclose(KernelRegressor().fit(more, y).predict(more), KernelRegressor().fit(X, y).predict(X))


def test_a_bandwidth_under_which_rows_underflow_says_so_and_suggests_one():
    X, y = REGRESSION["iris"]
    model = KernelRegressor(0.01).fit(X[::2], y[::2])
    with pytest.warns(UserWarning, match=r"so small that every weight of \d+ of 75 points underflows.*median distance"):
        found = model.predict(X[1::2])
    nearest = ((X[1::2, None] - X[None, ::2]) ** 2).sum(-1).min(1)
    assert np.isfinite(found).all()
    assert (nearest / (2 * 0.01**2) > 710).any()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("bandwidth", [0, -1.0, np.inf, np.nan, True, "wide"])
def test_refuses_a_bandwidth_that_is_none(kind, bandwidth):
    with pytest.raises(InputError, match=r"bandwidth=…\) expects a positive number or None"):
        kind(bandwidth).fit(*CLASSES["iris"])


def test_refuses_a_bandwidth_too_small_to_tell_distances_apart():
    X, y = REGRESSION["iris"]
    with pytest.raises(InputError, match=r"cannot be computed in its units in torch.float32; the median distance is 2"):
        KernelRegressor(1e-3).fit(X.astype("f4"), y)


def test_refuses_a_default_that_an_outlier_makes_too_small():
    X = np.random.default_rng(0).normal(size=(99, 2)).astype("f4")
    with pytest.raises(
        InputError, match=r"the median distance, .* which KernelRegressor takes as its bandwidth, is so"
    ):
        KernelRegressor().fit(np.vstack([X, [[1e6, 0]]]).astype("f4"), np.zeros(100))


def test_refuses_what_is_no_similarity_and_two_bandwidths():
    with pytest.raises(InputError, match=r"similarity=…\) expects a limelight Similarity"):
        KernelClassifier(similarity="rbf").fit(*CLASSES["iris"])
    with pytest.raises(InputError, match="takes a bandwidth or a similarity"):
        KernelClassifier(1.0, Laplacian()).fit(*CLASSES["iris"])


def test_refuses_nan():
    X, y = REGRESSION["iris"]
    with pytest.raises(ValueError, match="Input X contains NaN"):
        KernelRegressor().fit(np.where(X[0, 0] == X, np.nan, X), y)
