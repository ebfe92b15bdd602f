"""k-means, soft k-means and fuzzy c-means: beside scikit-learn and the published equations, on real data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

from limelight import Attention, InputError
from limelight.classical.clusters import FuzzyCMeans, KMeans, LogDistance, SoftKMeans
from tests.classical.real import REAL, squares


@pytest.fixture(params=REAL, name="X")
def _real(request):
    return REAL[request.param]


def softmax(s):
    p = np.exp(s - s.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def five(X):
    return X[:: len(X) // 5][:5]


def test_k_means_ends_where_scikit_learns_ends(X):
    theirs = cluster.KMeans(5, init=five(X), n_init=1, tol=0).fit(X)
    ours = KMeans(5, init=five(X), tol=0).fit(X)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-12)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-12)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), atol=1e-6)
    np.testing.assert_array_equal(ours.predict(X + 0.1), theirs.predict(X + 0.1))
    assert ours.n_iter_ == theirs.n_iter_


def test_soft_k_means_is_k_means_as_the_temperature_falls(X):
    hard = KMeans(5, init=five(X), tol=0).fit(X)
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
    centres = five(X) + 0.1
    for _ in range(3):
        u = squares(X, centres) ** (-1 / (m - 1))
        powers = (u / u.sum(1, keepdims=True)) ** m
        centres = powers.T @ X / powers.sum(0)[:, None]
    np.testing.assert_allclose(ours.cluster_centers_, centres, rtol=1e-9, atol=1e-11)
    u = squares(X, centres) ** (-1 / (m - 1))
    np.testing.assert_allclose(ours.predict_proba(X), u / u.sum(1, keepdims=True), atol=1e-10)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(1.05, 500), st.integers(1, 3))
def test_a_point_that_centres_lie_on_belongs_to_them_alone(seed, m, coincide):
    points = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 2)))
    centres = torch.cat([points[:1].expand(coincide, 2), points[2:]])
    u = Attention(points, centres, LogDistance(m)).dense()
    expected = torch.zeros(coincide + 2, dtype=torch.float64)
    expected[:coincide] = 1 / coincide
    torch.testing.assert_close(u[0], expected)
    torch.testing.assert_close(u.sum(1), torch.ones(4, dtype=torch.float64))


def test_a_centre_that_no_point_is_nearest_to_moves_to_the_farthest_point():
    X = np.array([[0.0], [1.0], [10.0], [11.0], [30.0]])
    ours = KMeans(3, init=[[0.0], [10.0], [100.0]]).fit(X)
    np.testing.assert_array_equal(np.sort(ours.cluster_centers_[:, 0]), [0.5, 10.5, 30.0])


def test_a_fuzzy_centre_to_which_no_point_belongs_stays():
    centres = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    np.testing.assert_array_equal(FuzzyCMeans(3, init=centres).fit(np.eye(2).repeat(2, 0)).cluster_centers_, centres)


@pytest.mark.parametrize("estimator", [KMeans(3), SoftKMeans(3), FuzzyCMeans(3)], ids=repr)
def test_points_that_coincide_give_finite_centres_and_a_warning(estimator):
    with pytest.warns(ConvergenceWarning, match="different centres, fewer than n_clusters=3"):
        fitted = estimator.fit(np.repeat(np.eye(2), 3, 0))
    assert np.isfinite(fitted.cluster_centers_).all()
    np.testing.assert_allclose(fitted.predict_proba(np.eye(2)).sum(1), 1)
    labels = fitted.labels_
    assert len({*labels[:3]}) == len({*labels[3:]}) == 1
    assert labels[0] != labels[3]


def test_at_a_high_temperature_all_centres_are_one_and_a_warning_says_so():
    with pytest.warns(ConvergenceWarning, match="memberships are so even"):
        SoftKMeans(3, 1e6, random_state=0, tol=0).fit(REAL["iris"])


@pytest.mark.parametrize("estimator", [KMeans(), SoftKMeans(tol=0.01), FuzzyCMeans(tol=0.01)], ids=repr)
def test_scikit_learns_checks(estimator):
    check_estimator(estimator, on_skip=None)


@pytest.mark.parametrize("kind", [KMeans, SoftKMeans, FuzzyCMeans])
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
