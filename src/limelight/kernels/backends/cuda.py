"""torch's fused attention on CUDA, with a key bias as columns of q and k.

None of torch's operations (`sdpa_backends.py`) takes a bias of keys in more than q's precision, which may be too
coarse. So the bias is passed in additional columns (`bias_columns.py`): q gets columns of a constant, and k those of
b/scale.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from limelight.kernels.backends.bias_columns import bias_columns, column_constant, column_count
from limelight.kernels.backends.sdpa_backends import SDPABackend, backend_for
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
    backend, width = _backend_and_width(q, k, v, bias, tile)
    return backend.forward(*bias_in_columns(q, k, bias, tile.scale, width), v, tile)


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, tile: Tile,
    bias_gradient: bool,
) -> Gradients:  # fmt: skip
    d, e = q.shape[-1], v.shape[-1]
    backend, width = _backend_and_width(q, k, v, bias, tile)
    dq, dk, dv = backend.backward(dout, *bias_in_columns(q, k, bias, tile.scale, width), v, out, lse, tile)
    dbias = dk[..., d].to(lse.dtype) / (tile.scale * column_constant(q.dtype)) if bias_gradient else None
    return Gradients(dq[..., :d], dk[..., :d], dv[..., :e], dbias)


def bias_in_columns(
    q: Float[Tensor, "x y n d"], k: Float[Tensor, "x y m d"], bias: Float[Tensor, "x y m"] | None, scale: float,
    width: int,
) -> tuple[Float[Tensor, "x y n w"], Float[Tensor, "x y m w"]]:  # fmt: skip
    """q and k of this width such that scale·⟨q', k'⟩ = scale·⟨q, k⟩ + b, to float32 accuracy whatever their dtype."""
    if bias is None and q.shape[-1] == width:
        return q, k
    count = 0 if bias is None else column_count(q.dtype)
    wide_q, wide_k = (x.new_empty(*x.shape[:-1], width) for x in (q, k))
    for wide, x in ((wide_q, q), (wide_k, k)):
        wide[..., : x.shape[-1]] = x
        wide[..., x.shape[-1] + count :] = 0
    if bias is not None:
        at = slice(q.shape[-1], q.shape[-1] + count)
        wide_q[..., at], wide_k[..., at] = column_constant(q.dtype), bias_columns(bias / scale, k.dtype)
    return wide_q, wide_k


def _backend_and_width(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tile: Tile) -> tuple[SDPABackend, int]:
    """The operations that serve these tensors, and the width of q and k for them."""
    columns = q.shape[-1] + (0 if bias is None else column_count(q.dtype))
    found = backend_for(q, k, columns, v.shape[-1], tile)
    return found, found.width(columns, v.shape[-1])
