"""torch's fused attention on CUDA: the efficient-attention pair, which takes any width of v.

Its additive array has the dtype of q, which may be too coarse for the bias. So the bias is passed in additional
columns, split into as many parts as it needs: q gets columns of a constant c, and k gets the parts of b/(c·scale).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from limelight.kernels.backends.operations import operations
from limelight.kernels.backends.tile import Gradients, Tile, infinite_lse_of_empty_rows, pad

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MULTIPLE = 8  # the kernel takes no other widths, nor other bias lengths
_LSE_ROWS = 32  # it pads the rows of lse to a multiple of 32, with +∞


def plain(q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> Tensor:
    """out alone and without a bias."""
    e = v.shape[-1]
    q, k, v = (F.pad(x, (0, _width(x.shape[-1]) - x.shape[-1])) for x in (q, k, v))
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        out = F.scaled_dot_product_attention(q, k, v, tile.allowed, is_causal=tile.causal, scale=tile.scale)
    return out[..., :e]


def forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tile: Tile) -> tuple[Tensor, Tensor]:
    wide_q, wide_k = bias_in_columns(q, k, bias, tile.scale)
    wide_v = pad(v, _width(v.shape[-1]))
    out, lse, _, _ = operations("cuda")[0](
        wide_q, wide_k, wide_v, _additive_mask(q, k, tile), True, 0.0, tile.causal, scale=tile.scale
    )
    return out[..., : v.shape[-1]], lse[..., : q.shape[-2]]


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, tile: Tile,
    bias_gradient: bool,
) -> Gradients:  # fmt: skip
    d, e, n = q.shape[-1], v.shape[-1], q.shape[-2]
    wide_q, wide_k = bias_in_columns(q, k, bias, tile.scale)
    width_v = _width(e)
    lse = F.pad(infinite_lse_of_empty_rows(lse), (0, -n % _LSE_ROWS), value=float("inf"))
    unused = torch.zeros(
        (), dtype=torch.int64, device=q.device
    )  # would be the state of the random numbers; there is no dropout
    dq, dk, dv, _ = operations("cuda")[1](
        pad(dout, width_v), wide_q, wide_k, pad(v, width_v), _additive_mask(q, k, tile), _heads_inside(out, width_v),
        lse, unused, unused, 0.0, [True, True, True, False], tile.causal, scale=tile.scale,
    )  # fmt: skip
    dbias = dk[..., d].to(lse.dtype) / (tile.scale * _column(q.dtype)) if bias_gradient else None
    return Gradients(dq[..., :d], dk[..., :d], dv[..., :e], dbias)


def _heads_inside(x: Float[Tensor, "x y n e"], width: int) -> Float[Tensor, "x y n w"]:
    """x laid out as the forward kernel returns it, with n before the heads in memory.

    In half precision the backward kernel assumes this layout and ignores the strides of `out`, so with another layout
    it would read outside the tensor (found with torch 2.11 on an H100).
    """
    if x.shape[-1] == width and x.transpose(1, 2).is_contiguous():
        return x
    padded = x.new_zeros(x.shape[0], x.shape[2], x.shape[1], width).transpose(1, 2)
    padded[..., : x.shape[-1]] = x
    return padded


def bias_in_columns(
    q: Float[Tensor, "x y n d"], k: Float[Tensor, "x y m d"], bias: Float[Tensor, "x y m"] | None, scale: float
) -> tuple[Float[Tensor, "x y n w"], Float[Tensor, "x y m w"]]:
    """q and k such that scale·⟨q', k'⟩ = scale·⟨q, k⟩ + b, to float32 accuracy whatever their dtype."""
    d = q.shape[-1]
    if bias is None:
        return pad(q, _width(d)), pad(k, _width(d))
    # A bias in q's half precision would be rounded to 8 or 11 bits. So it is split into a sum of three numbers of that
    # precision, each the rounded remainder after those before it, in three columns of k against a constant c
    # in q: scale · c · (b₁ + b₂ + b₃) = b to float32's 24 bits. For float32 one column is enough.
    column, rest, parts = _column(q.dtype), bias / (scale * _column(q.dtype)), []
    for _ in range(1 if q.dtype == torch.float32 else 3):
        parts.append(rest.to(k.dtype))
        rest = rest - parts[-1]
    width = _width(d + len(parts))
    ones = q.new_full((*q.shape[:-1], len(parts)), column)
    return pad(torch.cat([q, ones], -1), width), pad(torch.cat([k, torch.stack(parts, -1)], -1), width)


def _width(width: int) -> int:
    return max(_MULTIPLE, width + -width % _MULTIPLE)


def _column(dtype: torch.dtype) -> float:
    return 16.0 if dtype == torch.float16 else 1.0  # with 1, float16 would overflow at a bias of 65504·scale


def _additive_mask(q: Tensor, k: Tensor, tile: Tile) -> Tensor | None:
    if tile.allowed is None:
        return None
    m = k.shape[-2]
    additive = torch.where(tile.allowed, tile.allowed.new_zeros((), dtype=q.dtype), float("-inf"))
    # The kernel wants each row of this array to begin at a multiple of eight numbers. Padded and then cut back to m as
    # a view, the array keeps the longer rows in memory: its strides are aligned and its shape is as it was.
    aligned = F.pad(additive, (0, -m % _MULTIPLE))[..., :m]
    return aligned.expand(q.shape[0], q.shape[1], q.shape[2], m)
