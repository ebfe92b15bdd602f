"""Block Lanczos: the space of a symmetric matrix's leading eigenvectors, from its products with blocks of vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

from limelight.errors import ConvergenceError

Product = Callable[[np.ndarray], np.ndarray]

MORE = 3  # so many more vectors than are wanted are returned, as good as they are by then

_BASIS = 60  # the space is cut back when it has more than so many vectors, or
_TIMES = 6  # more than so many for each vector that is returned, if that is more
_EARLIEST = 3  # eigenvalues are computed when the space has so many vectors for each vector that is returned, and then
_PAUSE = 10  # whenever it has grown by a tenth
_GOOD_ENOUGH = 1e-7  # the largest residual that is accepted after the last product
_SAME = 1e-9  # eigenvalues whose relative difference is less than this may be one that repeats
_NOTHING = 1e-14  # a vector that is shorter than this, relative to its block, is only rounding errors
_DEPENDENT = 1e-6  # a vector that is shorter than this, relative to its block, has large relative rounding errors


def leading(
    product: Product, n: int, k: int, width: int, enough: float, products: int
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "n b"]]:
    """The b = k + 3 largest eigenvalues, largest first, and unit eigenvectors; the first k are exact up to rounding.

    The first block has `width` vectors. (λ, v) is found when |M v − λ v| / max(1, |λ|) ≤ `enough`. Raises
    `ConvergenceError` if |M v − λ v| > 1e-7 after the last of so many products with a block.
    """
    # Block Lanczos (Golub & Underwood 1977). The space of v, M v, M² v, … that grows from one vector holds one
    # eigenvector of each eigenvalue, so that a ring, whose eigenvalues are double, would show each once until rounding
    # errors change this. The space grown from a block of w random vectors holds w eigenvectors of each eigenvalue. So
    # if fewer than w of the eigenvalues found are equal, none has been missed. When w are equal there may be more, and
    # as many new random vectors join the block. The search then goes on for at least as many products as brought out
    # what the vectors before held, so that nothing that the new ones hold is missed. A block as wide as the number of
    # wanted vectors holds enough of any eigenvalue. The numbers are random with a fixed seed, so that each call gives
    # the same result.
    b = min(k + MORE, n)
    random = np.random.default_rng(0)
    width, joined, pause = min(width, b), 0, 0
    space = _Space(max(_BASIS, _TIMES * b), _EARLIEST * b, random.uniform(-1, 1, (n, width)))
    for count in range(1, products + 1):
        space.grow(product(space.block))
        if not space.is_due and count < products:
            continue
        values, turn, residuals = space.eigenpairs()
        residuals /= np.maximum(np.abs(values), 1)
        found = _leading_below(residuals, enough)
        done = space.is_invariant or (found >= k and count >= joined + pause)
        more = min(width, b - width, n - space.size)
        if more and (_repeats(values[: b if done else min(found, b)]) >= width or (done and len(values) < k)):
            space.widen(random.uniform(-1, 1, (n, more)))
            width, joined, pause = width + more, count, max(pause, count - joined)
        elif done:
            return values[:b], space.basis @ turn[:, :b]
        if space.is_full and count < products:
            space.restart(values[: 2 * b], turn[:, : 2 * b])
    if len(values) < k or residuals[:k].max() > _GOOD_ENOUGH or count < joined + pause:
        raise ConvergenceError(
            f"{k} eigenvectors of {n} points were not found in {products} products "
            f"(|Mv − λv| = {residuals[:k].max():.1g}); try a larger bandwidth (a smaller gamma), or fewer components"
        )
    return values[:b], space.basis @ turn[:, :b]


def _leading_below(numbers: np.ndarray, limit: float) -> int:
    """How many of the first numbers are at most the limit, up to the first that is not."""
    above = numbers > limit
    return int(above.argmax()) if above.any() else len(numbers)


class _Space:
    """A space with an orthonormal basis V, the matrix VᵀM V, and the block by which it grows next, orthogonal to V."""

    # Before each step M V = V (VᵀM V) + B R Eᵀ, where B is the block and E selects the last columns: what M takes out
    # of the space lies in B. So with an eigenpair (θ, s) of the small VᵀM V the vector V s has the residual
    # M V s − θ V s = B R Eᵀs, whose length is known without a product (the Rayleigh–Ritz method).
    def __init__(self, most: int, due: int, block: np.ndarray) -> None:
        self.size, self._due = 0, due
        self._vectors = np.empty((len(block), most), order="F")
        self._within = np.empty((0, 0))
        self._leak = np.empty((0, 0))  # R
        self.block = _split(block, self.basis)[0]

    @property
    def basis(self) -> np.ndarray:
        """V (n, size)."""
        return self._vectors[:, : self.size]

    @property
    def is_invariant(self) -> bool:
        """True if M maps the space into itself, so that its eigenpairs are those of M, up to rounding."""
        return not self.block.shape[1]

    @property
    def is_full(self) -> bool:
        """True if there is no room for the next block."""
        return self.size + self.block.shape[1] > self._vectors.shape[1]

    @property
    def is_due(self) -> bool:
        """True if it is time to look at the eigenpairs."""
        return self.size >= self._due or self.is_full or self.is_invariant

    def grow(self, image: np.ndarray) -> None:
        """Take the block, whose image is given, into the space."""
        start, self.size = self.size, self.size + self.block.shape[1]
        self._vectors[:, start : self.size] = self.block
        self.block, along, self._leak = _split(image, self.basis)
        self._within = _bordered(self._within, along)

    def eigenpairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The eigenvalues θ of VᵀM V, largest first, its eigenvectors s, and the residuals |M V s − θ V s|."""
        self._due = self.size + self.size // _PAUSE
        values, turn = np.linalg.eigh(self._within)
        values, turn = values[::-1], turn[:, ::-1]
        last = self._leak.shape[1]
        return values, turn, np.linalg.norm(self._leak @ turn[self.size - last :], axis=0)

    def restart(self, values: np.ndarray, turn: np.ndarray) -> None:
        """Keep only these eigenvectors."""
        # Thick restart (Wu & Simon 2000): of a space that has become large the leading vectors V s are kept, for which
        # VᵀM V is diagonal. All their residuals lie in the block B, by which the space still grows next. So only the
        # other directions are lost.
        kept = self.basis @ turn
        self.size = kept.shape[1]
        self._vectors[:, : self.size] = kept
        self._within = np.diag(values)
        self._due = 0

    def widen(self, vectors: np.ndarray) -> None:
        """Append these vectors to the block."""
        found = np.hstack([self.basis, self.block])
        self.block = np.hstack([self.block, _split(vectors, found)[0]])


def _repeats(values: np.ndarray) -> int:
    """How many of these values, largest first, are equal at most."""
    apart = -np.diff(values) > _SAME * np.maximum(np.abs(values[1:]), 1)
    return int(np.diff(np.flatnonzero(apart), prepend=-1, append=len(values) - 1).max())


def _bordered(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The symmetric matrix extended by these columns, which are also its last rows."""
    old, new = len(matrix), len(columns)
    larger = np.empty((new, new))
    larger[:old, :old] = matrix
    larger[:old, old:] = columns[:old]
    larger[old:, :old] = columns[:old].T
    larger[old:, old:] = (columns[old:] + columns[old:].T) / 2
    return larger


def _split(block: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Q, A, R) with block = basis A + Q R, where the columns of Q are unit vectors orthogonal to the basis."""
    # Gram–Schmidt: the components along the basis are subtracted, twice, since the first time leaves rounding errors
    # that are large if little remains; twice is enough, unless hardly more than rounding errors are left (Giraud et al.
    # 2005). Then a QR decomposition makes the rest orthonormal. If a vector is almost a sum of others, so that its
    # rest is short, its errors are still large, and the slow way is taken.
    along = basis.T @ block
    rest = block - basis @ along
    again = basis.T @ rest
    rest -= basis @ again
    along += again
    unit, r = np.linalg.qr(rest)
    scale = float(np.linalg.norm(block))
    if np.abs(np.diagonal(r)).min(initial=np.inf) > _DEPENDENT * scale:
        return unit, along, r
    unit, r = _independent(rest, basis, _NOTHING * scale)
    return unit, along, r


def _independent(rest: np.ndarray, basis: np.ndarray, nothing: float) -> tuple[np.ndarray, np.ndarray]:
    """(Q, R) with rest = Q R, where Q has fewer columns than the rest if some of these depend on the others."""
    # A vector of which nothing is left lies in the space already and is dropped; pivoting puts such vectors last. What
    # is kept may be short, and is made orthogonal to the basis and to each other once more.
    unit, r, order = scipy.linalg.qr(rest, mode="economic", pivoting=True)
    kept = np.abs(np.diagonal(r)) > nothing
    if not kept.any():
        return unit[:, :0], r[:0]
    unit, turn = np.linalg.qr(unit[:, kept] - basis @ (basis.T @ unit[:, kept]))
    return unit, turn @ r[kept][:, np.argsort(order)]
