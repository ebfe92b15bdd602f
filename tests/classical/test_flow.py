"""Markov clustering: compared with the published iteration without pruning, on real graphs and with known results."""

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import block_diag, csr_array
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_estimator

from limelight import InputError
from limelight.classical.flow import MarkovClustering
from tests.classical.real import EXCUSED

GRAPHS = {
    "karate": networkx.karate_club_graph(),
    "les miserables": networkx.les_miserables_graph(),
    "florence": networkx.florentine_families_graph(),
}


def published(W, inflation):
    """van Dongen's algorithm 4, dense, columns stochastic: the attractor to which most of a node's flow goes."""
    W = W.copy()
    np.fill_diagonal(W, 0)
    np.fill_diagonal(W, np.where(W.max(0) > 0, W.max(0), 1))
    M = W / W.sum(0)
    for _ in range(200):
        M = np.linalg.matrix_power(M, 2) ** inflation
        M /= M.sum(0)
    attractors = np.flatnonzero(M.diagonal() > 1e-3)
    same = M[np.ix_(attractors, attractors)] > 1e-3
    system = [min({*np.flatnonzero(same[:, a]), *np.flatnonzero(same[a])}) for a in range(len(attractors))]
    return np.array(system)[M[attractors].argmax(0)]


def graph(W, **options):
    return MarkovClustering(affinity="precomputed", **options).fit(W)


@pytest.mark.parametrize("inflation", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("name", GRAPHS)
def test_clusters_are_those_of_the_published_iteration(name, inflation):
    W = networkx.to_numpy_array(GRAPHS[name])
    ours = graph(W, inflation=inflation).labels_
    assert adjusted_rand_score(ours, published(W, inflation)) == 1.0
    np.testing.assert_array_equal(ours, graph(csr_array(W), inflation=inflation).labels_)
    np.testing.assert_array_equal(ours, graph(W + 9 * np.eye(len(W)), inflation=inflation).labels_)


def test_the_karate_club_splits_as_it_did_but_for_two():
    W = networkx.to_numpy_array(GRAPHS["karate"], weight=None)
    club = np.array([GRAPHS["karate"].nodes[i]["club"] == "Officer" for i in range(34)])
    assert (graph(W).labels_ != club).sum() == 2


def test_two_cliques_with_one_edge_between_are_two_clusters_and_a_clique_is_one():
    W = networkx.to_numpy_array(networkx.barbell_graph(5, 0))
    np.testing.assert_array_equal(graph(W).labels_, np.repeat([0, 1], 5))
    np.testing.assert_array_equal(graph(np.ones((5, 5))).labels_, np.zeros(5))
    np.testing.assert_array_equal(graph(np.zeros((3, 3))).labels_, [0, 1, 2])


@given(st.integers(0, 1000), st.integers(3, 8), st.integers(3, 8))
def test_flow_stays_in_its_component_converges_and_is_stochastic(seed, n, m):
    random = np.random.default_rng(seed)
    parts = [np.triu(random.random((k, k)), 1) for k in (n, m)]
    fitted = graph(block_diag([part + part.T for part in parts]).tocsr(), tol=1e-10, max_iter=1000)
    P = fitted.flow_.toarray()
    np.testing.assert_allclose(P.sum(1), 1)
    assert P[:n, n:].sum() == P[n:, :n].sum() == 0
    squared = (P @ P) ** 2
    np.testing.assert_allclose(squared / squared.sum(1, keepdims=True), P, atol=1e-8)
    assert not {*fitted.labels_[:n]} & {*fitted.labels_[n:]}


@pytest.mark.parametrize(
    "X",
    [
        scale(datasets.load_breast_cancer().data[:150]),
        scale(datasets.load_wine().data),
        datasets.load_digits().data[:150] / 16 + np.random.default_rng(0).normal(0, 1e-3, (150, 64)),
    ],
    ids=["cancer", "wine", "digits"],
)
def test_points_start_from_attention_on_their_neighbors(X):
    fitted = MarkovClustering(1.6, n_neighbors=6, bandwidth=1.5).fit(X)
    squares = ((X[:, None] - X[None]) ** 2).sum(-1)
    near = squares <= np.sort(squares, 1)[:, 6:7]
    P = np.exp(-squares / (2 * 1.5**2)) * (near | near.T)
    P /= P.sum(1, keepdims=True)
    for _ in range(fitted.n_iter_):
        P = (P @ P) ** 1.6
        P /= P.sum(1, keepdims=True)
    np.testing.assert_allclose(fitted.flow_.toarray(), P, atol=1e-3)
    assert 1 < len(np.unique(fitted.labels_)) < len(X)


def test_a_coarser_and_a_finer_clustering():
    X = datasets.load_iris().data
    coarse, fine = (len(np.unique(MarkovClustering(r, n_neighbors=10).fit(X).labels_)) for r in (1.3, 3.0))
    assert coarse < 5 < 10 < fine


@pytest.mark.parametrize("affinity", ["rbf", "precomputed"])
def test_scikit_learns_checks(affinity):
    check_estimator(MarkovClustering(affinity=affinity), on_skip=None, expected_failed_checks=EXCUSED[affinity])


@pytest.mark.parametrize("inflation", [50.0, 1000.0])
def test_a_high_inflation_leaves_every_flow_a_number(inflation):
    W = np.random.default_rng(0).uniform(0.5, 1, (60, 60))
    fitted = graph(W + W.T, inflation=inflation)
    np.testing.assert_allclose(fitted.flow_.sum(1), 1)
    complete = graph(np.ones((300, 300)), inflation=inflation)
    np.testing.assert_array_equal(complete.labels_, 0)


def test_an_outlier_changes_no_cluster_of_the_others():
    X = datasets.load_wine().data
    plain = MarkovClustering().fit(X).labels_
    beside = MarkovClustering().fit(np.vstack([X, X[:1] - 999_999.0])).labels_
    assert adjusted_rand_score(plain, beside[:-1]) > 0.9


@pytest.mark.parametrize("unit", [2.0**-30, 2.0**-300, 2.0**20])
def test_nothing_depends_on_the_unit(unit):
    X = datasets.load_iris().data
    np.testing.assert_array_equal(MarkovClustering().fit(X * unit).labels_, MarkovClustering().fit(X).labels_)


def test_too_few_steps_say_so():
    with pytest.warns(ConvergenceWarning, match="in the last of 2 steps"):
        MarkovClustering(max_iter=2).fit(datasets.load_iris().data)


def test_points_that_coincide():
    np.testing.assert_array_equal(MarkovClustering(n_neighbors=2).fit_predict(np.ones((4, 2))), np.zeros(4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inflation": 1.0}, r"inflation=…\) expects a number > 1"),
        ({"inflation": "2"}, r"inflation=…\) expects"),
        ({"n_neighbors": 6}, r"n_neighbors=…\) expects a whole number ≥ 1 and ≤ 5"),
        ({"bandwidth": 0.0}, r"bandwidth=…\) expects"),
        ({"affinity": "cosine"}, r"affinity=…\) expects"),
        ({"max_iter": 0}, r"max_iter=…\) expects"),
        ({"prune": -1.0}, r"prune=…\) expects"),
        ({"affinity": "precomputed"}, r"square matrix of weights, got \(6, 4\)"),
    ],
)
def test_bad_parameters(options, words):
    with pytest.raises(InputError, match=words):
        MarkovClustering(**options).fit(datasets.load_iris().data[:6])


def test_bad_points():
    with pytest.raises(InputError, match="weights ≥ 0, got -1"):
        graph(-np.eye(3))
    with pytest.raises(ValueError, match="contains NaN"):
        MarkovClustering().fit([[np.nan], [1.0], [2.0]])
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        MarkovClustering().fit([[1.0]])
