"""Mean shift and blurring mean shift: compared with the published equation in float64, and with scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import cluster, datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_estimator

from limelight import InputError
from limelight.classical.modes import BlurringMeanShift, MeanShift, bandwidth_of_share
from limelight.classical.points import median_distance

BOTH = [MeanShift, BlurringMeanShift]
REAL = {
    "iris": (datasets.load_iris().data, 0.5),
    "wine": (scale(datasets.load_wine().data), 1.5),
    "digits": (datasets.load_digits().data[:300], 14.0),
}


def step(Q, X, h):
    W = rbf_kernel(Q, X, gamma=0.5 / h**2)
    return W @ X / W.sum(1, keepdims=True)


def climbed(X, h, steps=3000):
    """Moves every point separately, with many more steps than it needs."""
    at = X
    for _ in range(steps):
        before, at = at, step(at, X, h)
        if np.abs(at - before).max() < 1e-7 * h:
            return at
    raise AssertionError("the oracle has not settled")


def in_order(centers):
    """Clusters with equally many points are equally dense, so rounding decides which comes first."""
    return centers[np.lexsort(centers.T)]


@pytest.mark.parametrize("kind", BOTH)
def test_passes_scikit_learns_checks(kind):
    check_estimator(kind(tol=0.3), on_skip=None)  # fewer steps, to save time


@pytest.mark.parametrize("name", REAL)
def test_each_point_finds_the_mode_that_the_published_equation_leads_it_to(name):
    X, h = REAL[name]
    model, modes = MeanShift(h, max_iter=3000, tol=1e-6).fit(X), climbed(X, h)
    np.testing.assert_allclose(model.cluster_centers_[model.labels_], modes, atol=0.02 * h)
    np.testing.assert_array_equal(model.predict(X), model.labels_)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_are_the_published_equation(name, steps):
    X, h = REAL[name]
    at = X
    model = BlurringMeanShift(h, max_iter=steps, tol=1e-12)
    with pytest.warns(ConvergenceWarning, match=f"still move after max_iter={steps} steps"):
        model.fit(X)
    for _ in range(steps):
        at = step(at, at, h)
    gaps = euclidean_distances(model.cluster_centers_, at)
    np.testing.assert_allclose(gaps.min(1), 0, atol=1e-6 * h)  # a center is one of the points
    assert (euclidean_distances(model.cluster_centers_) + h * np.eye(len(gaps)) >= h).all()
    assert (gaps.min(0) < h).all()


@pytest.mark.parametrize("kind", BOTH)
def test_finds_blobs_as_well_as_scikit_learn(kind):
    X, y = datasets.make_blobs(400, n_features=5, centers=8, random_state=0)
    radius = cluster.estimate_bandwidth(X, quantile=0.1)
    ours = adjusted_rand_score(y, kind(radius / 7**0.5).fit(X).labels_)
    theirs = adjusted_rand_score(y, cluster.MeanShift(bandwidth=radius).fit(X).labels_)
    assert ours >= theirs - 0.01
    assert ours > 0.95


def test_the_default_bandwidth_finds_blobs():
    X, y = datasets.make_blobs(400, n_features=10, centers=8, random_state=0)
    model = MeanShift().fit(X)
    assert adjusted_rand_score(y, model.labels_) > 0.95
    assert model.n_iter_ > 1


def test_a_point_belongs_to_the_mode_it_climbs_to_and_not_to_the_nearest():
    """A long thin tail reaches toward the wrong center, so assignment by distance would be wrong."""
    tail = np.linspace(0, 6, 61)[:, None] * np.array([[1.0, 0.0]])
    X = np.vstack([np.repeat(tail[:1], 30, 0), tail, np.repeat([[7.5, 0.0]], 200, 0)])
    model = MeanShift(0.8, max_iter=2000).fit(X)
    modes = climbed(X, 0.8)
    np.testing.assert_allclose(model.cluster_centers_[model.labels_], modes, atol=0.1)


@given(st.integers(0, 20), st.floats(-5, 5), st.floats(0.1, 10))
@settings(max_examples=8)
def test_clusters_follow_shift_and_scale(seed, shift, factor):
    X = datasets.make_blobs(40, centers=3, cluster_std=0.3, random_state=seed)[0]
    for kind in BOTH:
        plain, moved = kind(0.8).fit(X), kind(0.8 * factor).fit(factor * X + shift)
        expected = in_order(factor * plain.cluster_centers_ + shift)
        np.testing.assert_allclose(in_order(moved.cluster_centers_), expected, atol=0.1 * factor)


@pytest.mark.parametrize("kind", BOTH)
def test_float32_answers_in_float32(kind):
    X, y = datasets.make_blobs(200, centers=3, cluster_std=0.5, random_state=1)
    wide, narrow = (kind(0.8).fit(X.astype(dtype)) for dtype in ("f8", "f4"))
    assert narrow.cluster_centers_.dtype == np.float32
    np.testing.assert_allclose(in_order(narrow.cluster_centers_), in_order(wide.cluster_centers_), atol=0.02)
    assert adjusted_rand_score(narrow.labels_, wide.labels_) == 1
    assert adjusted_rand_score(y, wide.labels_) > 0.9


def test_new_points_climb_too():
    X, _ = datasets.make_blobs(300, centers=3, cluster_std=0.5, random_state=0)
    model = MeanShift(0.8).fit(X[:200])
    modes = climbed(X[:200], 0.8)
    nearest = euclidean_distances(X[200:], X[:200]).argmin(1)
    np.testing.assert_allclose(model.cluster_centers_[model.predict(X[200:])], modes[nearest], atol=0.02)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("X", [[[1.0, 2.0]], [[1.0, 2.0]] * 5], ids=["one point", "duplicates"])
def test_points_that_coincide_are_one_cluster(kind, X):
    model = kind().fit(X)
    np.testing.assert_allclose(model.cluster_centers_, X[:1])
    np.testing.assert_array_equal(model.labels_, 0)


@pytest.mark.parametrize("kind", BOTH)
def test_too_few_steps_are_reported(kind):
    with pytest.warns(ConvergenceWarning, match=r"\d+ points still move after max_iter=1 steps"):
        model = kind(0.5, max_iter=1).fit(REAL["iris"][0])
    assert model.n_iter_ == 1


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("name", "value"),
    [("bandwidth", 0), ("bandwidth", np.nan), ("max_iter", 0), ("tol", 0), ("tol", None)],
)
def test_refuses_invalid_parameters(kind, name, value):
    with pytest.raises(InputError, match=rf"{kind.__name__}\({name}="):
        kind(**{name: value}).fit(REAL["iris"][0])


@pytest.mark.parametrize("kind", BOTH)
def test_refuses_nan(kind):
    with pytest.raises(ValueError, match="Input X contains NaN"):
        kind().fit([[0.0], [np.nan]])


def test_parameters_may_be_numpy_numbers():
    X = np.random.default_rng(0).normal(size=(40, 2))
    one, other = (MeanShift(h, tol=tol).fit(X) for h, tol in ((1.0, 1e-3), (np.float64(1.0), np.float64(1e-3))))
    np.testing.assert_array_equal(one.labels_, other.labels_)


@pytest.mark.parametrize("kind", BOTH)
def test_under_the_smallest_bandwidth_every_place_is_a_mode(kind):
    X = REAL["iris"][0]
    np.testing.assert_allclose(in_order(kind(1e-12).fit(X).cluster_centers_), in_order(np.unique(X, axis=0)))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("unit", "dtype"), [(2.0**-17, "f4"), (2.0**-80, "f4"), (2.0**-500, "f8"), (2.0**20, "f8")])
def test_nothing_depends_on_the_unit(kind, unit, dtype):
    X = REAL["iris"][0].astype(dtype)
    plain, small = kind().fit(X), kind().fit((X * unit).astype(dtype))
    np.testing.assert_array_equal(small.labels_, plain.labels_)
    np.testing.assert_allclose(small.cluster_centers_ / unit, plain.cluster_centers_, rtol=1e-6)
    assert len(plain.cluster_centers_) > 1


@pytest.mark.parametrize("kind", BOTH)
def test_an_outlier_and_an_offset_change_no_cluster_of_the_others(kind):
    X, y = datasets.make_blobs(200, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    beside = np.vstack([X, [[-999_999.0, -999_999.0]]])
    for data in (beside, beside + 1e6):
        labels = kind(1.0).fit(data).labels_
        assert adjusted_rand_score(y, labels[:-1]) == 1
        assert labels[-1] not in labels[:-1]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("n", "d", "k", "seed"), [(500, 20, 3, 0), (300, 10, 8, 0), (1000, 3, 3, 1), (3000, 50, 5, 2)])
def test_the_default_bandwidth_finds_blobs_in_any_number_of_dimensions(kind, n, d, k, seed):
    X, y = datasets.make_blobs(n, n_features=d, centers=k, random_state=seed)
    assert adjusted_rand_score(y, kind().fit(X).labels_) > 0.95


def test_the_default_bandwidth_is_as_good_as_scikit_learns_on_its_own_example():
    X, y = datasets.make_blobs(1000, centers=[[1, 1], [-1, -1], [1, -1]], cluster_std=0.6, random_state=0)
    theirs = cluster.MeanShift(
        bandwidth=cluster.estimate_bandwidth(X, quantile=0.2, random_state=0), bin_seeding=True
    ).fit(X)
    ours = MeanShift().fit(X)
    assert len(ours.cluster_centers_) == len(theirs.cluster_centers_) == 3
    assert adjusted_rand_score(y, ours.labels_) >= adjusted_rand_score(y, theirs.labels_) - 0.01


def test_no_order_of_the_rows_changes_the_default_bandwidth():
    hours = np.column_stack([np.tile(np.arange(24.0), 1000), np.repeat(np.arange(1000.0), 24)])
    mixed = np.random.default_rng(1).permutation(hours)
    for default in (bandwidth_of_share, median_distance):
        assert default(torch.from_numpy(hours)) == default(torch.from_numpy(mixed))
    assert 200 < median_distance(torch.from_numpy(hours)) < 400
    assert 20 < bandwidth_of_share(torch.from_numpy(hours)) < 60


def test_autocast_and_inference_mode_change_nothing():
    X = REAL["iris"][0].astype("f4")
    plain = MeanShift().fit(X)
    with torch.autocast("cpu"), torch.inference_mode():
        model = MeanShift().fit(X)
        np.testing.assert_array_equal(model.predict(X), plain.labels_)
    np.testing.assert_array_equal(model.cluster_centers_, plain.cluster_centers_)
