"""torch's fused attention, forward and backward, with the log-normalizer and its gradient.

    out_i = Σ_j p_ij v_j,   lse_i = log Σ_j exp s_ij,   s_ij = scale·⟨q_i, k_j⟩ + b_j (−∞ where masked)

The operations are private to torch: `operations.py` looks them up, `cpu.py` and `sdpa_backends.py` call them. Two more
columns give results that the operations do not offer:

- A column of ones in q and of zeros in k does not change the scores, and dk in this column is scale·Σ_i dS_ij,
  the gradient of the key bias, for which torch would otherwise store an n×m array.
- dS_ij = p_ij (dP_ij − D_i) with D_i = ⟨out_i, dout_i⟩. A column with lse's gradient g_i in `out`,
  −1 in `dout` and 0 in v turns D_i into D_i − g_i: the exact gradient of lse, at no cost.

All tensors are (x, y, n|m, width); the bias is (x, y, m) and stays in float32 or float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limelight.kernels.backends import cpu, cuda
from limelight.kernels.backends.cpu import some_matrices
from limelight.kernels.backends.operations import reason_missing
from limelight.kernels.backends.tile import Gradients, Matrices, Tile, lse_dtype, pick

__all__ = [
    "Gradients", "Matrices", "Tile", "backward", "forward", "lse_dtype", "pick", "plain", "some_matrices",
    "unsupported",
]  # fmt: skip

_DTYPES = {"cpu": cpu.DTYPES, "cuda": cuda.DTYPES}


def unsupported(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why these kernels cannot run there, or None if they can."""
    if device.type not in _DTYPES:
        return f"it runs on {' and '.join(_DTYPES)}, not on {device.type}"
    if dtype not in _DTYPES[device.type]:
        return f"on {device.type} it takes {', '.join(map(str, _DTYPES[device.type]))}, not {dtype}"
    return reason_missing(device.type)


def plain(
    q: Float[Tensor, "x y n d"], k: Float[Tensor, "x y m d"], v: Float[Tensor, "x y m e"], tile: Tile
) -> Float[Tensor, "x y n e"]:
    """Only out, without a bias: torch's own call with its own derivative. Zero for a query that sees no key."""
    run = cuda.plain if q.device.type == "cuda" else cpu.plain
    return run(_dense_rows(q), _dense_rows(k), _dense_rows(v), tile)


def forward(
    q: Float[Tensor, "x y n d"],
    k: Float[Tensor, "x y m d"],
    v: Float[Tensor, "x y m e"],
    bias: Float[Tensor, "x y m"] | None,
    tile: Tile,
) -> tuple[Float[Tensor, "x y n e"], Float[Tensor, "x y n"]]:
    """(out, lse). For a row that sees no key, out is 0 and lse is undefined, so the caller must mask it."""
    run = cuda.forward if q.device.type == "cuda" else cpu.forward
    return run(_dense_rows(q), _dense_rows(k), _dense_rows(v), bias, tile)


def backward(
    dout: Float[Tensor, "x y n e"],
    dlse: Float[Tensor, "x y n"] | None,
    q: Float[Tensor, "x y n d"],
    k: Float[Tensor, "x y m d"],
    v: Float[Tensor, "x y m e"],
    bias: Float[Tensor, "x y m"] | None,
    out: Float[Tensor, "x y n e"],
    lse: Float[Tensor, "x y n"],
    tile: Tile,
    bias_gradient: bool,
) -> Gradients:
    """The gradients of `forward`, given those of out and lse; rows with lse = −∞ contribute nothing."""
    e = v.shape[-1]
    # The kernel does not support a gradient of lse. It computes D_i = ⟨out_i, dout_i⟩ and dS = P ∘ (dout vᵀ − D).
    # Appending one column to out with g_i = ∂L/∂lse_i, to dout with −1 and to v with 0 does not change dout vᵀ, since
    # −1 · 0 = 0, and turns D_i into D_i − g_i. Then dS = P ∘ (dout vᵀ − D + g), which is the gradient through out and
    # lse together.
    if dlse is not None:
        out = torch.cat([out, dlse[..., None].to(out.dtype)], -1)
        dout = F.pad(dout, (0, 1), value=-1)
        v = F.pad(v, (0, 1))
    dout, q, k, v, out = (_dense_rows(x) for x in (dout, q, k, v, out))
    run = cuda.backward if q.device.type == "cuda" else cpu.backward
    gradients = run(dout, q, k, v, bias, out, lse, tile, bias_gradient)
    return Gradients(gradients.q, gradients.k, gradients.v[..., :e], gradients.bias)


def _dense_rows(x: Tensor) -> Tensor:
    """x with the last stride 1. The kernels take any other strides, but assume this one without a check."""
    return x if x.stride(-1) == 1 else x.contiguous()
