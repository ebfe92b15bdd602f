"""Eigenvectors of attention without its matrix: diffusion maps, Laplacian eigenmaps, spectral clustering.

For a symmetric kernel P_ij = M_ij exp ½(d_j − d_i), with M symmetric and d_i the logarithm of point i's degree: so
ψ is an eigenvector of P where e^{d/2} ψ is one of M, and the first one, ψ = 1, is known beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import k_means
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.others import Others
from limelight.classical.parameters import require_whole
from limelight.classical.points import bandwidth_for, median_distance, points, require_positive
from limelight.errors import ConvergenceError, InputError
from limelight.normalisation import Softmax
from limelight.similarity import Euclidean

_LEAST_LOG_DEGREE = -700.0  # below it e^d is no normal float64

_Apply = Callable[[Float[Tensor, "n 1"]], Float[Tensor, "n 1"]]


class DiffusionMaps(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Ψ_l(x) = λ_lᵗ ψ_l(x), where P ψ_l = λ_l ψ_l and P = Softmax(α) of a Gaussian (Coifman & Lafon 2006).

    Distances between the images are diffusion distances: with all n − 1 components |Ψ(x) − Ψ(y)|² is
    Σ_z (Pᵗ(x, z) − Pᵗ(y, z))²/π(z). α = 1 sees the manifold alone, whatever the density on it; α = 0 is random
    walks on the kernel's graph. The eigenvectors are found by products with P alone, in memory linear in n.

    n_components: of them, without the constant one; 1 to n − 1. alpha in [0, 1]. bandwidth h of exp −|x − y|²/2h²,
    None for the median distance. time t: steps of the walk, a whole number ≥ 1.

    Sets `embedding_` (n, n_components), `eigenvalues_` λ, largest first, `stationary_` π, and `bandwidth_`. ψ has mean
    square one under π; of its two signs that one is taken under which the largest entry is positive. Points that
    were not fitted are placed by Nyström's formula, Ψ_l(x) = λ_lᵗ⁻¹ Σ_y P(x, y) ψ_l(y).

    Raises `InputError` for parameters out of range and `ConvergenceError` where no eigenvectors are found.
    """

    def __init__(
        self, n_components: int = 2, alpha: float = 1.0, bandwidth: float | None = None, time: int = 1
    ) -> None:
        self.n_components, self.alpha, self.bandwidth, self.time = n_components, alpha, bandwidth, time

    def fit(self, X: Any, y: Any = None) -> Self:
        """The eigenvectors of P on these points, X (n, d)."""
        X = points(self, X, reset=True, ensure_min_samples=2).double()
        require_whole(self, "time", self.time, 1)
        require_whole(self, "n_components", self.n_components, 1, len(X) - 1)
        self.bandwidth_ = bandwidth_for(self, X, self.bandwidth)
        A = Attention(X, X, Euclidean(self.bandwidth_), Softmax(self.alpha))
        columns = Attention(X, X, Euclidean(self.bandwidth_)).logsumexp()
        degree = A.logsumexp() - self.alpha * columns
        values, vectors = _leading(self, lambda v: A @ v, degree, self.n_components)
        self._points, self._weights = X, (-self.alpha * columns).exp()[:, None]
        self.stationary_ = torch.softmax(degree, 0).numpy()
        self._psi = vectors / np.sqrt(self.stationary_)[:, None]
        self.eigenvalues_ = values
        self.embedding_ = values**self.time * self._psi
        return self

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Float[np.ndarray, "n components"]:
        """The images of the fitted points."""
        return self.fit(X, y).embedding_

    def transform(self, X: Any) -> Float[np.ndarray, "m components"]:
        """The images of points X (m, d): those fitted already keep theirs."""
        check_is_fitted(self)
        X = points(self, X, reset=False).double()
        # The columns are divided by sums over the fitted points, not over those asked about: as values, not as a bias.
        values = torch.cat([self._weights * torch.from_numpy(self._psi), self._weights], 1)
        psi = Attention(X, self._points, Euclidean(self.bandwidth_)) @ values
        return self.eigenvalues_ ** (self.time - 1) * (psi[:, :-1] / psi[:, -1:]).numpy()

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])


class SpectralEmbedding(BaseEstimator):  # type: ignore[misc]
    """Laplacian eigenmaps: u minimises Σ_ij W_ij (u_i − u_j)² / Σ_i D_i u_i², u ⟂ D 1 (Belkin & Niyogi 2003).

    W_ij = exp −γ|x_i − x_j|², W_ii = 0, D_i = Σ_j W_ij, so u are eigenvectors of D⁻¹W: attention that does not look at
    itself. As scikit-learn's `SpectralEmbedding(affinity="rbf")`, to the sign, in memory linear in n.

    n_components: 1 to n − 1. gamma: None for 1/d. Sets `embedding_` (n, n_components), `eigenvalues_` of D⁻¹W,
    largest first, and `gamma_`.

    Raises `InputError` for parameters out of range, also where a point is so far from all others that W
    underflows, and `ConvergenceError` where no eigenvectors are found.
    """

    def __init__(self, n_components: int = 2, gamma: float | None = None) -> None:
        self.n_components, self.gamma = n_components, gamma

    def fit(self, X: Any, y: Any = None) -> Self:
        """The eigenvectors of D⁻¹W on these points, X (n, d)."""
        X = points(self, X, reset=True, ensure_min_samples=2).double()
        require_whole(self, "n_components", self.n_components, 1, len(X) - 1)
        self.gamma_ = 1 / X.shape[1] if self.gamma is None else self.gamma
        self.eigenvalues_, self.embedding_ = _eigenmaps(self, X, self.gamma_, self.n_components)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Float[np.ndarray, "n components"]:
        """The images of the fitted points."""
        return self.fit(X, y).embedding_


class SpectralClustering(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """k-means of the points' Laplacian eigenmaps (Shi & Malik 2000; von Luxburg 2007), W_ij = exp −γ|x_i − x_j|².

    As scikit-learn's `SpectralClustering(affinity="rbf")`, label for label with the same `random_state`, in memory
    linear in n. n_clusters: 1 to n; gamma > 0; n_init: runs of k-means, of which the best is kept.

    Sets `labels_` (n,). Raises as `SpectralEmbedding`.
    """

    def __init__(
        self, n_clusters: int = 8, gamma: float = 1.0, n_init: int = 10, random_state: int | None = None
    ) -> None:
        self.n_clusters, self.gamma, self.n_init, self.random_state = n_clusters, gamma, n_init, random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Labels of these points, X (n, d)."""
        X = points(self, X, reset=True, ensure_min_samples=2).double()
        require_whole(self, "n_clusters", self.n_clusters, 1, len(X))
        random = check_random_state(self.random_state)
        start = random.uniform(-1, 1, len(X))
        maps = np.ones((len(X), 1))
        if self.n_clusters > 1:
            # With the constant one, which says nothing but counts in the tolerance of k-means.
            maps = np.hstack([maps, _eigenmaps(self, X, self.gamma, self.n_clusters - 1, start)[1]])
        labels: Int[np.ndarray, " n"] = k_means(maps, self.n_clusters, random_state=random, n_init=self.n_init)[1]
        self.labels_ = labels
        return self


def _eigenmaps(
    estimator: BaseEstimator, X: Float[Tensor, "n d"], gamma: float, k: int, start: np.ndarray | None = None
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The k leading eigenvalues of D⁻¹W after the first, and u = D^{-1/2} × unit ones of D^{-1/2} W D^{-1/2}."""
    name = type(estimator).__name__
    require_positive(estimator, "gamma", gamma)
    others = Others(X, bandwidth_for(estimator, X, 1 / math.sqrt(2 * gamma)))
    degree = others.log_degree
    if float(degree.min()) < _LEAST_LOG_DEGREE:
        raise InputError(
            f"{name}(gamma={gamma:g}): point {int(degree.argmin())} is so far from all others that its similarity to "
            f"them underflows; try a gamma near {0.5 / median_distance(X) ** 2:.3g}, of the median distance"
        )
    values, vectors = _leading(estimator, others.__matmul__, degree, k, start)
    return values, _with_sign(vectors * (-0.5 * degree).exp()[:, None].numpy())


def _leading(
    estimator: BaseEstimator, apply: _Apply, degree: Float[Tensor, " n"], k: int, start: np.ndarray | None = None
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The k largest eigenvalues, after the known one, of M = e^{d/2} P e^{−d/2}, and unit eigenvectors of M.

    P is what `apply` multiplies with, d the logarithm of degrees that make M symmetric. What is known, e^{d/2}, is
    moved from 1 to −2, below everything that a stochastic matrix has.
    """
    n = len(degree)
    half = (0.5 * (degree - degree.max())).exp()[:, None]
    known = half / half.norm()

    def product(vector: np.ndarray) -> np.ndarray:
        v = torch.from_numpy(np.ascontiguousarray(vector, dtype=np.float64)).reshape(-1, 1)
        along = known.mT @ v
        image = half * apply((v - known * along) / half)
        return (image - known * (known.mT @ image) - 2 * known * along).reshape(-1).numpy()

    M = LinearOperator((n, n), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).uniform(-1, 1, n) if start is None else start
    try:
        values, vectors = eigsh(M, k=k, which="LA", v0=start)
    except ArpackError as error:
        raise ConvergenceError(
            f"{type(estimator).__name__}: ARPACK did not find {k} eigenvectors of {n} points ({error}); "
            "try a larger bandwidth (a smaller gamma), or fewer components"
        ) from error
    order = np.argsort(-values)
    return values[order], _with_sign(vectors[:, order])


def _with_sign(vectors: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Each column or its negative: the one whose largest entry is positive."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return vectors * np.where(largest < 0, -1.0, 1.0)
