"""Spectral embedding and clustering of sparse graphs, compared with dense decompositions and scikit-learn."""

import networkx as nx
import numpy as np
import pytest
from scipy import sparse
from sklearn import cluster, datasets, manifold
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph

from limelight import ConvergenceError, InputError
from limelight.classical import conjugate, eigen, lanczos
from limelight.classical.spectral import SpectralClustering, SpectralEmbedding

# The limits of `eigen` by which a sparse matrix is handled in each way, whatever its size.
WAYS = {
    "factored": {"_DECOMPOSED_SPARSE": (4, 0), "_CHEAP": np.inf},
    "decomposed": {"_DECOMPOSED_SPARSE": (10_000, 0), "_DECOMPOSED": (10_000, 0)},
    "factored as a dense one": {"_CHEAP": 0, "_DECOMPOSED": (4, 0)},
    "multiplied with": {"_FACTORED": 0, "_WRITTEN": 0, "_FEASIBLE": 0},
    "factored, though large": {"_FACTORED": 0, "_WRITTEN": 0, "_FEW": np.inf},
}


@pytest.fixture(name="take")
def _take(monkeypatch):
    def choose(way):
        for name, limit in WAYS[way].items():
            monkeypatch.setattr(eigen, name, limit)

    return choose


def neighbors(X, count=10):
    W = kneighbors_graph(X, count)
    return sparse.csr_array((W + W.T) / 2)


def moons(n, noise=0.1):
    return neighbors(datasets.make_moons(n, noise=noise, random_state=0)[0])


def of(graph):
    W = nx.to_scipy_sparse_array(graph, dtype=float).tocoo()
    row, column = (each.astype(np.int32) for each in W.coords)  # all that scikit-learn takes
    return sparse.csr_array((W.data, (row, column)), shape=W.shape)


def weighted(graph, seed=0):
    W = sparse.triu(of(graph)).tocsr()
    W.data = np.random.default_rng(seed).integers(1, 100, len(W.data)).astype(float)
    return sparse.csr_array(W + W.T)


def linked(pieces, weight):
    """The pieces with a single edge of this weight from each to the next."""
    W = sparse.block_diag(pieces).tolil()
    for end in np.cumsum([piece.shape[0] for piece in pieces])[:-1]:
        W[end - 1, end] = W[end, end - 1] = weight
    return sparse.csr_array(W)


# All but the first two and the weighted one have eigenvalues that repeat.
GRAPHS = {
    "moons": lambda: moons(300),
    "digits": lambda: neighbors(datasets.load_digits().data[:700]),
    "integer weights": lambda: weighted(nx.gnp_random_graph(200, 0.05, seed=1)),
    "a ring": lambda: of(nx.cycle_graph(200)),
    "a torus": lambda: of(nx.grid_graph((12, 12), periodic=True)),
    "a cube of 8 dimensions": lambda: of(nx.hypercube_graph(8)),
    "a complete graph": lambda: of(nx.complete_graph(150)),
    "a star": lambda: of(nx.star_graph(150)),
    "three equal rings": lambda: sparse.csr_array(sparse.block_diag([of(nx.cycle_graph(70))] * 3)),
    "pieces, and nodes without edges": lambda: sparse.csr_array(
        sparse.block_diag([moons(100), sparse.csr_array((3, 3)), of(nx.cycle_graph(50)), sparse.csr_array((1, 1))])
    ),
    "ten pieces that hardly touch": lambda: linked([of(nx.complete_graph(15))] * 10, 1e-20),
    "pieces of very different weights": lambda: linked([1e-12 * moons(80), 1e12 * moons(120)], 1e-15),
}


def dense(W):
    """D and the eigenvalues of D⁻¹W, largest first, without its diagonal; a node without edges has a loop."""
    W = W.toarray()
    np.fill_diagonal(W, 0)
    alone = W.sum(1) == 0
    W[alone, alone] = 1
    D = W.sum(1)
    return W, D, np.linalg.eigvalsh(W / np.sqrt(np.outer(D, D)))[::-1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("k", [1, 2, pytest.param(5, marks=pytest.mark.slow), 12])
def test_the_eigenvectors_are_those_of_the_dense_matrix(name, k, way, take):
    take(way)
    graph = GRAPHS[name]()
    W, D, values = dense(graph)
    ours = SpectralEmbedding(k, affinity="precomputed").fit(graph)
    u = ours.embedding_
    np.testing.assert_allclose(ours.eigenvalues_, values[1 : k + 1], atol=1e-12)
    # Unit vectors of the symmetric matrix, orthogonal to each other and to the constant vector.
    v = np.sqrt(D)[:, None] * u
    np.testing.assert_allclose(v.T @ v, np.eye(k), atol=1e-10)
    np.testing.assert_allclose(v.T @ (np.sqrt(D) / np.sqrt(D.sum())), 0, atol=1e-10)
    np.testing.assert_allclose(W / np.sqrt(np.outer(D, D)) @ v, v * ours.eigenvalues_, atol=1e-12)


@pytest.mark.parametrize("gaps", [(1000.0, 100.0), (3.0, 2.5), (1.5, 1.4)])
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("times", [1, 2, 3, 4, 7])
def test_a_block_widens_until_it_holds_all_that_repeat(times, width, gaps):
    # Where the gaps are large the search ends before rounding errors could bring out a repeated eigenvalue.
    diagonal = np.concatenate([np.repeat(gaps, times), np.linspace(0, 1, 3000)])
    for k in (times, times + 1, 2 * times):
        values, vectors = lanczos.leading(lambda block: diagonal[:, None] * block, len(diagonal), k, width, 1e-14, 500)
        np.testing.assert_allclose(values[:k], np.sort(diagonal)[::-1][:k], rtol=1e-12)
        np.testing.assert_allclose(diagonal[:, None] * vectors[:, :k], vectors[:, :k] * values[:k], atol=1e-9)


@pytest.mark.parametrize("rank", [0, 1, 2, 9])
def test_a_space_that_is_mapped_into_itself_is_left_by_new_vectors(rank):
    diagonal = np.concatenate([np.arange(rank, 0, -1.0), np.zeros(100)])
    values, vectors = lanczos.leading(lambda block: diagonal[:, None] * block, len(diagonal), 4, 1, 1e-14, 100)
    np.testing.assert_allclose(values[:4], diagonal[:4], atol=1e-13)
    np.testing.assert_allclose(diagonal[:, None] * vectors[:, :4], vectors[:, :4] * values[:4], atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(vectors.shape[1]), atol=1e-12)


def test_too_few_products_for_the_vectors_of_a_wider_block_are_an_error():
    diagonal = np.concatenate([[1000.0] * 4, np.linspace(0, 1, 3000)])
    with pytest.raises(ConvergenceError, match="4 eigenvectors of 3004 points were not found in 20 products"):
        lanczos.leading(lambda block: diagonal[:, None] * block, len(diagonal), 4, 1, 1e-14, 20)


def agree_to_sign(a, b, tolerance):
    signs = np.sign((a * b).sum(0))
    np.testing.assert_allclose(a / np.abs(b).max(0), signs * b / np.abs(b).max(0), atol=tolerance)


@pytest.mark.parametrize("way", ["factored", "decomposed"])
@pytest.mark.parametrize("name", ["moons", "digits", "integer weights"])
def test_the_result_is_scikit_learns(name, way, take):
    take(way)
    graph = GRAPHS[name]()
    theirs = manifold.SpectralEmbedding(4, affinity="precomputed", random_state=0).fit_transform(graph)
    agree_to_sign(SpectralEmbedding(4, affinity="precomputed").fit_transform(graph), theirs, 1e-8)
    for clusters in (2, 5):
        options = {"n_clusters": clusters, "affinity": "precomputed", "random_state": 1}
        expected = cluster.SpectralClustering(**options).fit(graph).labels_
        np.testing.assert_array_equal(SpectralClustering(**options).fit(graph).labels_, expected)


def test_every_format_gives_the_same():
    W = weighted(nx.gnp_random_graph(300, 0.03, seed=1))
    expected = SpectralEmbedding(3, affinity="precomputed").fit_transform(W)

    def check(graph, tolerance=1e-12):
        before = graph.copy()
        found = SpectralEmbedding(3, affinity="precomputed").fit_transform(graph)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
        assert found.dtype == (np.float32 if graph.dtype == np.float32 else np.float64)
        if sparse.issparse(graph):
            assert (graph != before).nnz == 0
            np.testing.assert_array_equal(graph.data, before.data)

    for kind in (sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix):
        for dtype in (np.float64, np.float32, np.int32, np.int64):
            check(kind(W.astype(dtype)), 1e-6 if dtype == np.float32 else 1e-12)
    for indices in (np.int32, np.int64):
        check(sparse.csr_array((W.data, W.indices.astype(indices), W.indptr.astype(indices)), shape=W.shape))
        row, column = W.tocoo().coords
        coordinates = row.astype(indices), column.astype(indices)
        check(sparse.coo_array((W.data, coordinates), shape=W.shape))
    check(W.toarray())

    twice = W.tocoo()
    row, column = twice.coords
    data = np.concatenate([0.25 * twice.data, 0.75 * twice.data])
    check(sparse.coo_array((data, (np.tile(row, 2), np.tile(column, 2))), shape=W.shape))
    check(sparse.csr_array(W + sparse.diags_array(np.arange(300.0))))  # the diagonal is ignored
    padded = W.tolil()
    padded[0, 299] = padded[299, 0] = padded[5, 5] = 1
    padded = padded.tocsr()
    padded[0, 299], padded[299, 0], padded[5, 5] = W[0, 299], W[299, 0], 0  # zeros that are stored
    check(padded)
    unsorted = W.copy()
    for start, stop in zip(W.indptr, W.indptr[1:], strict=False):
        unsorted.indices[start:stop] = W.indices[start:stop][::-1]
        unsorted.data[start:stop] = W.data[start:stop][::-1]
    unsorted.has_sorted_indices = False
    check(unsorted)
    almost = W.copy()
    almost.data[0] *= 1 + 1e-9
    check(almost, 1e-7)


def test_a_sparse_graph_must_be_symmetric_square_and_not_negative():
    W = weighted(nx.gnp_random_graph(50, 0.2, seed=1))
    for kind in (SpectralEmbedding, SpectralClustering):
        model = kind(2, affinity="precomputed")
        with pytest.raises(InputError, match="symmetric"):
            model.fit(sparse.triu(W))
        other = W.copy()
        other.data[0] *= 1.01
        with pytest.raises(InputError, match="symmetric"):
            model.fit(other)
        with pytest.raises(InputError, match="square"):
            model.fit(W[:20])
        with pytest.raises(InputError, match="weights ≥ 0, got -"):
            model.fit(-W)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_tiny_graphs_have_all_their_eigenvectors(n):
    for graph in (of(nx.path_graph(n)), of(nx.complete_graph(n)), sparse.csr_array((n, n))):
        W, D, values = dense(graph)
        for k in range(1, n):
            ours = SpectralEmbedding(k, affinity="precomputed").fit(graph)
            np.testing.assert_allclose(ours.eigenvalues_, values[1 : k + 1], atol=1e-14)
            np.testing.assert_allclose(
                W @ ours.embedding_ / D[:, None], ours.embedding_ * ours.eigenvalues_, atol=1e-14
            )


@pytest.mark.parametrize("k", [250, 499])
def test_almost_all_eigenvectors_are_found(k):
    graph = moons(500)
    _, D, values = dense(graph)
    ours = SpectralEmbedding(k, affinity="precomputed").fit(graph)
    np.testing.assert_allclose(ours.eigenvalues_, values[1 : k + 1], atol=1e-12)
    v = np.sqrt(D)[:, None] * ours.embedding_
    np.testing.assert_allclose(v.T @ v, np.eye(k), atol=1e-9)


@pytest.mark.parametrize("isolated", [1, 3, 40])
def test_nodes_without_edges_are_clusters_of_their_own(isolated):
    rings = sparse.block_diag([of(nx.cycle_graph(200))] * 2 + [sparse.csr_array((isolated, isolated))])
    labels = (
        SpectralClustering(2 + isolated, affinity="precomputed", random_state=0).fit(sparse.csr_array(rings)).labels_
    )
    expected = [0] * 200 + [1] * 200 + list(range(2, 2 + isolated))
    assert adjusted_rand_score(expected, labels) == 1


def test_the_pieces_of_a_graph_have_the_same_vectors_dense_and_sparse():
    W = sparse.csr_array(sparse.block_diag([moons(60), moons(80), moons(100), moons(120)]))
    found = SpectralEmbedding(5, affinity="precomputed").fit_transform(W)
    expected = SpectralEmbedding(5, affinity="precomputed").fit_transform(W.toarray())
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


@pytest.fixture(name="factored")
def _factored(monkeypatch):
    """The numbers of rows of the sparse matrices that were factored."""
    found, original = [], conjugate.sparse_inverse

    def spy(matrix, known):
        found.append(matrix.shape[0])
        return original(matrix, known)

    monkeypatch.setattr(conjugate, "sparse_inverse", spy)
    return found


def test_a_graph_that_fills_in_is_not_factored(factored):
    # A random graph has no small separators, so its factor is almost dense; but its second eigenvalue is small.
    graph = of(nx.random_regular_graph(10, 4000, seed=0))
    ours = SpectralEmbedding(2, affinity="precomputed").fit(graph)
    assert factored == []
    np.testing.assert_allclose(graph @ ours.embedding_ / 10, ours.embedding_ * ours.eigenvalues_, atol=1e-12)
    assert 0.55 < ours.eigenvalues_[0] < 0.65  # 2√9/10


def test_a_graph_that_fills_in_and_has_a_bottleneck_is_factored_at_last(factored, monkeypatch):
    graph = moons(3000)
    expected = SpectralEmbedding(2, affinity="precomputed").fit(graph).embedding_
    assert factored == [3000]
    monkeypatch.setattr(eigen, "_OPERATIONS", 1e-3)
    monkeypatch.setattr(eigen, "_PRODUCTS", 60)
    found = SpectralEmbedding(2, affinity="precomputed").fit(graph).embedding_
    assert factored == [3000, 3000]
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_a_factor_that_nobody_can_wait_for_is_not_computed(factored, monkeypatch):
    monkeypatch.setattr(eigen, "_FEASIBLE", 0)
    monkeypatch.setattr(eigen, "_PRODUCTS", 20)
    with pytest.raises(ConvergenceError, match="2 eigenvectors of 3000 points were not found in 20 products"):
        SpectralEmbedding(2, affinity="precomputed").fit(moons(3000))
    assert factored == []


def test_a_graph_of_five_thousand_nodes_stays_sparse(factored, monkeypatch):
    graph = moons(5000)

    def dense(*_):
        raise AssertionError("the graph was made dense")

    for kind in (sparse.csr_array, sparse.csc_array, sparse.coo_array):
        monkeypatch.setattr(kind, "toarray", dense)
    monkeypatch.setattr(conjugate.SparseConjugate, "dense", dense)
    monkeypatch.setattr(conjugate, "_FEW", 0)
    ours = SpectralEmbedding(3, affinity="precomputed").fit(graph)
    assert factored == [5000]
    D = graph.sum(axis=1)
    np.testing.assert_allclose(
        graph @ ours.embedding_ / D[:, None],
        ours.embedding_ * ours.eigenvalues_,
        atol=1e-12 * np.abs(ours.embedding_).max(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("n", [20_000, 60_000])
def test_large_graphs(n):
    graph = moons(n)
    ours = SpectralEmbedding(3, affinity="precomputed").fit(graph)
    theirs = manifold.SpectralEmbedding(3, affinity="precomputed", random_state=0).fit_transform(graph)
    agree_to_sign(ours.embedding_, theirs, 1e-6)
