"""Eigenvectors of attention without its matrix: diffusion maps, Laplacian eigenmaps, spectral clustering.

`limelight.classical.eigen` finds them, even if the graph has several components and eigenvalues repeat.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import k_means
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from limelight.classical.conjugate import Conjugate, WalkConjugate
from limelight.classical.eigen import largest, with_sign
from limelight.classical.gaussian import gaussian
from limelight.classical.graphs import SPARSE, DenseGraph, SparseGraph, given_graph
from limelight.classical.off_diagonal import OffDiagonalAttention
from limelight.classical.parameters import require_positive, require_whole
from limelight.classical.points import bandwidth_for, median_distance, points, undisturbed
from limelight.errors import InputError
from limelight.normalization import Softmax

_LEAST_LOG_DEGREE = -700.0  # float64 underflows a little below e^−700


class DiffusionMaps(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Ψ_l(x) = λ_lᵗ ψ_l(x), where P ψ_l = λ_l ψ_l and P = Softmax(α) of a Gaussian (Coifman & Lafon 2006).

    Distances between the images are diffusion distances: with all n − 1 components |Ψ(x) − Ψ(y)|² is
    Σ_z (Pᵗ(x, z) − Pᵗ(y, z))²/π(z). With α = 1 they depend on the manifold alone, not on the density on it; α = 0
    gives random walks on the kernel's graph. The eigenvectors of more than 2000 points are found by products with P
    alone, in memory linear in n.

    n_components: the number of eigenvectors, without the constant one; 1 to n − 1. alpha in [0, 1]. bandwidth h of
    exp −|x − y|²/2h², None for the median distance. time t: steps of the walk, a whole number ≥ 1.

    Sets `embedding_` (n, n_components), `eigenvalues_` λ, largest first, `stationary_` π, and `bandwidth_`. ψ has mean
    square one under π, and the sign that makes its largest entry positive. Points that were not fitted are placed by
    Nyström's formula, Ψ_l(x) = λ_lᵗ⁻¹ Σ_y P(x, y) ψ_l(y).

    A repeated eigenvalue, as 1 is for points in separate groups, is found as often as it repeats; its eigenvectors are
    a basis of their space that is the same in each fit.

    Raises `InputError` for parameters out of range and `ConvergenceError` if the eigenvectors are not found.
    """

    def __init__(
        self, n_components: int = 2, alpha: float = 1.0, bandwidth: float | None = None, time: int = 1
    ) -> None:
        self.n_components, self.alpha, self.bandwidth, self.time = n_components, alpha, bandwidth, time

    @undisturbed
    def fit(self, X: Any, y: Any = None) -> Self:
        """The eigenvectors of P on these points, X (n, d)."""
        given = points(self, X, reset=True, ensure_min_samples=2)
        X = given.double()
        require_whole(self, "time", self.time, 1)
        require_whole(self, "n_components", self.n_components, 1, len(X) - 1)
        self.bandwidth_ = bandwidth_for(self, X, self.bandwidth)
        # With K the Gaussian kernel and c its column sums, K_ij/(c_i c_j)^α is symmetric, and P is that divided by its
        # row sums D_i = c_i^{−α} Σ_j K_ij c_j^{−α}. The first factor cancels in P, so the log-normalizer of P lacks it,
        # and it is added here. The stationary law is π ∝ D, because D_i P_ij is symmetric. A unit vector of the
        # symmetric form divided by √π is ψ, with Σ_i π_i ψ_i² = 1.
        A = gaussian(X, X, self.bandwidth_, Softmax(self.alpha))
        columns = gaussian(X, X, self.bandwidth_).logsumexp()
        degree = A.logsumexp() - self.alpha * columns
        values, vectors = _leading(WalkConjugate(lambda v: A @ v, degree, A.dense), self.n_components)
        self._points, self._weights = X, (-self.alpha * columns).exp()[:, None]
        self.stationary_ = torch.softmax(degree, 0).numpy()
        self._psi = vectors / np.sqrt(self.stationary_)[:, None]
        self.eigenvalues_ = values
        self.embedding_ = (values**self.time * self._psi).astype(given.numpy().dtype)
        return self

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Float[np.ndarray, "n components"]:
        """The images of the fitted points."""
        return self.fit(X, y).embedding_

    @undisturbed
    def transform(self, X: Any) -> Float[np.ndarray, "m components"]:
        """The images of points X (m, d); points that were fitted keep their images."""
        check_is_fitted(self)
        given = points(self, X, reset=False)
        X = given.double()
        # ψ = P ψ/λ holds at the fitted points, and its right-hand side is defined at any x (Nyström): so
        #     Ψ(x) = λᵗ ψ(x) = λᵗ⁻¹ Σ_y P(x, y) ψ(y),   P(x, y) = K(x, y) c_y^{−α} / Σ_z K(x, z) c_z^{−α}.
        # The sums c are over the fitted points, and x must not change them. So c^{−α} is not computed by the
        # normalization, but multiplied with the values, and one more column gives the denominator.
        values = torch.cat([self._weights * torch.from_numpy(self._psi), self._weights], 1)
        psi = gaussian(X, self._points, self.bandwidth_) @ values
        images = self.eigenvalues_ ** (self.time - 1) * (psi[:, :-1] / psi[:, -1:]).numpy()
        return images.astype(given.numpy().dtype)

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])


class _OnGraph(BaseEstimator):  # type: ignore[misc]
    """The common part of spectral embedding and clustering: a graph of points, or a given graph."""

    affinity: str
    gamma: float | None

    def _graph(self, X: Any) -> tuple[OffDiagonalAttention | DenseGraph | SparseGraph, np.dtype[Any]]:
        """P without its diagonal, and the dtype of X. Sets `gamma_` if the graph is made by a Gaussian."""
        name = type(self).__name__
        if self.affinity == "precomputed":
            W = validate_data(self, X, accept_sparse=SPARSE, dtype=[np.float64, np.float32], ensure_min_samples=2)
            return given_graph(name, W), W.dtype
        if self.affinity != "rbf":
            raise InputError(f"{name}(affinity=…) expects 'rbf' or 'precomputed', got {self.affinity!r}")
        given = points(self, X, reset=True, accept_sparse=SPARSE, ensure_min_samples=2)
        if self.gamma is not None:
            require_positive(self, "gamma", self.gamma)
        self.gamma_ = 1 / given.shape[1] if self.gamma is None else float(self.gamma)
        others = OffDiagonalAttention(given, 1 / math.sqrt(2 * self.gamma_))
        if float(others.log_degree.min()) < _LEAST_LOG_DEGREE:
            raise InputError(
                f"{name}(gamma={self.gamma_:g}): point {int(others.log_degree.argmin())} is so far from all others "
                f"that its similarity to them underflows; try a gamma near {0.5 / median_distance(given) ** 2:.3g}, "
                "which is 1/2h² for the median distance h, or leave the point out"
            )
        return others, given.numpy().dtype

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = tags.input_tags.positive_only = self.affinity == "precomputed"
        return tags


class SpectralEmbedding(_OnGraph):
    """Laplacian eigenmaps: u minimizes Σ_ij W_ij (u_i − u_j)² / Σ_i D_i u_i², u ⟂ D 1 (Belkin & Niyogi 2003).

    W_ij = exp −γ|x_i − x_j|², W_ii = 0, D_i = Σ_j W_ij, so u are eigenvectors of D⁻¹W: attention in which no point
    attends to itself. As scikit-learn's `SpectralEmbedding(affinity="rbf")`, up to the signs, in memory linear in n.
    With affinity="precomputed" X is W (n, n), symmetric, ≥ 0, dense or sparse, whose diagonal is ignored; a sparse one
    stays sparse. A sparse X of points is made dense.

    n_components: 1 to n − 1. gamma: None for 1/d. Sets `embedding_` (n, n_components), `eigenvalues_` of D⁻¹W,
    largest first, and `gamma_`. If the graph has k connected components, the eigenvalue 1 repeats, and k − 1
    components of the embedding distinguish them; the basis is the same in each fit.

    Raises `InputError` for parameters out of range and if a point is so far from all others that W underflows, and
    `ConvergenceError` if the eigenvectors are not found.
    """

    def __init__(self, n_components: int = 2, gamma: float | None = None, affinity: str = "rbf") -> None:
        self.n_components, self.gamma, self.affinity = n_components, gamma, affinity

    @undisturbed
    def fit(self, X: Any, y: Any = None) -> Self:
        """The eigenvectors of D⁻¹W on these points, X (n, d), or on the graph with these weights, X (n, n)."""
        graph, dtype = self._graph(X)
        require_whole(self, "n_components", self.n_components, 1, len(graph.log_degree) - 1)
        self.eigenvalues_, maps = _eigenmaps(graph, self.n_components)
        self.embedding_ = maps.astype(dtype)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Float[np.ndarray, "n components"]:
        """The images of the fitted points."""
        return self.fit(X, y).embedding_


class SpectralClustering(ClusterMixin, _OnGraph):  # type: ignore[misc]
    """k-means of the points' Laplacian eigenmaps (Shi & Malik 2000; von Luxburg 2007), W_ij = exp −γ|x_i − x_j|².

    With the same `random_state` the labels are those of scikit-learn's `SpectralClustering(affinity="rbf")`, in memory
    linear in n. n_clusters: 1 to n; gamma > 0; affinity as in `SpectralEmbedding`; n_init: runs of k-means, of which
    the best is kept.

    Sets `labels_` (n,). Raises as `SpectralEmbedding`.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        gamma: float = 1.0,
        n_init: int = 10,
        random_state: int | None = None,
        affinity: str = "rbf",
    ) -> None:
        self.n_clusters, self.gamma, self.n_init, self.random_state = n_clusters, gamma, n_init, random_state
        self.affinity = affinity

    @undisturbed
    def fit(self, X: Any, y: Any = None) -> Self:
        """Labels of these points, X (n, d), or of the graph with these weights, X (n, n)."""
        require_positive(self, "gamma", self.gamma)
        graph, _ = self._graph(X)
        n = len(graph.log_degree)
        require_whole(self, "n_clusters", self.n_clusters, 1, n)
        random = check_random_state(self.random_state)
        random.uniform(
            -1, 1, n
        )  # scikit-learn draws these numbers for its eigenvectors, so k-means then draws the same ones
        maps = np.ones((n, 1))
        if self.n_clusters > 1:
            # The constant eigenvector distinguishes no points, but scikit-learn uses it too, and the tolerance at which
            # k-means stops is relative to the mean variance of all columns.
            maps = np.hstack([maps, _eigenmaps(graph, self.n_clusters - 1)[1]])
        labels: Int[np.ndarray, " n"] = k_means(maps, self.n_clusters, random_state=random, n_init=self.n_init)[1]
        self.labels_ = labels
        return self


def _eigenmaps(
    graph: OffDiagonalAttention | DenseGraph | SparseGraph, k: int
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The k leading eigenvalues of D⁻¹W after the first, and D^{-1/2} v, v unit eigenvectors of D^{-1/2} W D^{-1/2}."""
    values, vectors = _leading(graph.conjugate(), k)
    return values, with_sign(vectors * np.exp(-0.5 * graph.log_degree.numpy())[:, None])


def _leading(matrix: Conjugate, k: int) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The k largest eigenvalues, after the known one, of M, and unit eigenvectors."""
    between = matrix.between_pieces(k)
    pieces = between.shape[1]
    values, vectors = largest(matrix, k - pieces) if pieces < k else (np.empty(0), np.empty((matrix.n, 0)))
    return np.append(np.ones(pieces), values), np.hstack([between, vectors])
