"""Entropy and column mass of weights exp⟨x_i, y_j⟩ in one pass over the tiles of the matrix, without gradients.

    H_i = −Σ_j p_ij log p_ij,   c_j = Σ_i p_ij,   log p_ij = ⟨x_i, y_j⟩

This takes one product and a few passes over a tile that fits into the cache: about the time of one fused call.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.kernels.tiles import Batch
from limelight.mask import Mask

_ENTRIES = 1 << 19  # entries of a tile over all its matrices: 2 MB as float32
_WIDTH = 256  # keys of a tile; wider and narrower tiles were slower on two cores


def entropy_and_mass(
    x: Float[Tensor, "*#batch n w"], y: Float[Tensor, "*#batch m w"], mask: Mask | None
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch m"]]:
    """(H, c); a row that sees no key has H = 0."""
    batch = Batch.of(x, y, mask=mask)
    x, y = (batch.merge(each).flatten(0, 1) for each in (x, y))
    x = x / math.log(2)  # 2^x takes a third of the time of e^x
    entropy, mass = x.new_zeros(x.shape[:-1]), y.new_zeros(y.shape[:-1])
    together = 4 * torch.get_num_threads()  # matrices, so that each thread works on its own
    for first in range(0, len(x), together):
        at = slice(first, first + together)
        _walk(x[at], y[at], mask, batch, at, entropy[at], mass[at])
    entropy *= math.log(2)
    return entropy.unflatten(0, batch.merged), mass.unflatten(0, batch.merged)


def _walk(x: Tensor, y: Tensor, mask: Mask | None, batch: Batch, at: slice, entropy: Tensor, mass: Tensor) -> None:
    n, m = x.shape[-2], y.shape[-2]
    step = max(_ENTRIES // (len(x) * _WIDTH), 1)
    for top in range(0, n, step):
        rows = slice(top, min(top + step, n))
        span = slice(0, m) if mask is None else mask.span(rows, m)
        ones = x.new_ones(len(x), 1, rows.stop - rows.start)
        for left in range(span.start, span.stop, _WIDTH):
            cols = slice(left, min(left + _WIDTH, span.stop))
            # Normalizers are part of x and y already (log p_ij = ⟨(q, −lse, 1), (k, 1, b)⟩), so a tile needs no maxima
            # and no second pass: its product is log₂ p, and two to this power is p. The column mass Σ_i p_ij is a
            # product with a row of ones, which is faster than a sum over rows, and the entropy is −Σ_j p log p from the
            # two arrays in the cache.
            log2_p = x[:, rows] @ y[:, cols].mT
            p = torch.exp2(log2_p)
            if mask is not None:
                allowed = batch.merge_pairs(mask.block(rows, cols, x.device))
                if allowed.shape[:2] != (1, 1):
                    allowed = allowed.expand(*batch.merged, -1, -1).flatten(0, 1)[at]
                p.masked_fill_(~allowed.flatten(0, -3), 0)
            mass[:, cols] += (ones @ p)[:, 0]
            entropy[:, rows] -= log2_p.mul_(p).sum(-1)
