"""Products with (σI − M)⁻¹, by triangular solves with a factor: dense (Cholesky) or sparse (SuperLU)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from scipy.sparse import csc_array, csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import splu

from limelight.classical.lanczos import Product

# Shift and invert (Ericsson & Ruhe 1980). (σI − M)⁻¹ has the eigenvectors of M with the eigenvalues 1/(σ − λ). With σ a
# little above the largest λ, the largest of these lie much further apart: for σ = 1.0001, λ = 0.999 and 0.998 become
# 909 and 476. So the space of a long, thin graph, where λ = 0.9999 is followed by many others that are hardly smaller,
# needs some ten products instead of thousands. The inverse is never formed: σI − M is positive definite, and each
# product is two triangular solves with its factor. The rounding errors of a product are relative to the largest
# eigenvalue, 1/(σ − 1) at most; with σ = 1.00001 they would be seen in the twelfth digit of the vectors.
_SHIFT = 1.0001  # σ, for a matrix whose eigenvalues are all at most 1


def dense_inverse(matrix: np.ndarray) -> Product:
    """The product with (σI − M)⁻¹; M is overwritten."""
    np.negative(matrix, out=matrix)
    matrix.flat[:: len(matrix) + 1] += _SHIFT
    factor = scipy.linalg.cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    return lambda block: scipy.linalg.cho_solve(factor, block, check_finite=False)


def sparse_inverse(matrix: csr_array, known: Any) -> Product:
    """The product with (σI − M + c U Uᵀ)⁻¹ for a large c, where U (n, c) are known eigenvectors of M, whose λ is 1."""
    # SuperLU computes the factors of a sparse matrix. Eliminating a node joins all of its neighbors, and these new
    # entries depend on the order: minimum degree on the pattern of A + Aᵀ keeps them few for a symmetric matrix. As the
    # matrix is positive definite it needs no pivoting, which would disturb this order. M = Mᵀ, so the arrays of its
    # rows are those of its columns. U Uᵀ would make the matrix dense, so instead U is taken out of
    # each vector; what rounding adds of it, the next product takes out.
    shifted = _shifted(matrix)
    factor = splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    transposed = known.T
    return lambda block: factor.solve(block - known @ (transposed @ block))


def _shifted(matrix: csr_array) -> csc_array:
    """σI − M."""
    # The diagonal is inserted before the first entry of each row. A row of M that has a diagonal already has two then,
    # which SciPy adds.
    n = matrix.shape[0]
    starts = matrix.indptr[:-1]
    data = np.insert(-matrix.data, starts, _SHIFT)
    indices = np.insert(matrix.indices, starts, np.arange(n))
    return csc_array((data, indices, matrix.indptr + np.arange(n + 1)), shape=(n, n))


def work(matrix: csr_array) -> float:
    """An estimate of the operations by which σI − M is factored, up to a constant: w³ for a band of width w."""
    # The order of Cuthill & McKee (1969) makes the matrix a band, and w is the mean distance from the first entry of a
    # row to its diagonal. Any w neighboring nodes of a band separate those before from those after them. A good order
    # of elimination leaves such a separator to the end, when all of its nodes have become neighbors, and the last w
    # steps cost w³. This agrees, within a factor of some two, with the times of graphs of points in the plane, in
    # three or more dimensions and of random graphs, unless they are so small that other costs are larger.
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    place = np.empty_like(order)
    place[order] = np.arange(len(order), dtype=order.dtype)
    filled = np.diff(matrix.indptr) > 0
    first = place[filled]
    np.minimum(first, np.minimum.reduceat(place[matrix.indices], matrix.indptr[:-1][filled]), out=first)
    return float((place[filled] - first).sum() / len(place)) ** 3
