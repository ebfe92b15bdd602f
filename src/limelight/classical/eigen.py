"""The largest eigenvalues of a symmetric matrix that is only multiplied with, however often each of them repeats.

By block Lanczos, on the matrix itself or on an inverse; a small matrix is decomposed as a whole. The signs of the
vectors, and the basis of those whose eigenvalue repeats, are the same in each call.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

from limelight.errors import ConvergenceError

_WRITTEN = 400  # rows up to which a matrix that is not at hand is written out
_DECOMPOSED = 75  # rows, for each vector of a block, up to which all of a matrix that is at hand is decomposed
_FACTORED = 2000  # rows up to which a matrix that is at hand is factored
_SHIFT = 1.03  # σ, for a matrix none of whose eigenvalues is more than 1
_MORE = 3  # vectors in a block beyond those asked for
_BASIS = 60  # vectors that the space may have before it is cut back, or
_TIMES = 6  # so many blocks, if these are more
_PRODUCTS = 1000  # products with a block, at most
_RESIDUAL = 2e-15  # a unit vector v is found when |M v − λ v| / max(1, λ) is at most this
_RESIDUAL_OF_INVERSE = 1e-14  # the same for (σI − M)⁻¹, whose products are less exact
_SETTLED = 1e-12  # a residual below this that more products do not halve is rounding, and v is found
_PATIENCE = 2  # products that may fail to halve it
_GOOD_ENOUGH = 1e-7  # the largest residual that is accepted after the last product
_NOTHING = 1e-14  # a vector no longer than this is rounding alone
_ALMOST = 1e-9  # a component of a unit vector so small that its square is rounding
_LARGE = 0.1  # an eigenvalue larger than this may be divided by
_SAME = 1e-9  # eigenvalues closer than this count as one

_Product = Callable[[np.ndarray], np.ndarray]


def largest(
    product: _Product, n: int, k: int, written: Callable[[], np.ndarray | None] = lambda: None
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The k largest eigenvalues, largest first, and unit eigenvectors of the n×n matrix that `product` applies.

    No eigenvalue is more than 1. `product` takes (n, b) for any b, in float64; `written` gives the matrix itself, as a
    new array, or None where it is not at hand. Each vector has the sign that makes its largest entry positive.
    Raises `ConvergenceError` where they are not found.
    """
    # Three ways, by cost. A small matrix is decomposed as a whole; one that is not at hand is first written out, as
    # its product with I. A matrix of middling size that is at hand is inverted, and the space found for the inverse is
    # used for the matrix itself. All others are only multiplied with.
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
    # One more product, v = M v/λ, polishes small entries. In a vector from an orthonormal basis each entry is wrong by
    # about 1e-16 of the largest, which is all of an entry that is 1e-20, as a point of very small degree has. In a
    # product each entry is a sum over its own row, as exact relative to its own size as that row is. Where λ is small
    # the division would enlarge other errors, so the vector stays as it is.
    images = product(vectors)
    return values, with_sign(np.where(np.abs(values) > _LARGE, images / np.where(values == 0, 1, values), vectors))


def with_sign(vectors: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Each column or its negative: the one whose largest entry is positive."""
    # v and −v are eigenvectors alike, and which one comes out depends on rounding, threads and the library. A rule that
    # looks at v alone makes the answer the same everywhere, unless two entries of opposite sign tie for the largest.
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return vectors * np.where(peaks < 0, -1.0, 1.0)


def _by_decomposition(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues and a few more, and their eigenvectors, of a matrix that is overwritten."""
    # LAPACK's syevx turns M into a tridiagonal matrix with the same eigenvalues, finds those that are asked for by
    # bisection and their vectors by inverse iteration: less work than all n. M = Mᵀ, and Mᵀ has the column order that
    # LAPACK reads without a copy.
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
    # the pair (λ, V z) of M. Rounding makes VᵀM V a little unsymmetric, which its mean with its transpose removes.
    basis = scipy.linalg.qr(space, mode="economic")[0]
    within = basis.T @ product(basis)
    values, turn = scipy.linalg.eigh((within + within.T) / 2)
    return values[::-1], basis @ turn[:, ::-1]


def _by_blocks(
    product: _Product, n: int, k: int, enough: float = _RESIDUAL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest eigenvalues, unit eigenvectors and their images: b = k + 3 of them, the first k to rounding."""
    # Block Lanczos (Golub & Underwood 1977). The space of v, M v, M² v, … that grows from one vector holds one
    # eigenvector of each eigenvalue, so that a graph in ten pieces, whose eigenvalue 1 is tenfold, would look connected
    # until rounding says otherwise. Here a block of b vectors is multiplied at once: the space grown from it holds up
    # to b eigenvectors of each eigenvalue, and b is more than k. Its vectors V are kept with their images M V, and the
    # Rayleigh–Ritz method finds eigenvalues and vectors in it from the small matrix VᵀM V. The first block is random
    # with a fixed seed, so that each call gives the same.
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
        # The residuals M y − θ y of the k leading pairs (θ, y) of the space tell how far they are from eigenpairs. They
        # fall until only rounding is left of them, at a level that depends on the matrix. So the search also ends
        # where they are small and two products in a row have not halved them.
        missed = images @ turn[:, :k] - basis @ (turn[:, :k] * values[:k])
        residual = float((np.linalg.norm(missed, axis=0) / np.maximum(values[:k], 1)).max())
        least, waited = (residual, 0) if residual <= least / 2 else (least, waited + 1)
        if residual <= enough or (residual <= _SETTLED and waited >= _PATIENCE):
            return values[:b], basis @ turn[:, :b], images @ turn[:, :b]
        if basis.shape[1] + b > most:
            # Thick restart (Wu & Simon 2000): of a space that has become large the 2b leading vectors y are kept, for
            # which VᵀM V is diagonal. All their residuals M y − θ y lie in the one block by which the space would have
            # grown next. So it grows on from the residuals of the b leading ones, and loses only what was cut.
            values, turn = values[: 2 * b], turn[:, : 2 * b]
            basis, images, within = basis @ turn, images @ turn, np.diag(values)
            block = _orthonormal(images[:, :b] - basis[:, :b] * values[:b], basis)
            turn = np.eye(len(values))
        else:
            block = _orthonormal(image, basis)
        if not block.shape[1]:  # M maps the space into itself: its eigenpairs are those of M, but for rounding
            break
    if residual > _GOOD_ENOUGH:
        raise ConvergenceError(
            f"{k} eigenvectors of {n} points were not found in {_PRODUCTS} products (|Mv − λv| = {residual:.1g}); "
            "try a larger bandwidth (a smaller gamma), or fewer components"
        )
    return values[:b], basis @ turn[:, :b], images @ turn[:, :b]


def _bordered(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The symmetric matrix with these columns as its last, and as its last rows."""
    old, new = len(matrix), len(columns)
    larger = np.empty((new, new))
    larger[:old, :old] = matrix
    larger[:, old:] = columns
    larger[old:, :old] = columns[:old].T
    larger[old:, old:] = (columns[old:] + columns[old:].T) / 2
    return larger


def _orthonormal(block: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Unit vectors, orthogonal to the basis and to each other, that with it span the block, but for rounding."""
    # Gram–Schmidt: what lies along the basis is subtracted, and a QR decomposition makes the rest orthonormal. Where
    # the rest is small, its rounding errors are not, and it must be done again; twice is enough, unless hardly more
    # than rounding is left (Giraud et al. 2005). A vector of which nothing is left lies in the space already and is
    # dropped; pivoting puts such vectors last. The last subtraction changes lengths only by the square of what it
    # takes away.
    along = basis.T @ block
    for _ in range(3):
        unit, r, _ = scipy.linalg.qr(block - basis @ along, mode="economic", pivoting=True)
        block = unit[:, np.abs(np.diagonal(r)) > _NOTHING]
        along = basis.T @ block
        if not along.size or np.abs(along).max() <= _ALMOST:
            break
    return block - basis @ along


def _own_basis(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The same vectors, but those of one eigenvalue turned into a basis that depends on their space alone."""
    # The vectors V of a repeated eigenvalue are some orthonormal basis of its space: V O with any rotation O is as
    # good. Vectors F that are always the same choose one. Let VᵀF = Q R, where R is triangular with a positive
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
