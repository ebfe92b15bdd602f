"""Graphs given by their weights (n, n), with the interface of `OffDiagonalAttention`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array, diags_array, issparse
from torch import Tensor

from limelight.classical.conjugate import SparseConjugate, WalkConjugate
from limelight.errors import InputError

SPARSE = ["csr", "csc", "coo"]  # the formats of sparse arrays that are accepted

_SYMMETRIC = 1e-6  # if W_ij and W_ji differ by at most this times the largest weight, their mean is used


class DenseGraph:
    """P = D⁻¹W, where W has no diagonal, and log D. A point without edges attends to itself, with a degree of 1."""

    def __init__(self, whose: str, W: np.ndarray) -> None:
        W = np.array(W, dtype=np.float64)
        _require_symmetric(whose, require_weights(whose, W), np.abs(W - W.T).max())
        W = (W + W.T) / 2
        np.fill_diagonal(W, 0)
        degree, loops = _degrees(W.sum(axis=1))
        W.flat[:: len(W) + 1] = loops
        self._P = torch.from_numpy(W).div_(torch.from_numpy(degree)[:, None])
        self.log_degree: Float[Tensor, " n"] = torch.from_numpy(np.log(degree))

    def conjugate(self) -> WalkConjugate:
        """The symmetric matrix of P."""
        return WalkConjugate(self._P.__matmul__, self.log_degree, self._P.clone)


class SparseGraph:
    """The same, where W is sparse and stays sparse."""

    def __init__(self, whose: str, W: Any) -> None:
        W = _symmetric(whose, csr_array(W, dtype=np.float64))
        row = np.repeat(np.arange(W.shape[0]), np.diff(W.indptr))
        unused = (row == W.indices) | (W.data == 0)
        if unused.any():
            W = csr_array((W.data[~unused], (row[~unused], W.indices[~unused])), shape=W.shape)
        degree, loops = _degrees(W.sum(axis=1))
        self._weights = csr_array(W + diags_array(loops)) if loops.any() else W
        self.log_degree: Float[Tensor, " n"] = torch.from_numpy(np.log(degree))

    def conjugate(self) -> SparseConjugate:
        """The symmetric matrix of P."""
        return SparseConjugate(self._weights, self.log_degree.numpy())


def given_graph(whose: str, W: Any) -> DenseGraph | SparseGraph:
    """The graph with these weights, dense or sparse. Raises `InputError` unless they are square, symmetric and ≥ 0."""
    if W.shape[0] != W.shape[1]:
        raise InputError(f"{whose}(affinity='precomputed') expects a square matrix of weights, got {W.shape}")
    return SparseGraph(whose, W) if issparse(W) else DenseGraph(whose, W)


def require_weights(whose: str, W: Any) -> float:
    """The largest weight. Raises `InputError` if one is negative."""
    weights = W.data if issparse(W) else W
    if weights.size and weights.min() < 0:
        raise InputError(
            f"Negative values in data passed to {whose}, which expects weights ≥ 0, got {weights.min():g} among them"
        )
    return float(weights.max()) if weights.size else 0.0


def _require_symmetric(whose: str, largest: float, difference: float) -> None:
    if difference > _SYMMETRIC * largest:
        raise InputError(f"{whose}(affinity='precomputed') expects symmetric weights; give (W + W.T) / 2")


def _symmetric(whose: str, W: csr_array) -> csr_array:
    """(W + Wᵀ)/2, or W itself if it is the same."""
    largest = require_weights(whose, W)
    other = csr_array(W.T)
    # Wᵀ has sorted columns; if those of W are sorted too, as they mostly are, two equal matrices have equal arrays.
    if np.array_equal(W.indptr, other.indptr) and np.array_equal(W.indices, other.indices):
        difference = np.abs(W.data - other.data).max(initial=0)
        _require_symmetric(whose, largest, difference)
        return csr_array(((W.data + other.data) / 2, W.indices, W.indptr), shape=W.shape) if difference else W
    _require_symmetric(whose, largest, abs(W - other).max())
    return csr_array((W + other) / 2)


def _degrees(sums: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The degrees D, which are 1 where a row has no weights, and the weights of loops, 1 there and 0 elsewhere."""
    # A row without weights would be divided by 0. With a loop of weight 1 it is a row of the identity, so that all
    # rows of P sum to one, and an isolated point is a piece of the graph by itself.
    alone = sums <= 0
    return np.where(alone, 1.0, sums), alone.astype(np.float64)
