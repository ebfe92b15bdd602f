"""Kernel regression and classification: compared with the published equation in float64, on real data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.base import clone
from sklearn.metrics.pairwise import laplacian_kernel, rbf_kernel
from sklearn.model_selection import cross_val_score
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


@pytest.mark.parametrize("bandwidth", [None, 1.0])
@pytest.mark.parametrize("kind", BOTH)
def test_passes_scikit_learns_checks(kind, bandwidth):
    # Of a duplicated point one copy is left out, of a point with weight two both, so other bandwidths may be best.
    excused = {"check_sample_weight_equivalence_on_dense_data": "leave-one-out"} if bandwidth is None else {}
    check_estimator(kind(bandwidth), on_skip=None, expected_failed_checks=excused)


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


def test_several_targets_are_predicted_independently():
    X, y = REGRESSION["diabetes"]
    Y = np.stack([y, X[:, 2]], 1)
    h = median_distance(torch.from_numpy(X))
    both = KernelRegressor(h).fit(X, Y).predict(X)
    assert both.shape == Y.shape
    np.testing.assert_allclose(both[:, 0], KernelRegressor(h).fit(X, y).predict(X), rtol=1e-12)


@pytest.mark.parametrize("kind", BOTH)
def test_any_similarity_may_replace_the_gaussian(kind):
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
def test_refuses_an_invalid_bandwidth(kind, bandwidth):
    with pytest.raises(InputError, match=r"bandwidth=…\) expects a positive number or None"):
        kind(bandwidth).fit(*CLASSES["iris"])


def exact(Q, X, y, h):
    W = np.exp(-((Q[:, None] - X[None]) ** 2).sum(-1) / (2 * h**2))
    return W @ y / W.sum(1)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_an_outlier_leaves_the_estimates_of_the_others_exact(dtype):
    random = np.random.default_rng(0)
    X = np.vstack([random.uniform(size=(300, 2)), [[-999_999.0, -999_999.0]]]).astype(dtype)
    y = np.append(np.sin(6 * X[:-1, 0]), 5.0)
    found = KernelRegressor(0.1).fit(X, y).predict(X)
    expected = exact(X.astype("f8"), X.astype("f8"), y, 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize(("unit", "dtype"), [(2.0**-17, "f4"), (2.0**-90, "f4"), (2.0**-400, "f8"), (2.0**20, "f8")])
def test_nothing_depends_on_the_unit(unit, dtype):
    X, y = (x.astype(dtype) for x in REGRESSION["iris"])
    plain, scaled = KernelRegressor().fit(X, y), KernelRegressor().fit(unit * X, unit * y)
    assert scaled.bandwidth_ == pytest.approx(unit * plain.bandwidth_, rel=1e-12)
    np.testing.assert_allclose(scaled.predict(unit * X), unit * plain.predict(X), rtol=1e-6)


def test_the_default_bandwidth_is_the_best_of_those_tried_when_each_point_is_left_out():
    X, y = REGRESSION["diabetes"]
    median, errors = median_distance(torch.from_numpy(X)), {}
    squares = ((X[:, None] - X[None]) ** 2).sum(-1)
    for h in median * 2.0 ** (1 - np.arange(15) / 2):
        W = np.exp(-squares / (2 * h**2)) * (1 - np.eye(len(X)))
        told = np.divide(W @ y, W.sum(1), out=np.full(len(y), np.inf), where=W.sum(1) > 1e-300)
        errors[h] = ((told - y) ** 2).sum()
    assert KernelRegressor().fit(X, y).bandwidth_ == pytest.approx(min(errors, key=errors.get))


def test_the_default_bandwidth_explains_diabetes_as_a_grid_does():
    X, y = REGRESSION["diabetes"]
    assert cross_val_score(KernelRegressor(), X, y, cv=5).mean() > 0.42


def test_no_order_of_the_rows_changes_the_default_bandwidth():
    random = np.random.default_rng(0)
    X = np.repeat(random.integers(0, 40, (1500, 2)), 2, 0).astype(float)
    y = np.sin(X.sum(1) / 10) + random.normal(0, 0.3, 3000)
    order = random.permutation(3000)
    one, other = KernelRegressor().fit(X, y), KernelRegressor().fit(X[order], y[order])
    assert one.bandwidth_ == other.bandwidth_


def test_constant_targets_take_the_widest_bandwidth():
    X, _ = REGRESSION["iris"]
    assert KernelRegressor().fit(X, np.full(len(X), 7.0)).bandwidth_ == 2 * median_distance(torch.from_numpy(X))


@pytest.mark.parametrize("similarity", [None, Laplacian(0.5)])
@pytest.mark.parametrize("kind", BOTH)
def test_a_weight_of_two_is_the_point_twice_and_a_weight_of_zero_is_none(kind, similarity):
    X, y = CLASSES["iris"]
    w = np.arange(len(X)) % 3
    h = 0.4 if similarity is None else None
    weighted = kind(h, similarity).fit(X, y, sample_weight=w)
    repeated = kind(h, similarity).fit(np.repeat(X, w, 0), np.repeat(y, w))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-9)
    with pytest.raises(InputError, match=r"sample_weight ≥ 0, not all of them zero, got -1 to"):
        kind().fit(X, y, sample_weight=w - 1)


@pytest.mark.parametrize("unit", [1e-310, 1e-50, 1e50, 1e307])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_only_ratios_of_weights_count(dtype, unit):
    X, y = REGRESSION["iris"]
    X, w = X.astype(dtype), 1.0 + np.arange(len(X)) % 3
    for h in (None, 0.4):
        one, other = (KernelRegressor(h).fit(X, y, sample_weight=s * w).predict(X) for s in (1.0, unit))
        np.testing.assert_allclose(other, one, rtol=1e-5)


def test_a_point_of_tiny_weight_counts_where_no_other_is_near():
    X = np.array([[0.0], [100.0]], dtype="f4")
    fitted = KernelRegressor(1.0).fit(X, [1.0, 2.0], sample_weight=[1.0, 1e-60])
    np.testing.assert_allclose(fitted.predict(X), [1.0, 2.0])


def test_autocast_and_inference_mode_change_nothing():
    X, y = (x.astype("f4") for x in REGRESSION["iris"])
    plain = KernelRegressor().fit(X, y).predict(X)
    with torch.autocast("cpu"), torch.inference_mode():
        np.testing.assert_array_equal(KernelRegressor().fit(X, y).predict(X), plain)


def test_refuses_an_invalid_similarity_and_two_bandwidths():
    with pytest.raises(InputError, match=r"similarity=…\) expects a limelight Similarity"):
        KernelClassifier(similarity="rbf").fit(*CLASSES["iris"])
    with pytest.raises(InputError, match="expects a bandwidth or a similarity, which has its own, not both"):
        KernelClassifier(1.0, Laplacian()).fit(*CLASSES["iris"])


def test_refuses_nan():
    X, y = REGRESSION["iris"]
    with pytest.raises(ValueError, match="Input X contains NaN"):
        KernelRegressor().fit(np.where(X[0, 0] == X, np.nan, X), y)
