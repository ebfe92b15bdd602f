"""Affinities of further methods: each is initialized, strengthened and normalized here, but not optimized.

The methods are MDS, Isomap, LLE, SNE, t-SNE, UMAP, support vector machines and graph convolution. What a method then
does with its affinity (eigenvectors, gradient descent, a quadratic program) is left to scikit-learn. The page
`docs/methods.md` lists them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from limelight.attention import Attention
from limelight.classical.gaussian import distances, gaussian
from limelight.classical.operators import Centered, Rescaled, Symmetrized
from limelight.errors import ConvergenceError, InputError
from limelight.mask import Graph, window
from limelight.similarity import Dot, Euclidean, Similarity, upcast

_STEPS, _TOLERANCE = 100, 1e-5  # steps and tolerance of bisections, as in scikit-learn and umap-learn


def mds(X: Float[Tensor, "n d"]) -> Centered:
    """B = −½ J D² J, J = I − 11ᵀ/n, D²_ij = |x_i − x_j|²: classical MDS uses the eigenvectors of B (Torgerson 1952).

    Centering removes the norms from −½|x_i − x_j|², so B holds the inner products of centered points.
    """
    return Centered(X, Euclidean())


def isomap(X: Float[Tensor, "n d"], n_neighbors: int = 5) -> Float[np.ndarray, "n n"]:
    """Geodesic distances: shortest paths along each point's `n_neighbors` nearest (Tenenbaum et al. 2000).

    Isomap is classical MDS of these distances, an array (n, n) with ∞ where there is no path.
    """
    keys, apart = neighbors(X, n_neighbors)
    return shortest_path(_sparse(apart, keys), directed=False)


def lle(X: Float[Tensor, "n d"], n_neighbors: int = 5, reg: float = 1e-3) -> csr_array:
    """W minimizes Σ_i |x_i − Σ_j W_ij x_j|² over neighbors j, Σ_j W_ij = 1 (Roweis & Saul 2000); sparse (n, n).

    For each point G w = 1, G_jk = ⟨x_j − x_i, x_k − x_i⟩ + reg · tr G · δ_jk, and w is divided by its sum. Weights may
    be negative: an affine combination, where attention is convex.
    """
    keys, _ = neighbors(X, n_neighbors)
    # Σ_j w_j = 1 makes x_i − Σ_j w_j x_j = −Σ_j w_j (x_j − x_i), so the square to be minimized is wᵀ G w. Lagrange's
    # condition under the constraint is G w = λ 1, with λ such that the sum is one. G has a rank of at most d, so it is
    # singular if there are more neighbors than dimensions: then many w minimize the square, and the ridge selects one
    # with small entries.
    edges = X[keys] - X[:, None]
    gram = edges @ edges.mT
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    ridge = reg * torch.where(trace > 0, trace, 1)
    w = torch.linalg.solve(gram + ridge[:, None, None] * torch.eye(n_neighbors).to(X), X.new_ones(len(X), n_neighbors))
    return _sparse(w / w.sum(1, keepdim=True), keys)


def sne(X: Float[Tensor, "n d"], perplexity: float = 30.0) -> Attention:
    """p_{j|i} ∝ exp −τ_i |x_i − x_j|²/2, p_{i|i} = 0, τ_i such that H(p_i) = log `perplexity` (Hinton & Roweis 2002).

    It takes memory linear in n. Raises `InputError` for a perplexity outside (1, n − 1), and `ConvergenceError` if so
    many points have the same distance from a point that no τ gives this perplexity.
    """
    # The perplexity exp H(p_i) is the effective number of a point's neighbors. As τ_i grows from 0 to ∞ it falls from
    # n − 1 to the number of points that are nearest at one distance, so that bisection finds the τ_i between, for all
    # points at once. The entropies are those of an attention whose queries are (τ_i, x_i), each with its own
    # temperature. Distances are computed from the differences of coordinates, so that a distant outlier does not
    # change the other ones.
    n = len(X)
    if not 1 < perplexity < n - 1:
        raise InputError(f"the perplexity of {n} points must lie between 1 and {n - 1}, got {perplexity!r}")
    keys = torch.cat([X.new_zeros(n, 1), X], 1)

    def at(temperature: Float[Tensor, " n"]) -> Attention:
        queries = torch.cat([temperature[:, None], X], 1)
        return Attention(queries, keys, Tempered(), mask=~window(before=0, after=0))

    def excess(temperature: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return at(temperature).entropy() - math.log(perplexity)

    return at(_bisect(excess, X.new_full((n,), 2.0), f"a perplexity of {perplexity:g}"))


def tsne(X: Float[Tensor, "n d"], perplexity: float = 30.0) -> Symmetrized:
    """p_ij = (p_{j|i} + p_{i|j})/2n: the joint probabilities of t-SNE (van der Maaten & Hinton 2008)."""
    return Symmetrized(sne(X, perplexity), 1 / len(X))


def umap(X: Float[Tensor, "n d"], n_neighbors: int = 15) -> csr_array:
    """w_ij + w_ji − w_ij w_ji, w_ij = exp −max(0, d_ij − ρ_i)/σ_i over neighbors j (McInnes et al., 1802.03426).

    Sparse (n, n). ρ_i is the distance of the nearest neighbor, σ_i such that Σ_j w_ij = log₂ k. k counts the point
    itself, as in umap-learn, so that each point has k − 1 neighbors.
    """
    # Since ρ_i is subtracted, the nearest neighbor always has the weight 1, so that no point is isolated, however
    # sparse the data are around it. 1/σ_i is found by bisection, since the sum of weights falls as it grows. If w_ij
    # and w_ji are the probabilities of two independent edges, w_ij + w_ji − w_ij w_ji is that of at least one.
    if not 2 < n_neighbors <= len(X):
        raise InputError(f"n_neighbors counts the point itself and must be from 3 to {len(X)}, got {n_neighbors!r}")
    keys, apart = neighbors(X, n_neighbors - 1)
    beyond = (apart - apart[:, :1]).clamp(min=0)

    def excess(inverse: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return (-beyond * inverse[:, None]).exp().sum(1) - math.log2(n_neighbors)

    w = (-beyond * _bisect(excess, X.new_ones(len(X)), f"log₂ {n_neighbors} neighbors")[:, None]).exp()
    W = _sparse(w, keys)
    return (W + W.T - W * W.T).tocsr()


def svm(X: Float[Tensor, "n d"], support: Float[Tensor, "m d"], gamma: float) -> Rescaled:
    """K_ij = exp −γ|x_i − z_j|² over support vectors z: the class is sign(K @ dual + intercept) (Cortes & Vapnik 1995).

    The log-normalizer L of a softmax P recovers the weights before their division: K = e^L P.
    """
    A = gaussian(X, support, 1 / math.sqrt(2 * gamma))
    return Rescaled(A, A.logsumexp().exp())


def gcn(edges: Int[Tensor, "2 e"], nodes: int) -> Rescaled:
    """D̃^{-1/2} (A + I) D̃^{-1/2}: a graph convolution's propagation (Kipf & Welling 2017), edges in both directions.

    Attention with the same score for all neighbors is D̃⁻¹(A + I), and its log-normalizer is log D̃.
    """
    # With all features zero the scores of all edges are 0, and the softmax gives each neighbor the same weight: P is
    # D̃⁻¹(A + I), with a loop at each node.
    itself = torch.arange(nodes)
    nothing = torch.zeros(nodes, 1, dtype=torch.float64)
    graph = Graph(torch.cat([edges, torch.stack([itself, itself])], 1), nodes)
    return conjugate(Attention(nothing, nothing, Dot(), mask=graph))


def conjugate(A: Attention) -> Rescaled:
    """D^{1/2} P D^{-1/2} of a softmax P = D⁻¹W: D^{-1/2} W D^{-1/2}, symmetric if the scores are."""
    # W = D P with log D the log-normalizer. So D^{-1/2} W D^{-1/2} = D^{1/2} P D^{-1/2}, and no further sum is needed.
    half = 0.5 * A.logsumexp()
    return Rescaled(A, half.exp(), (-half).exp())


def neighbors(X: Float[Tensor, "n d"], k: int) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """The k others nearest to each point, nearest first, and their distances, by scikit-learn's tree.

    Raises `InputError` for k outside 1 … n − 1.
    """
    # A tree computes each distance from the differences of coordinates. A search by brute force would use
    # |x|² + |y|² − 2⟨x, y⟩, of which only rounding errors may be left if points are far from the origin. The distances
    # of the k neighbors are computed again here, by differences and in the dtype of the points.
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < len(X):
        raise InputError(f"n_neighbors of {len(X)} points must be a whole number from 1 to {len(X) - 1}, got {k!r}")
    tree = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(X.numpy())
    keys = torch.from_numpy(tree.kneighbors(return_distance=False))
    return keys, (X[keys] - X[:, None]).norm(dim=-1)


class Tempered(Similarity):
    """−τ|x − y|²/2 of queries (τ, x) and keys (0, y): a Gaussian with a width for each query."""

    def default_scale(self, d: int) -> float:
        return 1.0

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        q, k = upcast(q), upcast(k)
        return -0.5 * q[..., :1] * distances(q[..., 1:], k[..., 1:]).square()


def _sparse(weights: Float[Tensor, "n k"], keys: Int[Tensor, "n k"]) -> csr_array:
    """A sparse matrix (n, n) with each point's weights in the columns of its keys."""
    n, k = keys.shape
    rows = np.repeat(np.arange(n), k)
    return csr_array((weights.reshape(-1).numpy(), (rows, keys.reshape(-1).numpy())), (n, n))


def _bisect(excess: Callable[[Tensor], Tensor], value: Float[Tensor, " n"], wanted: str) -> Float[Tensor, " n"]:
    """The positive value_i with excess_i = 0, if each excess decreases as its value grows."""
    # All points are treated at once. A value is doubled while no upper bound of its root is known, halved while no
    # lower bound is, and after that it is the middle of the two. A point that has reached the tolerance keeps its
    # value, so that points that take longer do not change it. If no value gives an excess of 0, the values go to 0 or
    # to ∞, or the interval shrinks to rounding errors, and the steps run out.
    low, high = torch.full_like(value, 0), torch.full_like(value, math.inf)
    settled = torch.zeros_like(value, dtype=torch.bool)
    for _ in range(_STEPS):
        more = excess(value)
        settled |= more.abs() <= _TOLERANCE
        if bool(settled.all()):
            return value
        low, high = torch.where(more > 0, value, low), torch.where(more > 0, high, value)
        middle = torch.where(high == math.inf, 2 * value, torch.where(low == 0, value / 2, (low + high) / 2))
        value = torch.where(settled, value, middle)
    raise ConvergenceError(
        f"{int((~settled).sum())} of {len(value)} points, the first of them {int((~settled).int().argmax())}, do not "
        f"reach {wanted}: too many others are at one distance, or too near for {value.dtype}; remove duplicates"
    )
