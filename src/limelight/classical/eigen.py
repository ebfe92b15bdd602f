"""The largest eigenvalues of a symmetric matrix, of which only products are needed, also if eigenvalues repeat.

They are found by block Lanczos, on the matrix or on an inverse; a small matrix is decomposed as a whole. The signs of
the vectors, and the basis for a repeated eigenvalue, are the same in each call.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

from limelight.errors import ConvergenceError

_WRITTEN = 400  # a matrix of at most so many rows that is not stored is computed by products with I
_DECOMPOSED = 75  # a stored matrix of at most so many rows for each vector of a block is decomposed as a whole
_FACTORED = 2000  # a stored matrix of at most so many rows is factored
_SHIFT = 1.03  # σ, for a matrix whose eigenvalues are all at most 1
_MORE = 3  # a block has so many more vectors than are wanted
_BASIS = 60  # the space is cut back when it has more than so many vectors, or
_TIMES = 6  # more than so many blocks, if that is more
_PRODUCTS = 1000  # the largest number of products with a block
_RESIDUAL = 2e-15  # a unit vector v has converged when |M v − λ v| / max(1, λ) is at most this
_RESIDUAL_OF_INVERSE = 1e-14  # the same for (σI − M)⁻¹, whose products are less exact
_SETTLED = 1e-12  # a residual below this that further products do not halve is rounding, so v has converged
_PATIENCE = 2  # after so many products that do not halve it
_GOOD_ENOUGH = 1e-7  # the largest residual that is accepted after the last product
_NOTHING = 1e-14  # a vector no longer than this is only rounding errors
_ALMOST = 1e-9  # the square of a component of a unit vector below this is only rounding
_LARGE = 0.1  # only eigenvalues larger than this are used as divisors
_SAME = 1e-9  # eigenvalues closer than this count as equal

_Product = Callable[[np.ndarray], np.ndarray]


def largest(
    product: _Product, n: int, k: int, written: Callable[[], np.ndarray | None] = lambda: None
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The k largest eigenvalues, largest first, and unit eigenvectors of the n×n matrix that `product` applies.

    No eigenvalue may be more than 1. `product` takes (n, b) for any b, in float64; `written` returns the matrix itself,
    as a new array, or None if it is not stored. Each vector has the sign that makes its largest entry positive. Raises
    `ConvergenceError` if the eigenvectors are not found.
    """
    # There are three ways, chosen by cost. A small matrix is decomposed as a whole; if it is not stored, it is first
    # computed as its product with I. A stored matrix of medium size is inverted, and the space found for the inverse is
    # used for the matrix itself. For all others only products are computed.
    b = k + _MORE
    matrix = written() if n <= _FACTORED else None
    if matrix is None and (n <= _WRITTEN or n < 4 * b):
        matrix = product(np.eye(n))
    if matrix is None:
        values, vectors, _ = _by_blocks(product, n, k)
    elif n <= _DECOMPOSED * b:
        values, vectors = _by_decomposition(matrix, k)
    else:
        values, vectors = _rayleigh_ritz(product, _by_blocks(_inverse(matrix), n, k, _RESIDUAL_OF_INVERSE)[2])
    # The basis is fixed before the cut to k vectors, which may go through the middle of a repeated eigenvalue.
    values, vectors = values[:k], _own_basis(values, vectors)[:, :k]
    # One more product, v = M v/λ, corrects small entries. In a vector from an orthonormal basis each entry has an error
    # of about 1e-16 times the largest entry, which is much more than an entry of 1e-20, as a point of very small degree
    # has. In a product each entry is a sum over its own row, and as exact relative to its size as that row is. If λ is
    # small, the division would enlarge other errors, so the vector is not changed.
    images = product(vectors)
    return values, with_sign(np.where(np.abs(values) > _LARGE, images / np.where(values == 0, 1, values), vectors))


def with_sign(vectors: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Each column or its negative: the one whose largest entry is positive."""
    # Both v and −v are eigenvectors, and which one is computed depends on rounding, threads and the library. A rule
    # that depends on v alone makes the result the same everywhere, unless the two largest entries have opposite signs
    # and equal size.
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return vectors * np.where(peaks < 0, -1.0, 1.0)


def _by_decomposition(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues and a few more, and their eigenvectors, of a matrix that is overwritten."""
    # LAPACK's syevx turns M into a tridiagonal matrix with the same eigenvalues, finds the wanted ones by
    # bisection and their vectors by inverse iteration: less work than finding all n. M = Mᵀ, and Mᵀ has the column
    # order that LAPACK reads without a copy.
    n = len(matrix)
    values, vectors = scipy.linalg.eigh(
        matrix.T, subset_by_index=[max(n - k - _MORE, 0), n - 1], driver="evx", overwrite_a=True, check_finite=False
    )
    return values[::-1], vectors[:, ::-1]


def _inverse(matrix: np.ndarray) -> _Product:
    """The product with (σI − M)⁻¹; M is overwritten."""
    # Shift and invert (Ericsson & Ruhe 1980). (σI − M)⁻¹ has the eigenvectors of M with the eigenvalues 1/(σ − λ). With
    # σ a little above the largest λ, the largest of these lie much further apart: for σ = 1.03, λ = 0.99 and 0.98
    # become 25 and 20. So the space needs a third of the products. The inverse is never formed: σI − M is positive
    # definite, and each product is two triangular solves with its Cholesky factor.
    np.negative(matrix, out=matrix)
    matrix.flat[:: len(matrix) + 1] += _SHIFT
    factor = scipy.linalg.cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    return lambda block: scipy.linalg.cho_solve(factor, block, check_finite=False)


def _rayleigh_ritz(product: _Product, space: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues, largest first, and eigenvectors of the matrix in the space that these vectors span."""
    # The Rayleigh–Ritz method: with orthonormal columns V of the space, each eigenpair (λ, z) of the small VᵀM V gives
    # the pair (λ, V z) of M. Rounding makes VᵀM V slightly unsymmetric, so it is averaged with its transpose.
    basis = scipy.linalg.qr(space, mode="economic")[0]
    within = basis.T @ product(basis)
    values, turn = scipy.linalg.eigh((within + within.T) / 2)
    return values[::-1], basis @ turn[:, ::-1]


def _by_blocks(
    product: _Product, n: int, k: int, enough: float = _RESIDUAL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The b = k + 3 largest eigenvalues, unit eigenvectors and their images; the first k are exact up to rounding."""
    # Block Lanczos (Golub & Underwood 1977). The space of v, M v, M² v, … that grows from one vector holds one
    # eigenvector of each eigenvalue, so that a graph in ten pieces, whose eigenvalue 1 is tenfold, would look connected
    # until rounding errors change this. Here a block of b vectors is multiplied at once: the space grown from it holds
    # up to b eigenvectors of each eigenvalue, and b is more than k. Its vectors V are kept with their images M V, and
    # the Rayleigh–Ritz method finds eigenvalues and vectors in it from the small matrix VᵀM V. The first block is
    # random with a fixed seed, so that each call gives the same result.
    b = k + _MORE
    most = max(_BASIS, _TIMES * b)
    basis = images = np.empty((n, 0), order="F")
    within = np.empty((0, 0))  # basisᵀ M basis
    block = _orthonormal(np.random.default_rng(0).uniform(-1, 1, (n, b)), basis)
    residual = least = np.inf
    waited = 0
    for _ in range(_PRODUCTS):
        image = np.asfortranarray(product(block))
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        within = _bordered(within, basis.T @ image)
        values, turn = np.linalg.eigh(within)
        values, turn = values[::-1], turn[:, ::-1]
        # The residuals M y − θ y of the k leading pairs (θ, y) of the space measure how far they are from eigenpairs.
        # They fall until only rounding errors are left, whose size depends on the matrix. So the search also ends if
        # they are small and two products in a row have not halved them.
        missed = images @ turn[:, :k] - basis @ (turn[:, :k] * values[:k])
        residual = float((np.linalg.norm(missed, axis=0) / np.maximum(values[:k], 1)).max())
        least, waited = (residual, 0) if residual <= least / 2 else (least, waited + 1)
        if residual <= enough or (residual <= _SETTLED and waited >= _PATIENCE):
            return values[:b], basis @ turn[:, :b], images @ turn[:, :b]
        if basis.shape[1] + b > most:
            # Thick restart (Wu & Simon 2000): of a space that has become large the 2b leading vectors y are kept, for
            # which VᵀM V is diagonal. All their residuals M y − θ y lie in the block by which the space would have
            # grown next. So it continues with the residuals of the b leading ones, and only the other directions are
            # lost.
            values, turn = values[: 2 * b], turn[:, : 2 * b]
            basis, images, within = basis @ turn, images @ turn, np.diag(values)
            block = _orthonormal(images[:, :b] - basis[:, :b] * values[:b], basis)
            turn = np.eye(len(values))
        else:
            block = _orthonormal(image, basis)
        if not block.shape[1]:  # M maps the space into itself: its eigenpairs are those of M, up to rounding
            break
    if residual > _GOOD_ENOUGH:
        raise ConvergenceError(
            f"{k} eigenvectors of {n} points were not found in {_PRODUCTS} products (|Mv − λv| = {residual:.1g}); "
            "try a larger bandwidth (a smaller gamma), or fewer components"
        )
    return values[:b], basis @ turn[:, :b], images @ turn[:, :b]


def _bordered(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The symmetric matrix extended by these columns, which are also its last rows."""
    old, new = len(matrix), len(columns)
    larger = np.empty((new, new))
    larger[:old, :old] = matrix
    larger[:, old:] = columns
    larger[old:, :old] = columns[:old].T
    larger[old:, old:] = (columns[old:] + columns[old:].T) / 2
    return larger


def _orthonormal(block: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Unit vectors, orthogonal to the basis and to each other, that span the block together with the basis."""
    # Gram–Schmidt: the components along the basis are subtracted, and a QR decomposition makes the rest orthonormal. If
    # the rest is small, its relative rounding errors are large, and this must be repeated; twice is enough, unless
    # hardly more than rounding errors are left (Giraud et al. 2005). A vector of which nothing is left lies in the
    # space already and is dropped; pivoting puts such vectors last. The last subtraction changes lengths only by the
    # square of what it subtracts.
    along = basis.T @ block
    for _ in range(3):
        unit, r, _ = scipy.linalg.qr(block - basis @ along, mode="economic", pivoting=True)
        block = unit[:, np.abs(np.diagonal(r)) > _NOTHING]
        along = basis.T @ block
        if not along.size or np.abs(along).max() <= _ALMOST:
            break
    return block - basis @ along


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
            fixed = np.random.default_rng(1).standard_normal((len(vectors), stop - start))
            turn, r = np.linalg.qr(space.T @ fixed)
            vectors[:, start:stop] = space @ (turn * np.where(np.diagonal(r) < 0, -1.0, 1.0))
    return vectors
