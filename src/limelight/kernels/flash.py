"""torch's fused attention, forward and backward, with the log-normalizer and its gradient.

    out_i = Σ_j p_ij v_j,   lse_i = log Σ_j exp s_ij,   s_ij = scale·⟨q_i, k_j⟩ + b_j (−∞ where masked)

The operations are private to torch: `operations.py` looks them up, and lists the arguments that are used. Two more
columns give results that the operations do not offer:

- A column of ones in q and of zeros in k does not change the scores, and dk in this column is scale·Σ_i dS_ij,
  the gradient of the key bias, for which torch would otherwise store an n×m array.
- dS_ij = p_ij (dP_ij − D_i) with D_i = ⟨out_i, dout_i⟩. A column with lse's gradient g_i in `out`,
  −1 in `dout` and 0 in v turns D_i into D_i − g_i: the exact gradient of lse, at no cost.

All tensors are (x, y, n|m, width); the bias is (x, y, m) and stays in float32 or float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from limelight.kernels.operations import operations, reason_missing

_SUPPORTED = {
    "cpu": (torch.float64, torch.float32, torch.bfloat16, torch.float16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
_SPEED_MULTIPLE = 4  # widths that are multiples of 4 run up to 7 % faster on the CPU
_COPIED = 1 << 19  # entries of one padded copy: 2 MB as float32
_CUDA_MULTIPLE = 8  # the CUDA kernel takes only multiples of 8 as widths and as bias lengths
_CUDA_LSE_ROWS = 32  # the CUDA kernel pads the rows of lse with +∞ to a multiple of 32


def unsupported(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why these kernels cannot run there, or None if they can."""
    if device.type not in _SUPPORTED:
        return f"it runs on {' and '.join(_SUPPORTED)}, not on {device.type}"
    if dtype not in _SUPPORTED[device.type]:
        return f"on {device.type} it takes {', '.join(map(str, _SUPPORTED[device.type]))}, not {dtype}"
    return reason_missing(device.type)


Matrices = tuple[slice, slice]  # some of the x·y matrices of a batch


@dataclass(frozen=True)
class Tile:
    """A rectangle of scores: the pairs that are allowed, by an array, by causality or both; a bias of pairs, if any."""

    allowed: Bool[Tensor, "#x #y #n m"] | None
    causal: bool
    scale: float
    pair_bias: Float[Tensor, "#x #y #n #m"] | None = None

    def of(self, at: Matrices) -> Tile:
        """The same rectangle, for some matrices of the batch."""
        allowed, pair_bias = (None if x is None else pick(x, at) for x in (self.allowed, self.pair_bias))
        return replace(self, allowed=allowed, pair_bias=pair_bias)

    def additive(self, bias: Float[Tensor, "x y m"] | None, dtype: torch.dtype) -> Float[Tensor, "#x #y #n m"] | None:
        """Key bias, pair bias and mask as one array that is added to the scores.

        It must have the dtype that the kernel expects, which does not check it.
        """
        added = None if bias is None else bias.detach()[..., None, :].to(dtype)  # its gradient is computed separately
        if self.pair_bias is not None:
            pair_bias = self.pair_bias.detach().to(dtype)
            added = pair_bias if added is None else added + pair_bias
        if self.allowed is None:
            return added
        return torch.where(self.allowed, self.allowed.new_zeros((), dtype=dtype) if added is None else added, -math.inf)


@dataclass(frozen=True)
class Gradients:
    q: Float[Tensor, "x y n d"]
    k: Float[Tensor, "x y m d"]
    v: Float[Tensor, "x y m e"]
    bias: Float[Tensor, "x y m"] | None


def plain(
    q: Float[Tensor, "x y n d"], k: Float[Tensor, "x y m d"], v: Float[Tensor, "x y m e"], tile: Tile
) -> Float[Tensor, "x y n e"]:
    """Only out, without a bias: torch's own call with its own derivative. Zero for a query that sees no key."""
    q, k, v = _dense_rows(q), _dense_rows(k), _dense_rows(v)
    if q.device.type == "cuda":
        e = v.shape[-1]
        q, k, v = (F.pad(x, (0, _cuda_width(x.shape[-1]) - x.shape[-1])) for x in (q, k, v))
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
            out = F.scaled_dot_product_attention(q, k, v, tile.allowed, is_causal=tile.causal, scale=tile.scale)
        return out[..., :e]
    if (
        tile.allowed is None and tile.pair_bias is None and q.shape[-1] == v.shape[-1]
    ):  # the same kernel, with 15 µs less overhead
        return F.scaled_dot_product_attention(q, k, v, is_causal=tile.causal, scale=tile.scale)
    width = max(q.shape[-1], v.shape[-1])
    mask = tile.additive(None, lse_dtype(q.dtype))
    out, _ = operations("cpu")[0](
        _pad(q, width), _pad(k, width), _pad(v, width), 0.0, tile.causal, attn_mask=mask, scale=tile.scale
    )
    return _pad_away(out, v.shape[-1])


def forward(
    q: Float[Tensor, "x y n d"],
    k: Float[Tensor, "x y m d"],
    v: Float[Tensor, "x y m e"],
    bias: Float[Tensor, "x y m"] | None,
    tile: Tile,
) -> tuple[Float[Tensor, "x y n e"], Float[Tensor, "x y n"]]:
    """(out, lse). For a row that sees no key, out is 0 and lse is undefined, so the caller must mask it."""
    run = _cuda_forward if q.device.type == "cuda" else _cpu_forward
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
    run = _cuda_backward if q.device.type == "cuda" else _cpu_backward
    dout, q, k, v, out = (_dense_rows(x) for x in (dout, q, k, v, out))
    gradients = run(dout, q, k, v, bias, out, lse, tile, bias_gradient)
    return Gradients(gradients.q, gradients.k, gradients.v[..., :e], gradients.bias)


def _cpu_forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tile: Tile) -> tuple[Tensor, Tensor]:
    width = max(q.shape[-1], v.shape[-1])
    # The kernel always computes averages. If only the log-sum-exp is needed, v has no columns, and k is passed in its
    # place: it has the right shape, and its average is ignored.
    averaged = v if v.shape[-1] else k
    out, lse = operations("cpu")[0](
        _pad(q, width), _pad(k, width), _pad(averaged, width), 0.0, tile.causal,
        attn_mask=tile.additive(bias, lse_dtype(q.dtype)), scale=tile.scale,
    )  # fmt: skip
    return _pad_away(out, v.shape[-1]), lse


def _cpu_backward(
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
        _pad(dout, width), _ones_column(q, width) if bias_gradient else _pad(q, width), _pad(k, width),
        _pad(v, width), _pad(out, width), _infinite_lse_of_empty_rows(lse), 0.0, tile.causal,
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
    """`_cpu_backward` for a few matrices at a time, so that its padded copies are small."""
    dbias = torch.empty_like(bias) if bias is not None and bias_gradient else None
    whole = Gradients(torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), dbias)
    for at in matrices:
        own = None if bias is None else bias[at]
        some = _cpu_backward(dout[at], q[at], k[at], v[at], own, out[at], lse[at], tile.of(at), bias_gradient)
        for total, part in ((whole.q, some.q), (whole.k, some.k), (whole.v, some.v), (whole.bias, some.bias)):
            if total is not None and part is not None:
                total[at] = part
    return whole


def pick(x: Tensor, at: Matrices) -> Tensor:
    """The part of a tensor (#x, #y, …) that belongs to these matrices."""
    return x[at[0] if len(x) > 1 else slice(None), at[1] if x.shape[1] > 1 else slice(None)]


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of lse and of biases: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _infinite_lse_of_empty_rows(lse: Tensor) -> Tensor:
    """lse with +∞ for a row that sees nothing, so that p = exp(s − lse) is 0 there whatever s is."""
    return lse.masked_fill(lse == float("-inf"), float("inf"))


def _dense_rows(x: Tensor) -> Tensor:
    """x with the last stride 1. The kernels take any other strides, but assume this one without a check."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _pad(x: Tensor, width: int) -> Tensor:
    if x.shape[-1] == width:
        return x
    padded = x.new_empty(*x.shape[:-1], width)  # F.pad would write all of it twice
    padded[..., : x.shape[-1]] = x
    padded[..., x.shape[-1] :] = 0
    return padded


def _pad_away(x: Tensor, width: int) -> Tensor:
    if width == 0:
        return x.new_empty(*x.shape[:-1], 0)  # a view would keep all of x
    return x if x.shape[-1] == width else x[..., :width]


def _ones_column(q: Tensor, width: int) -> Tensor:
    padded = _pad(q, width)
    padded[..., q.shape[-1]] = 1
    return padded


# CUDA: the pair of efficient-attention operations, which take float32 and half precision and any width of v.
# Their additive array has q's dtype, which may be too coarse for the bias. So the bias is passed in additional columns,
# split into as many parts as it needs: q gets columns of a constant c, and k gets the parts of b/(c·scale).


def _cuda_forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tile: Tile) -> tuple[Tensor, Tensor]:
    wide_q, wide_k = bias_in_columns(q, k, bias, tile.scale)
    wide_v = _pad(v, _cuda_width(v.shape[-1]))
    out, lse, _, _ = operations("cuda")[0](
        wide_q, wide_k, wide_v, _cuda_mask(q, k, tile), True, 0.0, tile.causal, scale=tile.scale
    )
    return out[..., : v.shape[-1]], lse[..., : q.shape[-2]]


def _cuda_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, tile: Tile,
    bias_gradient: bool,
) -> Gradients:  # fmt: skip
    d, e, n = q.shape[-1], v.shape[-1], q.shape[-2]
    wide_q, wide_k = bias_in_columns(q, k, bias, tile.scale)
    width_v = _cuda_width(e)
    lse = F.pad(_infinite_lse_of_empty_rows(lse), (0, -n % _CUDA_LSE_ROWS), value=float("inf"))
    unused = torch.zeros(
        (), dtype=torch.int64, device=q.device
    )  # would be the state of the random numbers; there is no dropout
    dq, dk, dv, _ = operations("cuda")[1](
        _pad(dout, width_v), wide_q, wide_k, _pad(v, width_v), _cuda_mask(q, k, tile), _heads_inside(out, width_v), lse,
        unused, unused, 0.0, [True, True, True, False], tile.causal, scale=tile.scale,
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
        return _pad(q, _cuda_width(d)), _pad(k, _cuda_width(d))
    # A bias in q's half precision would be rounded to 8 or 11 bits. So it is split into a sum of three numbers of that
    # precision, each the rounded remainder after those before it, in three columns of k against a constant c
    # in q: scale · c · (b₁ + b₂ + b₃) = b to float32's 24 bits. For float32 one column is enough.
    column, rest, parts = _column(q.dtype), bias / (scale * _column(q.dtype)), []
    for _ in range(1 if q.dtype == torch.float32 else 3):
        parts.append(rest.to(k.dtype))
        rest = rest - parts[-1]
    width = _cuda_width(d + len(parts))
    ones = q.new_full((*q.shape[:-1], len(parts)), column)
    return _pad(torch.cat([q, ones], -1), width), _pad(torch.cat([k, torch.stack(parts, -1)], -1), width)


def _cuda_width(width: int) -> int:
    return max(_CUDA_MULTIPLE, width + -width % _CUDA_MULTIPLE)


def _column(dtype: torch.dtype) -> float:
    return 16.0 if dtype == torch.float16 else 1.0  # with 1, float16 would overflow at a bias of 65504·scale


def _cuda_mask(q: Tensor, k: Tensor, tile: Tile) -> Tensor | None:
    if tile.allowed is None:
        return None
    m = k.shape[-2]
    additive = torch.where(tile.allowed, tile.allowed.new_zeros((), dtype=q.dtype), float("-inf"))
    # The kernel wants each row of this array to begin at a multiple of eight numbers. Padded and then cut back to m as
    # a view, the array keeps the longer rows in memory: its strides are aligned and its shape is as it was.
    aligned = F.pad(additive, (0, -m % _CUDA_MULTIPLE))[..., :m]
    return aligned.expand(q.shape[0], q.shape[1], q.shape[2], m)
