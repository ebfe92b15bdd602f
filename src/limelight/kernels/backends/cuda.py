"""torch's fused attention on CUDA, with a key bias as columns of q and k.

None of torch's operations (`cuda_pairs.py`) takes a bias of keys in more than q's precision, which may be too coarse.
So the bias is passed in additional columns, split into as many parts as it needs: q gets columns of a constant c, and
k gets the parts of b/(c·scale).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from limelight.kernels.backends.cuda_pairs import Pair, pair_for
from limelight.kernels.backends.tile import Gradients, Tile, rounded_up

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def plain(q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> Tensor:
    """out alone and without a bias."""
    e = v.shape[-1]
    q, k, v = (F.pad(x, (0, rounded_up(x.shape[-1], 8) - x.shape[-1])) for x in (q, k, v))
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        out = F.scaled_dot_product_attention(q, k, v, tile.allowed, is_causal=tile.causal, scale=tile.scale)
    return out[..., :e]


def forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tile: Tile) -> tuple[Tensor, Tensor]:
    pair, width = _pair_and_width(q, k, v, bias, tile)
    return pair.forward(*bias_in_columns(q, k, bias, tile.scale, width), v, tile)


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, tile: Tile,
    bias_gradient: bool,
) -> Gradients:  # fmt: skip
    d, e = q.shape[-1], v.shape[-1]
    pair, width = _pair_and_width(q, k, v, bias, tile)
    dq, dk, dv = pair.backward(dout, *bias_in_columns(q, k, bias, tile.scale, width), v, out, lse, tile)
    dbias = dk[..., d].to(lse.dtype) / (tile.scale * _column(q.dtype)) if bias_gradient else None
    return Gradients(dq[..., :d], dk[..., :d], dv[..., :e], dbias)


def bias_in_columns(
    q: Float[Tensor, "x y n d"], k: Float[Tensor, "x y m d"], bias: Float[Tensor, "x y m"] | None, scale: float,
    width: int,
) -> tuple[Float[Tensor, "x y n w"], Float[Tensor, "x y m w"]]:  # fmt: skip
    """q and k of this width such that scale·⟨q', k'⟩ = scale·⟨q, k⟩ + b, to float32 accuracy whatever their dtype."""
    if bias is None and q.shape[-1] == width:
        return q, k
    # A bias in q's half precision would be rounded to 8 or 11 bits. So it is split into a sum of three numbers of that
    # precision, each the rounded remainder after those before it, in three columns of k against a constant c
    # in q: scale · c · (b₁ + b₂ + b₃) = b to float32's 24 bits. For float32 one column is enough.
    count = 0 if bias is None else _columns(q.dtype)
    wide_q, wide_k = (x.new_empty(*x.shape[:-1], width) for x in (q, k))
    for wide, x in ((wide_q, q), (wide_k, k)):
        wide[..., : x.shape[-1]] = x
        wide[..., x.shape[-1] + count :] = 0
    if bias is not None:
        d, rest = q.shape[-1], bias / (scale * _column(q.dtype))
        wide_q[..., d : d + count] = _column(q.dtype)
        for column in range(d, d + count):
            wide_k[..., column] = rest
            rest = rest - wide_k[..., column]
    return wide_q, wide_k


def _pair_and_width(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tile: Tile) -> tuple[Pair, int]:
    """The operations that serve these tensors, and the width of q and k for them."""
    columns = q.shape[-1] + (0 if bias is None else _columns(q.dtype))
    pair = pair_for(q, k, columns, v.shape[-1], tile)
    return pair, pair.width(columns, v.shape[-1])


def _columns(dtype: torch.dtype) -> int:
    """How many columns hold a bias of float32."""
    return 1 if dtype == torch.float32 else 3


def _column(dtype: torch.dtype) -> float:
    return 16.0 if dtype == torch.float16 else 1.0  # with 1, float16 would overflow at a bias of 65504·scale
