"""The weights of a symmetric kernel applied to values: each weight is computed once and used for both of its rows.

    out_i = Σ_{j ≠ i} exp(s_ij) v_j,   s_ij = s_ji ≤ 0

Only the tiles on and above the diagonal are computed, without gradients. This takes half the exponentials, and no
maxima, since no weight exceeds 1. Weights that underflow are 0, as they would be in the stored matrix.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.similarity import InnerProduct, as_one_product

_SIDE = 320  # rows and columns of a tile: 0.8 MB in float64, which fits into the cache of a core


class SymmetricWeights:
    """exp(scale · β) without its diagonal, where β ≤ 0 is a symmetric similarity of points with themselves."""

    def __init__(self, factors: InnerProduct, scale: float) -> None:
        product = as_one_product(factors)
        (x,), (y,) = product.queries, product.keys
        self.size = len(x)
        self._x = _in_tiles(x * (scale / math.log(2)))  # 2^x takes a third of the time of e^x
        self._y = _in_tiles(y).mT

    # The points are cut into tiles of some hundred. For a pair of tiles I < J the weights W_IJ = exp s are computed
    # once: W_IJ v_J is added to out_I, and, because the kernel is symmetric, W_IJᵀ v_I to out_J. So each exponential
    # serves two entries of the matrix. Scores are at most 0, so no row maximum has to be subtracted first. Some
    # tiles J for one I are taken together, as many as there are threads, in one batched product.
    def __matmul__(self, v: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        values = _in_tiles(v.to(self._x.dtype)).mT.contiguous()  # (tiles, e, side): products with few columns are slow
        out = torch.zeros_like(values)
        for i in range(len(values)):
            own = (self._x[i] @ self._y[i]).exp2_()
            own.fill_diagonal_(0)
            out[i] += values[i] @ own  # its rows are its columns
            for j in range(i + 1, len(values), torch.get_num_threads()):
                self._add(out, values, i, slice(j, j + torch.get_num_threads()))
        return out.mT.flatten(0, 1)[: self.size]

    def _add(self, out: Tensor, values: Tensor, i: int, others: slice) -> None:
        """Add the products of the weights between tile i and some others, one for each thread, to both."""
        keys = self._y[others]
        weights = torch.bmm(self._x[i].expand(len(keys), -1, -1), keys).exp2_()
        out[others].baddbmm_(values[i].expand(len(keys), -1, -1), weights)
        out[i] += torch.bmm(values[others], weights.mT).sum(0)


def _in_tiles(x: Float[Tensor, "n w"]) -> Float[Tensor, "tiles side w"]:
    """x cut into tiles. The last one is filled with rows of zeros, which add nothing and whose results are dropped."""
    return torch.nn.functional.pad(x, (0, 0, 0, -len(x) % _SIDE)).unflatten(0, (-1, _SIDE))
