"""torch's fused attention on the CPU.

The kernel takes one width for q, k and v, so narrower ones are padded with zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limelight.kernels.backends.operations import operations
from limelight.kernels.backends.tile import (
    Gradients,
    Matrices,
    Tile,
    infinite_lse_of_empty_rows,
    lse_dtype,
    pad,
    pad_away,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# One more column makes a width odd, for which the products of matrices are slow. On an AMD EPYC the backward pass at
# d = 64, compared with that of 64 columns, took 1.23 times as long for 65 columns, 1.21 for 68 and 1.15 for 72.
# Multiples of 8 were also among the fastest for widths of 40, 48, 80, 96 and 128.
_SPEED_MULTIPLE = 8
_COPIED = 1 << 19  # entries of one padded copy: 2 MB as float32


def plain(q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> Tensor:
    """out alone and without a bias."""
    if tile.allowed is None and tile.pair_bias is None and q.shape[-1] == v.shape[-1]:  # the same kernel, 15 µs sooner
        return F.scaled_dot_product_attention(q, k, v, is_causal=tile.causal, scale=tile.scale)
    width = max(q.shape[-1], v.shape[-1])
    mask = tile.additive(None, lse_dtype(q.dtype))
    out, _ = operations("cpu")[0](
        pad(q, width), pad(k, width), pad(v, width), 0.0, tile.causal, attn_mask=mask, scale=tile.scale
    )
    return pad_away(out, v.shape[-1])


def forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tile: Tile) -> tuple[Tensor, Tensor]:
    width = max(q.shape[-1], v.shape[-1])
    # The kernel always computes averages. If only the log-sum-exp is needed, v has no columns, and k is passed in its
    # place: it has the right shape, and its average is ignored.
    averaged = v if v.shape[-1] else k
    out, lse = operations("cpu")[0](
        pad(q, width), pad(k, width), pad(averaged, width), 0.0, tile.causal,
        attn_mask=tile.additive(bias, lse_dtype(q.dtype)), scale=tile.scale,
    )  # fmt: skip
    return pad_away(out, v.shape[-1]), lse


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, tile: Tile,
    bias_gradient: bool,
) -> Gradients:  # fmt: skip
    d, e = q.shape[-1], v.shape[-1]
    # The kernel takes one width for q, k and v, so the narrower are padded with zeros, which add nothing to products.
    # The gradient of a key bias b_j is Σ_i dS_ij. A column of ones in q and one of zeros in k do not change the
    # scores, and this column of dk = scale · dSᵀ q is scale · Σ_i dS_ij, which gives the bias's gradient.
    # Padded copies are made for a few matrices at a time, so that they stay small.
    width = max(d + bias_gradient, e)
    if width > d or width > e:
        width += -width % _SPEED_MULTIPLE
        matrices = list(some_matrices(q, k, width))
        if len(matrices) > 1:
            return _by_matrices(matrices, dout, q, k, v, bias, out, lse, tile, bias_gradient)
    dq, dk, dv = operations("cpu")[1](
        pad(dout, width), _ones_column(q, width) if bias_gradient else pad(q, width), pad(k, width),
        pad(v, width), pad(out, width), infinite_lse_of_empty_rows(lse), 0.0, tile.causal,
        attn_mask=tile.additive(bias, lse_dtype(q.dtype)), scale=tile.scale,
    )  # fmt: skip
    dbias = dk[..., d].to(lse.dtype) / tile.scale if bias_gradient else None
    return Gradients(dq[..., :d], dk[..., :d], dv[..., :e], dbias)


def some_matrices(q: Float[Tensor, "x y n d"], k: Float[Tensor, "x y m d"], width: int) -> Iterator[Matrices]:
    """The matrices of the batch, a few at a time: copies of this width are small, and each thread has some."""
    x, y = q.shape[:2]
    if q.device.type != "cpu" or torch.compiler.is_compiling():
        yield slice(0, x), slice(0, y)
        return
    threads = torch.get_num_threads()
    some = max(1, _COPIED // (max(q.shape[-2], k.shape[-2], 1) * width))
    some += -some % threads
    for i in range(0, x, max(1, some // y)):
        for j in range(0, y, some):
            yield slice(i, i + max(1, some // y)), slice(j, j + some)


def _by_matrices(
    matrices: list[Matrices], dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None,
    out: Tensor, lse: Tensor, tile: Tile, bias_gradient: bool,
) -> Gradients:  # fmt: skip
    """`backward` for a few matrices at a time, so that its padded copies are small."""
    dbias = torch.empty_like(bias) if bias is not None and bias_gradient else None
    whole = Gradients(torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), dbias)
    for at in matrices:
        own = None if bias is None else bias[at]
        some = backward(dout[at], q[at], k[at], v[at], own, out[at], lse[at], tile.of(at), bias_gradient)
        for total, part in ((whole.q, some.q), (whole.k, some.k), (whole.v, some.v), (whole.bias, some.bias)):
            if total is not None and part is not None:
                total[at] = part
    return whole


def _ones_column(q: Tensor, width: int) -> Tensor:
    padded = pad(q, width)
    padded[..., q.shape[-1]] = 1
    return padded
