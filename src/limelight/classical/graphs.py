"""A graph given by its weights (n, n), with the interface of `OffDiagonalAttention`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array, diags_array, issparse
from torch import Tensor

from limelight.errors import InputError

SPARSE = ["csr", "csc", "coo"]  # the formats of sparse arrays that are accepted

_SYMMETRIC = 1e-6  # if W_ij and W_ji differ by at most this times the largest weight, their mean is used


class Given:
    """P = D⁻¹W, where W has no diagonal, and log D. A point without edges attends to itself, with a degree of 1."""

    def __init__(self, whose: str, W: Any) -> None:
        if W.shape[0] != W.shape[1]:
            raise InputError(f"{whose}(affinity='precomputed') expects a square matrix of weights, got {W.shape}")
        W = csr_array(W, dtype=np.float64) if issparse(W) else np.array(W, dtype=np.float64)
        largest = require_weights(whose, W)
        if abs(W - W.T).max() > _SYMMETRIC * largest:
            raise InputError(f"{whose}(affinity='precomputed') expects symmetric weights; give (W + W.T) / 2")
        W = (W + W.T) / 2
        W = W - (diags_array(W.diagonal()) if issparse(W) else np.diag(W.diagonal()))
        sums = np.asarray(W.sum(axis=1)).reshape(-1)
        # A row without weights would be divided by 0. With a loop of weight 1 it is a row of the identity, so that all
        # rows of P sum to one, and an isolated point is a piece of the graph by itself.
        alone = sums <= 0
        if alone.any():
            loops = diags_array(alone.astype(np.float64))
            W = csr_array(W + loops) if issparse(W) else W + loops.toarray()
        self._weights, self._degree = W, np.where(alone, 1.0, sums)[:, None]
        self.log_degree: Float[Tensor, " n"] = torch.from_numpy(np.log(self._degree[:, 0]))

    def __matmul__(self, v: Float[Tensor, "n b"]) -> Float[Tensor, "n b"]:
        """P v."""
        return torch.from_numpy((self._weights @ v.numpy()) / self._degree)

    def dense(self) -> Float[Tensor, "n n"]:
        """The matrix P, as a new array."""
        W = self._weights.toarray() if issparse(self._weights) else self._weights
        return torch.from_numpy(W / self._degree)


def require_weights(whose: str, W: Any) -> float:
    """The largest weight. Raises `InputError` if one is negative."""
    weights = W.data if issparse(W) else W
    if weights.size and weights.min() < 0:
        raise InputError(
            f"Negative values in data passed to {whose}, which expects weights ≥ 0, got {weights.min():g} among them"
        )
    return float(weights.max()) if weights.size else 0.0
