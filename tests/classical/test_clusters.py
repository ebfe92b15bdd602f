"""Soft k-means and fuzzy c-means: compared with scikit-learn's k-means and the published equations, on real data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from limelight import Attention, InputError
from limelight.classical.clusters import FuzzyCMeans, LogDistance, SoftKMeans
from tests.classical.real import REAL, squares


@pytest.fixture(params=REAL, name="X")
def _real(request):
    return REAL[request.param]


def softmax(s):
    p = np.exp(s - s.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def five(X):
    return X[:: len(X) // 5][:5]


def test_soft_k_means_is_k_means_as_the_temperature_falls(X):
    hard = cluster.KMeans(5, init=five(X), n_init=1, tol=0).fit(X)
    farther = [
        np.abs(SoftKMeans(5, h, init=five(X)).fit(X).cluster_centers_ - hard.cluster_centers_).max()
        for h in np.array([1e-1, 1e-4]) * hard.transform(X).max()
    ]
    assert farther[1] < 1e-6 < farther[0]


def test_a_step_of_soft_k_means_is_the_published_one(X):
    with pytest.warns(ConvergenceWarning, match="allow more steps"):
        ours = SoftKMeans(5, init=five(X), max_iter=1, tol=0).fit(X)
    h = np.sqrt(squares(X, five(X)).min(1).mean() / X.shape[1])
    u = softmax(-squares(X, five(X)) / (2 * h**2))
    np.testing.assert_allclose(ours.bandwidth_, h)
    np.testing.assert_allclose(ours.cluster_centers_, u.T @ X / u.sum(0)[:, None], atol=1e-11)
    u = softmax(-squares(X, ours.cluster_centers_) / (2 * h**2))
    np.testing.assert_allclose(ours.predict_proba(X), u, atol=1e-11)


@pytest.mark.parametrize("m", [1.3, 2.0, 3.5])
def test_fuzzy_c_means_is_bezdeks(X, m):
    with pytest.warns(ConvergenceWarning, match="allow more steps"):
        ours = FuzzyCMeans(5, m, init=five(X) + 0.1, max_iter=3, tol=0).fit(X)
    centers = five(X) + 0.1
    for _ in range(3):
        u = squares(X, centers) ** (-1 / (m - 1))
        powers = (u / u.sum(1, keepdims=True)) ** m
        centers = powers.T @ X / powers.sum(0)[:, None]
    np.testing.assert_allclose(ours.cluster_centers_, centers, rtol=1e-9, atol=1e-11)
    u = squares(X, centers) ** (-1 / (m - 1))
    np.testing.assert_allclose(ours.predict_proba(X), u / u.sum(1, keepdims=True), atol=1e-10)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(1.05, 500), st.integers(1, 3))
def test_a_point_that_centers_lie_on_belongs_to_them_alone(seed, m, coincide):
    points = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 2)))
    centers = torch.cat([points[:1].expand(coincide, 2), points[2:]])
    u = Attention(points, centers, LogDistance(m)).dense()
    expected = torch.zeros(coincide + 2, dtype=torch.float64)
    expected[:coincide] = 1 / coincide
    torch.testing.assert_close(u[0], expected)
    torch.testing.assert_close(u.sum(1), torch.ones(4, dtype=torch.float64))


def test_a_fuzzy_center_to_which_no_point_belongs_stays():
    centers = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    np.testing.assert_array_equal(FuzzyCMeans(3, init=centers).fit(np.eye(2).repeat(2, 0)).cluster_centers_, centers)


@pytest.mark.parametrize("estimator", [SoftKMeans(3), FuzzyCMeans(3)], ids=repr)
def test_points_that_coincide_give_finite_centers_and_a_warning(estimator):
    with pytest.warns(ConvergenceWarning, match="different centers, fewer than n_clusters=3"):
        fitted = estimator.fit(np.repeat(np.eye(2), 3, 0))
    assert np.isfinite(fitted.cluster_centers_).all()
    np.testing.assert_allclose(fitted.predict_proba(np.eye(2)).sum(1), 1)
    labels = fitted.labels_
    assert len({*labels[:3]}) == len({*labels[3:]}) == 1
    assert labels[0] != labels[3]


def test_at_a_high_temperature_all_centers_are_one_and_a_warning_says_so():
    with pytest.warns(ConvergenceWarning, match="memberships are so even"):
        SoftKMeans(3, 1e6, random_state=0, tol=0).fit(REAL["iris"])


@pytest.mark.parametrize("estimator", [SoftKMeans(2, tol=0.01), FuzzyCMeans(2, tol=0.01)], ids=repr)
def test_scikit_learns_checks(estimator):
    # A weight of two gives other first centers than a duplicated point; scikit-learn excuses its KMeans too.
    excused = {"check_sample_weight_equivalence_on_dense_data": "the first centers are drawn at random"}
    check_estimator(estimator, on_skip=None, expected_failed_checks=excused)


@pytest.mark.parametrize("kind", [SoftKMeans, FuzzyCMeans])
def test_bad_input(kind):
    X = REAL["iris"][:6]
    with pytest.raises(ValueError, match="n_samples=6 should be >= n_clusters=8"):
        kind(8).fit(X)
    with pytest.raises(ValueError, match="n_samples=1 should be >= n_clusters=2"):
        kind(2).fit(X[:1])
    with pytest.raises(ValueError, match="contains NaN"):
        kind(2).fit(X * np.nan)
    for name, value in {"n_clusters": 0, "max_iter": 0, "tol": -1.0, "init": "random"}.items():
        with pytest.raises(InputError, match=rf"{kind.__name__}\({name}=…\) expects"):
            kind(**{"n_clusters": 2, name: value}).fit(X)
    with pytest.raises(InputError, match=r"expects \(2, 4\) finite numbers, got shape \(3, 4\)"):
        kind(2, init=X[:3]).fit(X)
    with pytest.raises(ValueError, match="X has 3 features"):
        kind(2).fit(X).predict(X[:, :3])


def test_bad_parameters_of_their_own():
    with pytest.raises(InputError, match="m > 1"):
        FuzzyCMeans(2, m=1.0).fit(REAL["iris"])
    with pytest.raises(InputError, match="positive"):
        SoftKMeans(2, bandwidth=0.0).fit(REAL["iris"])


@pytest.mark.parametrize("kind", [SoftKMeans, FuzzyCMeans])
@pytest.mark.parametrize(
    ("unit", "dtype"), [(2.0**-17, "f4"), (2.0**-100, "f4"), (2.0**-30, "f8"), (2.0**-400, "f8"), (2.0**20, "f8")]
)
def test_nothing_depends_on_the_unit(kind, unit, dtype):
    X = REAL["iris"].astype(dtype)
    plain, scaled = kind(3, random_state=0).fit(X), kind(3, random_state=0).fit((unit * X).astype(dtype))
    np.testing.assert_array_equal(scaled.labels_, plain.labels_)
    np.testing.assert_allclose(scaled.cluster_centers_ / unit, plain.cluster_centers_, rtol=1e-6)
    np.testing.assert_allclose(scaled.predict_proba(unit * X), plain.predict_proba(X), rtol=1e-5)
    np.testing.assert_allclose(scaled.score(unit * X) / unit**2, plain.score(X), rtol=1e-6)
    assert len(np.unique(plain.labels_)) == 3
    assert scaled.cluster_centers_.dtype == scaled.transform(unit * X).dtype == dtype


@pytest.mark.parametrize("kind", [SoftKMeans, FuzzyCMeans])
def test_the_iris_in_units_that_products_of_floats_cannot_hold(kind):
    X = REAL["iris"]
    plain = kind(3, random_state=0).fit(X).labels_
    for data in ((1e-5 * X).astype("f4"), 1e-9 * X, 1e6 * X, X + 1e6):
        assert adjusted_rand_score(plain, kind(3, random_state=0).fit(data).labels_) == 1


@pytest.mark.parametrize("kind", [SoftKMeans, FuzzyCMeans])
def test_an_outlier_changes_no_center_of_the_others(kind):
    X = REAL["iris"]
    start = np.vstack([five(X), np.full((1, 4), -999_999.0)])
    plain = kind(5, init=start[:5], **({"bandwidth": 0.4} if kind is SoftKMeans else {})).fit(X)
    beside = kind(6, init=start, **({"bandwidth": 0.4} if kind is SoftKMeans else {})).fit(np.vstack([X, start[5:]]))
    np.testing.assert_array_equal(beside.labels_[:-1], plain.labels_)
    np.testing.assert_allclose(beside.cluster_centers_[:5], plain.cluster_centers_, atol=1e-2)
    np.testing.assert_array_equal(beside.predict(np.vstack([X, start[5:]])), beside.labels_)


@pytest.mark.parametrize("kind", [SoftKMeans, FuzzyCMeans])
def test_a_weight_of_two_is_the_point_twice_and_a_weight_of_zero_is_none(kind):
    X = REAL["iris"]
    w = np.arange(len(X)) % 3
    weighted = kind(3, init=five(X)[:3], tol=1e-9).fit(X, sample_weight=w)
    enormous = kind(3, init=five(X)[:3], tol=1e-9).fit(X, sample_weight=1e307 * w)
    np.testing.assert_allclose(enormous.cluster_centers_, weighted.cluster_centers_)
    repeated = kind(3, init=five(X)[:3], tol=1e-9).fit(np.repeat(X, w, 0))
    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-9)
    assert weighted.score(X, sample_weight=w) == pytest.approx(repeated.score(np.repeat(X, w, 0)))


@pytest.mark.parametrize("kind", [lambda: SoftKMeans(5, 1e-4, init=five(REAL["iris"])), lambda: FuzzyCMeans(5, 1.001)])
def test_the_score_is_that_of_k_means_in_the_limit(kind):
    X = REAL["iris"]
    model = kind().set_params(random_state=0, init=five(X)).fit(X)
    theirs = cluster.KMeans(5, init=five(X), n_init=1, tol=0).fit(X)
    assert model.score(X) == pytest.approx(theirs.score(X), rel=2e-3)


@pytest.mark.parametrize("kind", [SoftKMeans, FuzzyCMeans])
def test_autocast_and_inference_mode_change_nothing(kind):
    X = REAL["iris"].astype("f4")
    plain = kind(3, random_state=0).fit(X)
    with torch.autocast("cpu"), torch.inference_mode():
        model = kind(3, random_state=0).fit(X)
        np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(model.cluster_centers_, plain.cluster_centers_)
