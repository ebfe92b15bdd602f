"""Diffusion maps, Laplacian eigenmaps and spectral clustering, compared with dense equations and scikit-learn."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn import cluster, datasets, manifold
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from limelight import ConvergenceError, InputError
from limelight.classical import eigen, lanczos, off_diagonal
from limelight.classical.spectral import DiffusionMaps, SpectralClustering, SpectralEmbedding
from tests.classical.real import EXCUSED, REAL, squares

WAYS = {"decomposed": ((10_000, 0), 10_000), "factored": ((4, 0), 10_000), "multiplied with": ((4, 0), 0)}


class Stored:
    """A matrix as `eigen.largest` takes it."""

    def __init__(self, matrix):
        self.n, self.product, self.dense = len(matrix), matrix.__matmul__, matrix.copy

    def work(self):
        return np.inf


@pytest.fixture(name="way")
def _way(monkeypatch):
    """Chooses how eigenvectors are found, whatever the number of points."""

    def choose(way):
        monkeypatch.setattr(eigen, "_WRITTEN", 0)
        for limit, rows in zip(("_DECOMPOSED", "_FACTORED"), WAYS[way], strict=True):
            monkeypatch.setattr(eigen, limit, rows)

    return choose


@pytest.fixture(params=WAYS)
def _every_way(request, way):
    way(request.param)


@pytest.fixture(params=REAL, name="X")
def _real(request):
    return REAL[request.param]


def diffusion(X, h, alpha):
    """Coifman & Lafon's P and its stationary law, dense, as printed."""
    K = np.exp(-squares(X, X) / (2 * h**2))
    q = K.sum(1)
    K = K / np.outer(q, q) ** alpha
    return K / K.sum(1, keepdims=True), K.sum(1) / K.sum()


def agree_to_sign(a, b, tolerance):
    assert (a.max(0) >= -a.min(0)).all(), "of two signs, the one whose largest entry is positive"
    scales = np.abs(b).max(0)
    signs = np.sign((a * b).sum(0))
    np.testing.assert_allclose(a / scales, signs * b / scales, atol=tolerance)


@pytest.mark.usefixtures("_every_way")
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_diffusion_maps_are_the_eigenvectors_of_the_published_matrix(X, alpha):
    ours = DiffusionMaps(3, alpha=alpha, time=2).fit(X)
    P, pi = diffusion(X, ours.bandwidth_, alpha)
    M = np.sqrt(pi)[:, None] * P / np.sqrt(pi)
    values, vectors = np.linalg.eigh((M + M.T) / 2)
    values, psi = values[-2:-5:-1], vectors[:, -2:-5:-1] / np.sqrt(pi)[:, None]
    np.testing.assert_allclose(ours.eigenvalues_, values, atol=1e-12)
    np.testing.assert_allclose(ours.stationary_, pi, rtol=1e-10)
    agree_to_sign(ours.embedding_, values**2 * psi, 1e-9)


@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0]))
def test_distances_between_images_are_diffusion_distances(seed, n, time, alpha):
    X = np.random.default_rng(seed).normal(size=(n, 2))
    images = DiffusionMaps(n - 1, alpha=alpha, bandwidth=1.0, time=time).fit_transform(X)
    P, pi = diffusion(X, 1.0, alpha)
    walked = np.linalg.matrix_power(P, time)
    expected = ((walked[:, None] - walked[None]) ** 2 / pi).sum(-1)
    np.testing.assert_allclose(squares(images, images), expected, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_points_that_were_not_fitted_are_placed_by_nystroem(X, alpha):
    fitted, new = X[: len(X) // 2], X[len(X) // 2 :]
    ours = DiffusionMaps(2, alpha=alpha).fit(fitted)
    np.testing.assert_allclose(ours.transform(fitted), ours.embedding_, atol=1e-9)
    K = np.exp(-squares(fitted, fitted) / (2 * ours.bandwidth_**2))
    P = np.exp(-squares(new, fitted) / (2 * ours.bandwidth_**2)) / K.sum(1) ** alpha
    P /= P.sum(1, keepdims=True)
    np.testing.assert_allclose(ours.transform(new), P @ ours.embedding_ / ours.eigenvalues_, atol=1e-9)


@pytest.mark.usefixtures("_every_way")
def test_laplacian_eigenmaps_are_scikit_learns(X):
    theirs = manifold.SpectralEmbedding(3, affinity="rbf", random_state=0).fit_transform(X)
    agree_to_sign(SpectralEmbedding(3).fit_transform(X), theirs, 1e-8)


@pytest.mark.usefixtures("_every_way")
def test_a_point_that_hardly_sees_another_is_as_accurate():
    X = np.vstack([REAL["iris"], [[9.0, 9.0, 9.0, 9.0]]])
    W = np.exp(-squares(X, X)) - np.eye(len(X))
    np.fill_diagonal(W, 0)
    assert W.sum(1).min() < 1e-8  # which K − I would know to eight digits only
    ours = SpectralEmbedding(2, gamma=1.0).fit(X)
    u = ours.embedding_
    np.testing.assert_allclose(W @ u / W.sum(1)[:, None], ours.eigenvalues_ * u, atol=1e-10 * np.abs(u).max())


@pytest.mark.usefixtures("_every_way")
def test_the_constant_vector_is_left_out_even_if_all_other_eigenvalues_are_negative():
    X = REAL["iris"]
    W = np.exp(-1e-5 * squares(X, X))
    np.fill_diagonal(W, 0)
    roots = np.sqrt(W.sum(1))
    expected = np.linalg.eigvalsh(W / np.outer(roots, roots))[-2:-4:-1]
    assert expected.max() < 0
    np.testing.assert_allclose(SpectralEmbedding(2, gamma=1e-5).fit(X).eigenvalues_, expected, atol=1e-13)


def test_spectral_clustering_is_scikit_learns_label_for_label(X):
    gamma = 2 / np.median(squares(X, X))
    theirs = cluster.SpectralClustering(3, gamma=gamma, random_state=3).fit(X)
    ours = SpectralClustering(3, gamma=gamma, random_state=3).fit(X)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)


@pytest.mark.parametrize(
    "estimator",
    [
        DiffusionMaps(),
        SpectralEmbedding(),
        SpectralEmbedding(affinity="precomputed"),
        SpectralClustering(),
        SpectralClustering(2, affinity="precomputed"),
    ],
    ids=repr,
)
def test_scikit_learns_checks(estimator):
    excused = EXCUSED[getattr(estimator, "affinity", "rbf")]
    check_estimator(estimator, on_skip=None, expected_failed_checks=excused)


@pytest.mark.parametrize(
    "X", [np.ones((6, 2)), np.repeat(np.eye(2), 3, 0), np.column_stack([np.arange(6.0), np.ones(6)])]
)
def test_points_that_coincide_and_features_that_are_constant_have_finite_images(X):
    assert np.isfinite(DiffusionMaps(2).fit_transform(X)).all()
    assert np.isfinite(SpectralEmbedding(2).fit_transform(X)).all()
    assert set(SpectralClustering(2).fit_predict(X)) <= {0, 1}


def test_every_valid_number_of_components_and_clusters():
    X = REAL["iris"][:7]
    assert DiffusionMaps(6).fit_transform(X).shape == SpectralEmbedding(6).fit_transform(X).shape == (7, 6)
    assert set(SpectralClustering(1).fit_predict(X)) == {0}
    assert list(DiffusionMaps(2).fit(X).get_feature_names_out()) == ["diffusionmaps0", "diffusionmaps1"]


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (DiffusionMaps(150), r"n_components=…\) expects a whole number ≥ 1 and ≤ 149"),
        (DiffusionMaps(0), "n_components"),
        (DiffusionMaps(time=0), "time=…"),
        (DiffusionMaps(alpha=2), "alpha"),
        (DiffusionMaps(bandwidth=-1.0), "bandwidth"),
        (SpectralEmbedding(150), "n_components"),
        (SpectralEmbedding(gamma=0.0), "gamma=…"),
        (SpectralEmbedding(gamma=1e5), "point 106 is so far.*try a gamma near"),
        (SpectralClustering(151), "n_clusters"),
        (SpectralClustering(gamma="scale"), "gamma=…"),
    ],
    ids=repr,
)
def test_bad_parameters(estimator, words):
    with pytest.raises(InputError, match=words):
        estimator.fit(REAL["iris"])


@pytest.mark.parametrize("estimator", [DiffusionMaps(1), SpectralEmbedding(1), SpectralClustering(1)], ids=repr)
def test_bad_points(estimator):
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        estimator.fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match="contains NaN"):
        estimator.fit([[1.0], [np.nan], [2.0]])


def test_a_solver_that_does_not_converge_says_so(way, monkeypatch):
    way("multiplied with")
    monkeypatch.setattr(eigen, "_PRODUCTS", 2)
    with pytest.raises(ConvergenceError, match=r"2 eigenvectors of 150 points were not found in 2 products"):
        DiffusionMaps().fit(REAL["iris"])


@pytest.mark.parametrize("products", range(6, 18))
def test_the_vectors_fit_their_values_wherever_the_products_end(products, monkeypatch):
    monkeypatch.setattr(lanczos, "_GOOD_ENOUGH", np.inf)
    M = np.diag(np.linspace(-1, 1, 300))
    values, vectors = lanczos.leading(M.__matmul__, 300, 2, 5, 1e-15, products)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(vectors.T @ M @ vectors, np.diag(values), atol=1e-12)


@pytest.mark.usefixtures("_every_way")
@pytest.mark.parametrize("n", [200])
def test_a_graph_in_ten_pieces_has_its_eigenvalue_one_tenfold(n):
    X, y = datasets.make_blobs(n, centers=[[100 * i, 0] for i in range(10)], cluster_std=0.5, random_state=0)
    assert adjusted_rand_score(y, SpectralClustering(10, random_state=0).fit(X).labels_) == 1
    for model in (SpectralEmbedding(12, gamma=1.0), DiffusionMaps(12, bandwidth=1.0)):
        values = model.fit(X).eigenvalues_
        np.testing.assert_allclose(values[:9], 1, atol=1e-12)
        assert values[9] < 1 - 1e-3
        images = model.embedding_[:, :9]
        for i in range(10):
            np.testing.assert_allclose(np.ptp(images[y == i], axis=0) / np.abs(images).max(), 0, atol=1e-9)
        rounded = (images / np.abs(images).max()).round(6)
        assert len(np.unique(rounded, axis=0)) == 10


@pytest.mark.usefixtures("_every_way")
@given(st.integers(0, 1000), st.integers(401, 500), st.integers(1, 6))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_eigenvalues_that_repeat_are_found_as_often_as_they_do(seed, n, times):
    random = np.random.default_rng(seed)
    values = np.sort(
        np.concatenate([np.repeat(random.uniform(0.5, 1, 3), times), random.uniform(-1, 0.4, n - 3 * times)])
    )
    vectors = np.linalg.qr(random.normal(size=(n, n)))[0]
    M = vectors * values @ vectors.T
    k = 2 * times
    found, basis = eigen.largest(Stored(M), k)
    np.testing.assert_allclose(found, values[::-1][:k], atol=1e-12)
    np.testing.assert_allclose(M @ basis, basis * found, atol=1e-11)
    np.testing.assert_allclose(basis.T @ basis, np.eye(k), atol=1e-11)


def test_the_basis_of_a_repeated_eigenvalue_does_not_depend_on_how_it_was_found(way):
    X, _ = datasets.make_blobs(200, centers=[[100 * i, 0] for i in range(4)], cluster_std=0.5, random_state=0)
    found = []
    for each in WAYS:
        way(each)
        found.append(SpectralEmbedding(3, gamma=1.0).fit_transform(X))
        np.testing.assert_array_equal(SpectralEmbedding(3, gamma=1.0).fit_transform(X), found[-1])
        np.testing.assert_allclose(found[0], found[-1], atol=1e-9)


@pytest.mark.parametrize("kind", [SpectralEmbedding, SpectralClustering])
def test_a_graph_that_is_given_is_the_graph_of_the_points(kind):
    X = REAL["iris"]
    W = np.exp(-0.5 * squares(X, X))
    options = {"random_state": 0} if kind is SpectralClustering else {}
    result = "labels_" if kind is SpectralClustering else "embedding_"
    expected = getattr(kind(3, gamma=0.5, **options).fit(X), result)
    for given_graph in (W, csr_array(W), 7.0 * W):
        found = getattr(kind(3, affinity="precomputed", **options).fit(given_graph), result)
        if given_graph[0, 0] == 1:
            np.testing.assert_allclose(found, expected, atol=1e-10)
        elif result == "embedding_":
            np.testing.assert_allclose(found * 7**0.5, expected, atol=1e-10)
    with pytest.raises(InputError, match="symmetric"):
        kind(2, affinity="precomputed").fit(np.triu(W))
    with pytest.raises(InputError, match="square"):
        kind(2, affinity="precomputed").fit(W[:50])
    with pytest.raises(InputError, match="weights ≥ 0, got -1"):
        kind(2, affinity="precomputed").fit(-W)
    with pytest.raises(InputError, match=r"affinity=…\) expects 'rbf' or 'precomputed', got 'cosine'"):
        kind(2, affinity="cosine").fit(X)


@pytest.mark.parametrize("isolated", [1, 2])
def test_a_node_without_edges_is_a_piece_of_its_own(isolated):
    W = np.zeros((40, 40))
    W[:20, :20] = W[20:, 20:] = 1
    W[40 - isolated :] = W[:, 40 - isolated :] = 0
    ours = SpectralClustering(2 + isolated, affinity="precomputed", random_state=0).fit(W).labels_
    expected = [0] * 20 + [1] * (20 - isolated) + list(range(2, 2 + isolated))
    assert adjusted_rand_score(expected, ours) == 1


@pytest.mark.parametrize("kind", [DiffusionMaps, SpectralEmbedding])
def test_float32_answers_in_float32_and_other_modes_change_nothing(kind):
    X = REAL["iris"].astype("f4")
    plain = kind().fit(X)
    assert plain.embedding_.dtype == np.float32
    with torch.autocast("cpu"), torch.inference_mode():
        np.testing.assert_array_equal(kind().fit_transform(X), plain.embedding_)


@pytest.mark.parametrize("stored", [True, False])
def test_an_offset_changes_nothing(stored, monkeypatch):
    monkeypatch.setattr(off_diagonal, "_STORED", 10_000 * stored)
    X = REAL["iris"]
    for model in (SpectralEmbedding(), DiffusionMaps()):
        plain, moved = model.fit_transform(X).copy(), model.fit_transform(X + 2.0**20)
        np.testing.assert_allclose(moved, plain, atol=1e-7 * np.abs(plain).max())


@pytest.mark.parametrize("unit", [2.0**-30, 2.0**-300, 2.0**20])
def test_nothing_depends_on_the_unit(unit):
    X = REAL["iris"]
    plain, scaled = DiffusionMaps().fit(X), DiffusionMaps().fit(X * unit)
    np.testing.assert_allclose(scaled.embedding_, plain.embedding_, rtol=1e-9, atol=1e-9)
    plain, scaled = (SpectralEmbedding(gamma=0.5 / u**2).fit(X * u) for u in (1.0, unit))
    np.testing.assert_allclose(scaled.embedding_, plain.embedding_, rtol=1e-9, atol=1e-9)


CHILD = """
import sys, torch, numpy as np
from pathlib import Path
from limelight.classical.spectral import DiffusionMaps, SpectralEmbedding

def resident(field):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field))
    return int(line.split()[1]) / 1024

def work(n):
    DiffusionMaps(2).fit(np.random.default_rng(0).normal(size=(n, 3)))

torch.set_num_threads(1)
work(64)
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
work(int(sys.argv[1]))
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(
    "n", [pytest.param(4000, marks=pytest.mark.slow), pytest.param(20_000, marks=pytest.mark.slow)]
)
def test_memory_is_linear(n):
    child = [sys.executable, "-W", "error", "-c", CHILD, str(n)]
    grown = float(subprocess.run(child, capture_output=True, text=True, check=True, timeout=600).stdout)
    assert grown < 80, f"a {n}×{n} float64 matrix is {n * n * 8 / 1e6:.0f} MB; the peak grew by {grown} MB"
