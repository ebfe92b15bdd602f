"""The largest eigenvalues of a symmetric matrix that is only multiplied with, however often each of them repeats.

A Krylov space that grows from one vector holds one eigenvector of each eigenvalue, so that a graph in ten pieces,
whose eigenvalue 1 is tenfold, looks connected until rounding says otherwise. Here a block of vectors is multiplied at
once: the space grown from b of them holds up to b eigenvectors of each eigenvalue (block Lanczos, Golub & Underwood
1977), and b is larger than the number asked for. The eigenvectors in that space are found densely; where it has
become large, only the best are kept, and it grows on from what they miss (thick restart, Wu & Simon 2000).

Where the matrix M is at hand, the same is done with (σI − M)⁻¹, σ a little more than every eigenvalue: the
eigenvectors are the same, and the largest eigenvalues lie much further apart, so that a third of the products suffices.
The inverse is never formed: σI − M is positive definite, and each product is two triangular solves with its Cholesky
factor (shift and invert, Ericsson & Ruhe 1980).

The vectors of a repeated eigenvalue are any basis of a space. One is chosen that depends on that space alone: fixed
vectors projected on it, made orthonormal one after the other.
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
_BASIS = 60  # vectors at which the space is cut back, at least
_TIMES = 6  # and at least so many blocks
_PRODUCTS = 1000  # with a block, at most
_RESIDUAL = 2e-15  # |M v − λ v| / max(1, |λ|) of a unit vector at which it is found
_RESIDUAL_OF_INVERSE = 1e-14  # the same for (σI − M)⁻¹, whose products are less exact
_SETTLED = 1e-12  # below which it is found once more products no longer halve it: what is left is rounding
_PATIENCE = 2  # products without halving
_GOOD_ENOUGH = 1e-7  # that may be left of it in the end
_NOTHING = 1e-14  # length of a vector that is rounding alone
_ALMOST = 1e-9  # part of a unit vector whose square is rounding
_LARGE = 0.1  # an eigenvalue that may be divided by
_SAME = 1e-9  # gap of eigenvalues that count as one

_Product = Callable[[np.ndarray], np.ndarray]


def largest(
    product: _Product, n: int, k: int, written: Callable[[], np.ndarray | None] = lambda: None
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"]]:
    """The k largest eigenvalues, largest first, and unit eigenvectors of the n×n matrix that `product` applies.

    No eigenvalue is more than 1. `product` takes (n, b) for any b, in float64; `written` gives the matrix itself, as a
    new array, or None where it is not at hand. Each vector has that sign under which its largest entry is positive.
    Raises `ConvergenceError` where they are not found.
    """
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
    values, vectors = values[:k], _own_basis(values, vectors)[:, :k]
    images = product(vectors)  # λ v, of which entries that are very small have all their digits, where the matrix has
    return values, with_sign(np.where(np.abs(values) > _LARGE, images / np.where(values == 0, 1, values), vectors))


def with_sign(vectors: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Each column or its negative: the one whose largest entry is positive."""
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return vectors * np.where(peaks < 0, -1.0, 1.0)


def _by_decomposition(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Some more than k of them, by a tridiagonal matrix with the same eigenvalues."""
    n = len(matrix)
    values, vectors = scipy.linalg.eigh(
        matrix.T, subset_by_index=[max(n - k - _MORE, 0), n - 1], driver="evx", overwrite_a=True, check_finite=False
    )
    return values[::-1], vectors[:, ::-1]


def _inverse(matrix: np.ndarray) -> _Product:
    """The product with (σI − M)⁻¹; M is overwritten."""
    np.negative(matrix, out=matrix)
    matrix.flat[:: len(matrix) + 1] += _SHIFT
    factor = scipy.linalg.cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    return lambda block: scipy.linalg.cho_solve(factor, block, check_finite=False)


def _rayleigh_ritz(product: _Product, space: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues, largest first, and eigenvectors of the matrix in the space that these vectors span."""
    basis = scipy.linalg.qr(space, mode="economic")[0]
    within = basis.T @ product(basis)
    values, turn = scipy.linalg.eigh((within + within.T) / 2)
    return values[::-1], basis @ turn[:, ::-1]


def _by_blocks(
    product: _Product, n: int, k: int, enough: float = _RESIDUAL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A few more than k of them, of which k are as exact as rounding allows; unit eigenvectors, and their images."""
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
        missed = images @ turn[:, :k] - basis @ (turn[:, :k] * values[:k])
        residual = float((np.linalg.norm(missed, axis=0) / np.maximum(values[:k], 1)).max())
        least, waited = (residual, 0) if residual <= least / 2 else (least, waited + 1)
        if residual <= enough or (residual <= _SETTLED and waited >= _PATIENCE):
            return values[:b], basis @ turn[:, :b], images @ turn[:, :b]
        if basis.shape[1] + b > most:
            values, turn = values[: 2 * b], turn[:, : 2 * b]
            basis, images, within = basis @ turn, images @ turn, np.diag(values)
            block = _orthonormal(images[:, :b] - basis[:, :b] * values[:b], basis)
            turn = np.eye(len(values))
        else:
            block = _orthonormal(image, basis)
        if not block.shape[1]:  # the space is the matrix's own: nothing is missed but rounding
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
    along = basis.T @ block
    for _ in range(3):
        unit, r, _ = scipy.linalg.qr(block - basis @ along, mode="economic", pivoting=True)
        block = unit[:, np.abs(np.diagonal(r)) > _NOTHING]
        along = basis.T @ block
        if not along.size or np.abs(along).max() <= _ALMOST:
            break
    return block - basis @ along


def _own_basis(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The same vectors, but those of one eigenvalue turned into a basis that only their space decides."""
    vectors = vectors.copy()
    starts = np.flatnonzero(np.diff(values, prepend=np.inf) < -_SAME)
    for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
        if stop - start > 1:
            space = vectors[:, start:stop]
            fixed = np.random.default_rng(1).standard_normal((len(vectors), stop - start))
            turn, r = np.linalg.qr(space.T @ fixed)
            vectors[:, start:stop] = space @ (turn * np.where(np.diagonal(r) < 0, -1.0, 1.0))
    return vectors
