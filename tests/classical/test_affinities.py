"""Affinities compared with those of established libraries on real data."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn import datasets, manifold
from sklearn.manifold import _utils
from sklearn.manifold._locally_linear import barycenter_kneighbors_graph
from sklearn.manifold._t_sne import _joint_probabilities
from sklearn.preprocessing import KernelCenterer, scale
from sklearn.svm import SVC

from limelight import ConvergenceError, Dot, InputError
from limelight.classical import affinities
from limelight.classical.operators import Centered

REAL = {
    "cancer": scale(datasets.load_breast_cancer().data[:150]),
    "wine": scale(datasets.load_wine().data),
    # Pixels are whole numbers, so that distances are equal and neighbors ambiguous; noise makes them unique.
    "digits": datasets.load_digits().data[:150] / 16 + np.random.default_rng(0).normal(0, 1e-3, (150, 64)),
}


@pytest.fixture(params=REAL, name="X")
def _real(request):
    return REAL[request.param]


def tensor(X):
    return torch.from_numpy(np.array(X))


def dense(operator, n):
    return (operator @ torch.eye(n, dtype=torch.float64)).numpy()


def squares(X, Y):
    return ((X[:, None] - Y[None]) ** 2).sum(-1)


def test_mds_is_the_doubly_centered_squares(X):
    B = dense(affinities.mds(tensor(X)), len(X))
    np.testing.assert_allclose(B, KernelCenterer().fit_transform(-0.5 * squares(X, X)), atol=1e-10)
    np.testing.assert_allclose(dense(Centered(tensor(X + 1.0), Dot()), len(X)), B, atol=1e-9)


@pytest.mark.skipif(not hasattr(manifold, "ClassicalMDS"), reason="scikit-learn has ClassicalMDS from 1.8 on")
def test_scikit_learns_images_of_mds_are_its_eigenvectors(X):
    B = dense(affinities.mds(tensor(X)), len(X))
    images = manifold.ClassicalMDS(2).fit_transform(X)
    np.testing.assert_allclose(B @ images, images * (images**2).sum(0), atol=1e-7)


def test_isomap_has_scikit_learns_geodesics(X):
    theirs = manifold.Isomap(n_neighbors=8).fit(X).dist_matrix_
    np.testing.assert_allclose(affinities.isomap(tensor(X), 8), theirs, rtol=1e-9)


def test_locally_linear_embedding_has_scikit_learns_weights(X):
    theirs = barycenter_kneighbors_graph(X, 6).toarray()
    np.testing.assert_allclose(affinities.lle(tensor(X), 6).toarray(), theirs, atol=1e-9)


def test_sne_has_scikit_learns_conditional_probabilities_and_the_perplexity_asked_for(X):
    A = affinities.sne(tensor(X), 20.0)
    theirs = _utils._binary_search_perplexity(squares(X, X).astype(np.float32), 20.0, 0)
    np.testing.assert_allclose(dense(A, len(X)), theirs, atol=2e-6)  # scikit-learn uses float32 distances
    np.testing.assert_allclose(A.entropy().exp(), 20.0, rtol=2e-5)


@pytest.mark.parametrize("far", [1e6, 1e8])
def test_a_distant_outlier_does_not_change_the_sne_probabilities_of_the_others(far):
    X = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outlier = torch.full((1, 3), far, dtype=torch.float64)
    alone = dense(affinities.sne(X, 10.0), 60)
    beside = dense(affinities.sne(torch.cat([X, outlier]), 10.0), 61)
    np.testing.assert_allclose(beside[:60, :60], alone, atol=1e-12)


def test_t_sne_has_scikit_learns_joint_probabilities(X):
    theirs = _joint_probabilities(squares(X, X), 20.0, 0)
    ours = dense(affinities.tsne(tensor(X), 20.0), len(X))
    np.testing.assert_allclose(ours[np.triu_indices(len(X), 1)], theirs, atol=2e-6 / len(X))
    np.testing.assert_allclose(ours.sum(), 1)


def test_umap_has_the_published_fuzzy_sets(X):
    k, W = 10, np.zeros((len(X), len(X)))
    for i, distances in enumerate(np.sqrt(squares(X, X))):
        near = np.argsort(distances)[1:k]
        beyond = distances[near] - distances[near[0]]
        W[i, near] = np.exp(-beyond / brentq(lambda s, b=beyond: np.exp(-b / s).sum() - np.log2(k), 1e-3, 1e3))
    np.testing.assert_allclose(affinities.umap(tensor(X), k).toarray(), W + W.T - W * W.T, atol=2e-5)


def test_a_support_vector_machine_decides_as_scikit_learns(X):
    y = (X**2).sum(1) > np.median((X**2).sum(1))
    machine = SVC(gamma=0.05).fit(X[::2], y[::2])
    K = affinities.svm(tensor(X), tensor(machine.support_vectors_), 0.05)
    ours = (K @ tensor(machine.dual_coef_.T)).numpy()[:, 0] + machine.intercept_
    np.testing.assert_allclose(ours, machine.decision_function(X), atol=1e-10)


def test_graph_convolution_is_the_published_matrix(X):
    neighbor = squares(X, X).argsort(1)[:, 1:4]
    i, j = np.repeat(np.arange(len(X)), 3), neighbor.reshape(-1)
    edges = torch.from_numpy(np.stack([np.concatenate([i, j]), np.concatenate([j, i])]))
    A = np.eye(len(X))
    A[i, j] = A[j, i] = 1
    D = A.sum(1)
    np.testing.assert_allclose(dense(affinities.gcn(edges, len(X)), len(X)), A / np.sqrt(np.outer(D, D)), atol=1e-13)


def test_bad_input():
    X = tensor(REAL["wine"])
    for wrong in (0, 178, True, 2.0):
        with pytest.raises(InputError, match="whole number from 1 to 177"):
            affinities.neighbors(X, wrong)
    for wrong in (1.0, 177.0, float("nan")):
        with pytest.raises(InputError, match="between 1 and 177"):
            affinities.sne(X, wrong)
    with pytest.raises(InputError, match="counts the point itself and must be from 3 to 178"):
        affinities.umap(X, 2)
    crowd = torch.cat([X[:12], X[12:13].expand(8, -1)])
    apart = squares(crowd.numpy(), crowd.numpy()) + np.diag(np.full(20, np.inf))
    stuck = (apart.argmin(1) >= 12).sum()  # all eight others are equally near, so the entropy is at least log 7
    with pytest.raises(ConvergenceError, match=rf"{stuck} of 20 points, the first of them .*remove duplicates"):
        affinities.sne(crowd, 3.0)


@pytest.mark.parametrize("far", [-9_999.0, -999_999.0, 1e100])
def test_an_outlier_changes_no_neighbor_of_the_others(far):
    X = torch.from_numpy(np.random.default_rng(0).uniform(size=(500, 3)))
    plain, beside = (
        affinities.neighbors(X, 5),
        affinities.neighbors(torch.cat([X, torch.full((1, 3), far, dtype=torch.float64)]), 5),
    )
    assert torch.equal(plain[0], beside[0][:-1])
    assert torch.equal(plain[1], beside[1][:-1])
    nearest = np.argsort(squares(X.numpy(), X.numpy()) + np.diag(np.full(500, np.inf)), 1)[:, :5]
    np.testing.assert_array_equal(plain[0].numpy(), nearest)
