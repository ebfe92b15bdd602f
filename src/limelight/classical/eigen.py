"""The largest eigenvalues of a symmetric matrix, of which only products are needed, also if eigenvalues repeat.

They are found by block Lanczos, on the matrix or on an inverse; a small matrix is decomposed as a whole. The signs of
the vectors, and the basis for a repeated eigenvalue, are the same in each call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import numpy as np
import scipy.linalg
from jaxtyping import Float

from limelight.classical.inverses import dense_inverse
from limelight.classical.lanczos import MORE, Product, leading
from limelight.classical.threads import one_thread
from limelight.errors import ConvergenceError

_WRITTEN = 400  # a matrix of at most so many rows that is not stored is computed by products with I
_DECOMPOSED = (300, 20)  # a stored matrix of at most 300 rows, and 20 for each wanted vector, is decomposed as a whole
_DECOMPOSED_SPARSE = (250, 7)  # the same for a sparse one
_FACTORED = 2000  # a stored matrix of at most so many rows is factored
_CHEAP = 0.03  # a sparse one, if this takes less than this times n³ operations, is factored as such
_OPERATIONS = 100  # a product of n rows with a vector takes so many times n operations, orthogonalization included
_FEW = 50  # a larger sparse matrix is factored if this costs less than so many products with a block
_FEASIBLE = 3e12  # if products do not suffice, it is factored if this takes less than so many operations, an hour
_WIDTH = 2  # the vectors of the first block of which an inverse that is sparse is applied
_WIDTH_DENSE = 4  # the same for one that is dense
_PRODUCTS = 1000  # the largest number of products with a block
_RESIDUAL = 2e-15  # a unit vector v has converged when |M v − λ v| / max(1, λ) is at most this
_RESIDUAL_OF_INVERSE = 1e-14  # the same for (σI − M)⁻¹, whose products are less exact
_LARGE = 0.1  # only eigenvalues larger than this are used as divisors
_SAME = 1e-9  # eigenvalues closer than this count as equal


class Symmetric(Protocol):
    """A symmetric n×n matrix M, none of whose eigenvalues is more than 1, in the forms in which it is stored."""

    n: int

    def product(self, block: Float[np.ndarray, "n b"]) -> Float[np.ndarray, "n b"]:
        """M v, for any b, in float64."""

    def dense(self) -> Float[np.ndarray, "n n"] | None:
        """M as a new array, or None if it is not stored."""

    def work(self) -> float:
        """An estimate of the operations by which the sparse σI − M is factored, infinite if it is not sparse."""

    def inverse(self) -> Product:
        """The product with (σI − M)⁻¹ of a sparse M."""


def largest(matrix: Symmetric, k: int) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The k largest eigenvalues, largest first, and unit eigenvectors.

    Each vector has the sign that makes its largest entry positive. Raises `ConvergenceError` if the eigenvectors are
    not found.
    """
    values, vectors = _found(matrix, k)
    # The basis is fixed before the cut to k vectors, which may go through the middle of a repeated eigenvalue.
    values, vectors = values[:k], _own_basis(values, vectors)[:, :k]
    # One more product, v = M v/λ, corrects small entries. In a vector from an orthonormal basis each entry has an error
    # of about 1e-16 times the largest entry, which is much more than an entry of 1e-20, as a point of very small degree
    # has. In a product each entry is a sum over its own row, and as exact relative to its size as that row is. If λ is
    # small, the division would enlarge other errors, so the vector is not changed.
    images = matrix.product(vectors)
    return values, with_sign(np.where(np.abs(values) > _LARGE, images / np.where(values == 0, 1, values), vectors))


def with_sign(vectors: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Each column or its negative: the one whose largest entry is positive."""
    # Both v and −v are eigenvectors, and which one is computed depends on rounding, threads and the library. A rule
    # that depends on v alone makes the result the same everywhere, unless the two largest entries have opposite signs
    # and equal size.
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return vectors * np.where(peaks < 0, -1.0, 1.0)


def _found(matrix: Symmetric, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues and a few more, and their eigenvectors, by the way that is likely to cost least."""
    # A small matrix is decomposed as a whole; if it is not stored, it is first computed as its product with I. One of
    # medium size is factored, a sparse one as such unless many entries fill in. For a larger one products are computed,
    # unless it is sparse and its factor costs less.
    n, b = matrix.n, k + MORE
    if n > _rows(_DECOMPOSED_SPARSE, k) and n <= _FACTORED and matrix.work() < _CHEAP * n**3:
        return _by_inverse(matrix, matrix.inverse, k, _WIDTH)
    dense = matrix.dense() if n <= _FACTORED else None
    if dense is None and (n <= _WRITTEN or n < 4 * b):
        dense = matrix.product(np.eye(n))
    if dense is None:
        return _by_products(matrix, k)
    if n <= _rows(_DECOMPOSED, k):
        return _by_decomposition(dense, k)
    return _by_inverse(matrix, lambda: dense_inverse(dense), k, _WIDTH_DENSE)


def _rows(limit: tuple[int, int], k: int) -> int:
    return limit[0] + limit[1] * k


def _by_products(matrix: Symmetric, k: int) -> tuple[np.ndarray, np.ndarray]:
    """By products, or from the factor of a sparse matrix if that costs less."""
    # A sparse matrix that fills in is mostly one of a graph without bottlenecks, whose eigenvalues other than the
    # first are small, so that some dozens of products suffice. But graphs with bottlenecks may fill in, too, and take
    # many thousands. Nobody knows before; so products are tried until they have cost as much as the factor will.
    # The price is at most twice that of the better way.
    work = matrix.work()
    if work >= _FEASIBLE:
        return leading(matrix.product, matrix.n, k, k + MORE, _RESIDUAL, _PRODUCTS)
    tried = min(int(work / (_OPERATIONS * matrix.n * (k + MORE))), _PRODUCTS)
    if tried >= _FEW:
        with suppress(ConvergenceError):
            return leading(matrix.product, matrix.n, k, k + MORE, _RESIDUAL, tried)
    return _by_inverse(matrix, matrix.inverse, k, _WIDTH)


def _by_inverse(matrix: Symmetric, inverse: Callable[[], Product], k: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The space found for the inverse is used for the matrix itself."""
    with one_thread():
        space = leading(inverse(), matrix.n, k, width, _RESIDUAL_OF_INVERSE, _PRODUCTS)[1]
        return _rayleigh_ritz(matrix.product, space)


def _by_decomposition(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues and a few more, and their eigenvectors, of a matrix that is overwritten."""
    # LAPACK's syevx turns M into a tridiagonal matrix with the same eigenvalues, finds the wanted ones by
    # bisection and their vectors by inverse iteration: less work than finding all n. M = Mᵀ, and Mᵀ has the column
    # order that LAPACK reads without a copy.
    n = len(matrix)
    some = [max(n - k - MORE, 0), n - 1]
    with one_thread():
        values, vectors = scipy.linalg.eigh(
            matrix.T, subset_by_index=some, driver="evx", overwrite_a=True, check_finite=False
        )
    return values[::-1], vectors[:, ::-1]


def _rayleigh_ritz(product: Product, space: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues, largest first, and eigenvectors of the matrix in the space that these vectors span."""
    # The Rayleigh–Ritz method: with orthonormal columns V of the space, each eigenpair (λ, z) of the small VᵀM V gives
    # the pair (λ, V z) of M. Rounding makes VᵀM V slightly unsymmetric, so it is averaged with its transpose.
    basis = scipy.linalg.qr(space, mode="economic")[0]
    within = basis.T @ product(basis)
    values, turn = scipy.linalg.eigh((within + within.T) / 2)
    return values[::-1], basis @ turn[:, ::-1]


def _own_basis(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The vectors, where those of a repeated eigenvalue are rotated to a basis that depends on their space alone."""
    # The vectors V of a repeated eigenvalue are an arbitrary orthonormal basis of its space: V O with any rotation O is
    # another one. Fixed vectors F select one. Let VᵀF = Q R, where R is triangular with a positive
    # diagonal; the basis is V Q. Had V O been found, then (V O)ᵀF = (OᵀQ) R, and V O OᵀQ = V Q is the same basis.
    vectors = vectors.copy()
    starts = np.flatnonzero(np.diff(values, prepend=np.inf) < -_SAME)
    for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
        if stop - start > 1:
            space = vectors[:, start:stop]
            fixed = fixed_vectors(len(vectors), stop - start)
            turn, r = np.linalg.qr(space.T @ fixed)
            vectors[:, start:stop] = space @ (turn * np.where(np.diagonal(r) < 0, -1.0, 1.0))
    return vectors


def fixed_vectors(n: int, k: int) -> Float[np.ndarray, "n k"]:
    """Random vectors that are the same in each call."""
    return np.random.default_rng(1).standard_normal((n, k))
