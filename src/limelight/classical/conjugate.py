"""The symmetric matrix M = D^{1/2} P D^{−1/2} that has the eigenvalues of a random walk P, without its known vectors.

P = D⁻¹W of a symmetric W is not symmetric itself, but M = D^{−1/2} W D^{−1/2} is. If M v = λ v, then P ψ = λ ψ with
ψ = D^{−1/2} v.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from limelight.classical.eigen import fixed_vectors
from limelight.classical.inverses import sparse_inverse, work
from limelight.classical.lanczos import MORE, Product

_BELOW = 3  # the known eigenvectors get the eigenvalue 1 − 3
_FEW = 8  # so many known eigenvectors at most are stored as dense ones, whose products are faster


class Conjugate(ABC):
    """M − 3 U Uᵀ of n points, where the columns of U are known unit eigenvectors of M, whose eigenvalue is 1."""

    # ψ = 1 has λ = 1, so that v = D^{1/2} 1 is known. With the unit vector u along it, M − 3 u uᵀ (deflation) has the
    # eigenvalue −2 there, below all eigenvalues of a stochastic matrix, and the others are unchanged: the search does
    # not find it again.
    def __init__(self, known: np.ndarray | csr_array) -> None:
        self.n: int = known.shape[0]
        self.known, self._transposed = known, known.T

    def product(self, block: Float[np.ndarray, "n b"]) -> Float[np.ndarray, "n b"]:
        """(M − 3 U Uᵀ) v."""
        # M is applied only to the part that is orthogonal to U, and the component along U that rounding adds is
        # removed, so that errors do not grow in the direction of the largest eigenvalue of M.
        along = self._transposed @ block
        image = self._apply(block - self.known @ along)
        image -= self.known @ (self._transposed @ image + (_BELOW - 1) * along)
        return image

    @abstractmethod
    def _apply(self, block: np.ndarray) -> np.ndarray:
        """M v, as a new array."""

    @abstractmethod
    def dense(self) -> Float[np.ndarray, "n n"] | None:
        """The matrix, as a new array, or None if it is not stored."""

    def work(self) -> float:
        """An estimate of the operations by which the sparse σI − M is factored, infinite if it is not sparse."""
        return math.inf

    def inverse(self) -> Product:
        """The product with (σI − M)⁻¹ without U, if M is sparse."""
        raise NotImplementedError

    def between_pieces(self, k: int) -> Float[np.ndarray, "n c"]:
        """The first k columns of U, or all, except for D^{1/2} 1, in a basis that depends on their space alone."""
        return np.empty((self.n, 0))


class WalkConjugate(Conjugate):
    """The matrix of a walk whose products are given. `dense` returns P as a new array, or None if it is not stored."""

    def __init__(
        self,
        apply: Callable[[Float[Tensor, "n b"]], Float[Tensor, "n b"]],
        degree: Float[Tensor, " n"],
        dense: Callable[[], Float[Tensor, "n n"] | None],
    ) -> None:
        # `degree` is log D. Degrees are divided by the largest, on which M does not depend, so that none overflows.
        self._walk, self._dense = apply, dense
        self._half = (0.5 * (degree - degree.max())).exp()[:, None]
        super().__init__((self._half / self._half.norm()).numpy())

    def _apply(self, block: np.ndarray) -> np.ndarray:
        v = torch.from_numpy(np.ascontiguousarray(block))
        image: np.ndarray = self._walk(v.div_(self._half)).mul_(self._half).numpy()
        return image

    def dense(self) -> Float[np.ndarray, "n n"] | None:
        P, u = self._dense(), torch.from_numpy(self.known[:, 0])
        return None if P is None else P.mul_(self._half).div_(self._half.mT).addr_(u, u, alpha=-_BELOW).numpy()


class SparseConjugate(Conjugate):
    """D^{−1/2} W D^{−1/2} of sparse weights W and log D. U are the vectors of all connected components of the graph."""

    # A graph in c pieces has the eigenvalue 1 c times: on each piece D^{1/2} 1 is an eigenvector. The pieces are seen
    # in the pattern of W, so none of these vectors is searched for. In each piece degrees are divided by its largest.
    def __init__(self, W: csr_array, degree: Float[np.ndarray, " n"]) -> None:
        pieces, label = connected_components(W, directed=False)
        largest = np.full(pieces, -np.inf)
        np.maximum.at(largest, label, degree)
        half = np.exp(0.5 * (degree - largest[label]))
        lengths = np.sqrt(np.bincount(label, half**2))
        self._lengths = lengths * np.exp(0.5 * (largest - largest.max()))
        root = np.exp(-0.5 * degree)
        weights = W.data * np.repeat(root, np.diff(W.indptr)) * root[W.indices]
        self._matrix = csr_array((weights, W.indices, W.indptr), shape=W.shape)
        known = csr_array((half / lengths[label], label, np.arange(len(half) + 1)), shape=(len(half), pieces))
        super().__init__(known.toarray() if pieces <= _FEW else known)

    def _apply(self, block: np.ndarray) -> np.ndarray:
        image: np.ndarray = self._matrix @ block
        return image

    def dense(self) -> Float[np.ndarray, "n n"]:
        known = self.known @ self._transposed
        matrix: np.ndarray = self._matrix.toarray()
        matrix -= _BELOW * (known if isinstance(known, np.ndarray) else known.toarray())
        return matrix

    def work(self) -> float:
        return work(self._matrix)

    def inverse(self) -> Product:
        return sparse_inverse(self._matrix, self.known)

    def between_pieces(self, k: int) -> Float[np.ndarray, "n c"]:
        # D^{1/2} 1 = U l, where l are its lengths on the pieces. The others are the vectors U a with a ⟂ l.
        # As in `limelight.classical.eigen`, fixed vectors F are projected on their space and made orthonormal in turn,
        # which is the QR decomposition of (l, UᵀF).
        pieces = self.known.shape[1]
        if pieces == 1:
            return super().between_pieces(k)
        fixed = self._transposed @ fixed_vectors(self.n, min(pieces - 1, k + MORE))
        a = np.linalg.qr(np.column_stack([self._lengths, fixed]))[0]
        between: np.ndarray = self.known @ a[:, 1 : k + 1]
        return between
