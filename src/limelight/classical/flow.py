"""Markov clustering: the flow on a graph is squared and sharpened until convergence."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array, csr_array, diags_array, issparse
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data
from torch import Tensor

from limelight.classical.affinities import neighbors
from limelight.classical.gaussian import gaussian
from limelight.classical.graphs import require_weights
from limelight.classical.parameters import require_positive, require_tolerance, require_whole
from limelight.classical.points import bandwidth_for, points, undisturbed
from limelight.errors import InputError
from limelight.mask import Graph


class MarkovClustering(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """P ← (P²)ʳ, entry by entry, with rows divided by their sums; clusters share an attractor (van Dongen 2000).

    Squaring spreads flow, the power r sharpens it, until every point flows to the attractors of its cluster. The
    number of clusters is a result: the larger `inflation` r > 1, the more. The first P is attention of a Gaussian on
    the graph of each point's `n_neighbors` nearest, in both directions, and of itself. With affinity="precomputed" X
    is the graph, weights (n, n) ≥ 0, dense or sparse; each loop is replaced by the largest weight of its row.

    The power of each entry needs the entries, so here the matrix is stored: sparse, without entries below `prune`.
    bandwidth None is the median distance of neighbors. The steps end when no entry changes by more than `tol`.

    Sets `labels_`, `flow_` (sparse, the last P) and `n_iter_`. A point whose flow ends at two attractors
    joins them to one cluster. Warns if max_iter steps are not enough; raises `InputError` for parameters and weights
    out of range.
    """

    def __init__(
        self,
        inflation: float = 2.0,
        n_neighbors: int = 5,
        bandwidth: float | None = None,
        affinity: str = "rbf",
        max_iter: int = 100,
        tol: float = 1e-6,
        prune: float = 1e-5,
    ) -> None:
        self.inflation, self.n_neighbors, self.bandwidth, self.affinity = inflation, n_neighbors, bandwidth, affinity
        self.max_iter, self.tol, self.prune = max_iter, tol, prune

    @undisturbed
    def fit(self, X: Any, y: Any = None) -> Self:
        """Clusters of these points, X (n, d), or of the graph with these weights, X (n, n)."""
        require_positive(self, "inflation", self.inflation)
        if self.inflation <= 1:
            raise InputError(f"MarkovClustering(inflation=…) expects a number > 1, got {self.inflation!r}")
        require_whole(self, "max_iter", self.max_iter, 1)
        require_tolerance(self, "tol", self.tol)
        require_tolerance(self, "prune", self.prune)
        # P² (expansion) takes two steps of the flow and so spreads it. Entries to the power r, with rows divided by
        # their sums again (inflation), favor the large ones. Between clusters there are few paths, and their flow
        # vanishes. After convergence, with rare exceptions, P² = P, and each point flows to the attractors of its
        # cluster (van Dongen 2000). So clusters are the connected components of the remaining graph.
        P, self.n_iter_ = self._first(X), 0
        while self.n_iter_ < self.max_iter:
            self.n_iter_ += 1
            before, P = P, self._inflated(P @ P)
            moved = abs(P - before).max()
            if moved <= self.tol:
                break
        else:
            warnings.warn(
                f"MarkovClustering: an entry of the flow moved by {moved:.2g} in the last of {self.max_iter} steps; "
                "allow more steps (max_iter), or another inflation",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.flow_ = P
        labels: Int[np.ndarray, " n"] = connected_components(P, directed=True, connection="weak")[1]
        self.labels_ = labels
        return self

    def _first(self, X: Any) -> csr_array:
        if self.affinity == "precomputed":
            X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, ensure_min_samples=2)
            return _with_loops(X)
        if self.affinity != "rbf":
            raise InputError(f"MarkovClustering(affinity=…) expects 'rbf' or 'precomputed', got {self.affinity!r}")
        X = points(self, X, reset=True, ensure_min_samples=2).double()
        require_whole(self, "n_neighbors", self.n_neighbors, 1, len(X) - 1)
        keys, apart = neighbors(X, int(self.n_neighbors))
        near = float(apart.median()) or 1.0 if self.bandwidth is None else self.bandwidth
        return _attention_on(keys, X, bandwidth_for(self, X, near))

    def _inflated(self, P: csr_array) -> csr_array:
        """Entries to the power r, rows divided by their sums, and entries below `prune` left out."""
        # A row is first divided by its largest entry, which the division by the sum cancels: otherwise a large power
        # may underflow in a whole row. Small entries are left out, since P would become dense with them; the largest
        # entry of a row is always kept, so that no row becomes empty.
        largest = P.max(axis=1).toarray().reshape(-1)
        P.data = (P.data / np.repeat(largest, np.diff(P.indptr))) ** self.inflation
        P = _stochastic(P)
        least = np.minimum(self.prune, P.max(axis=1).toarray().reshape(-1))
        P.data[P.data < np.repeat(least, np.diff(P.indptr))] = 0
        P.eliminate_zeros()
        return _stochastic(P)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = tags.input_tags.positive_only = tags.input_tags.sparse = (
            self.affinity == "precomputed"
        )
        return tags


def neighbor_graph(keys: Int[Tensor, "n k"]) -> Graph:
    """An edge from each point to its neighbors, to the points whose neighbor it is, and to itself."""
    n, k = keys.shape
    i = torch.arange(n)
    there = torch.stack([i.repeat_interleave(k), keys.reshape(-1)])
    return Graph(torch.cat([there, there.flip(0), torch.stack([i, i])], 1), n)


def _attention_on(keys: Int[Tensor, "n k"], X: Float[Tensor, "n d"], h: float) -> csr_array:
    """The sparse P of a Gaussian on the edges between i and keys_i and on loops, from the operator's normalizer."""
    # Here the entries of P on the edges are needed. The operator gives the log-normalizer L_i over each point's
    # edges without rows of the matrix, and P_ij = exp(s_ij − L_i).
    n, graph = len(X), neighbor_graph(keys)
    rows, cols = graph.edges
    s = -((X[rows] - X[cols]) / h).square().sum(1) / 2
    weights = (s - gaussian(X, X, h, mask=graph).logsumexp()[rows]).exp()
    return coo_array((weights.numpy(), (rows.numpy(), cols.numpy())), (n, n)).tocsr()


def _with_loops(W: Any) -> csr_array:
    """The graph with each loop set to the row's largest weight (1 if there is none) and rows divided by their sums."""
    W = csr_array(W) if issparse(W) else csr_array(np.asarray(W))
    if W.shape[0] != W.shape[1]:
        raise InputError(f"MarkovClustering(affinity='precomputed') expects a square matrix of weights, got {W.shape}")
    require_weights("MarkovClustering", W)
    # Without loops P² has only paths of exactly two steps: two points joined by an edge have P² = I, and would be
    # separated. With a loop of the largest weight a part of the flow stays in each step (van Dongen 2000).
    W = W - diags_array(W.diagonal())
    largest = W.max(axis=1).toarray().reshape(-1)
    n = np.arange(W.shape[0])
    loops = csr_array((np.where(largest > 0, largest, 1.0), (n, n)), W.shape)
    return _stochastic((W + loops).tocsr())


def _stochastic(P: csr_array) -> csr_array:
    """Each row divided by its sum."""
    sums = np.asarray(P.sum(axis=1)).reshape(-1)
    P.data /= np.repeat(sums, np.diff(P.indptr))
    return P
