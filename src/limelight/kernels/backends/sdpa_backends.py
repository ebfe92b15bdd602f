"""The backends of torch's attention on CUDA, each a forward and a backward operation: cuDNN, flash and efficient.

In half precision and without a mask the first two take a quarter of the time of the third, which serves float32, masks
and any width of v. Their results mean the same (a natural log-sum-exp, no dropout), so a backward pass may use another
backend than the forward pass did.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_cudnn_attention, can_use_flash_attention

from limelight.kernels.backends.operations import is_available, operations
from limelight.kernels.backends.tile import Tile, infinite_lse_of_empty_rows, pad, rounded_up

_HOPPER = 9  # from this compute capability on torch prefers cuDNN to FlashAttention
_LSE_ROWS = 32  # the efficient backend pads the rows of lse to a multiple of 32, with +∞


class SDPABackend(ABC):
    """A forward and a backward operation. q and k have the `width` that the backend needs; v is padded here."""

    @abstractmethod
    def width(self, columns: int, values: int) -> int:
        """The width that q and k must have, where they have this many columns and v so many."""

    @abstractmethod
    def forward(self, q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
        """(out, lse)."""

    @abstractmethod
    def backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, tile: Tile
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients for q, k and v, of which v's may be wider than v."""


class _Efficient(SDPABackend):
    def width(self, columns: int, values: int) -> int:
        return rounded_up(columns, 8)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
        wide_v = pad(v, rounded_up(v.shape[-1], 8))
        out, lse, _, _ = operations("cuda")[0](
            q, k, wide_v, _additive_mask(q, k, tile), True, 0.0, tile.causal, scale=tile.scale
        )
        return out[..., : v.shape[-1]], lse[..., : q.shape[-2]]

    def backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, tile: Tile
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, width = q.shape[-2], rounded_up(v.shape[-1], 8)
        lse = F.pad(infinite_lse_of_empty_rows(lse), (0, -n % _LSE_ROWS), value=float("inf"))
        unused = _no_random_state(q)
        dq, dk, dv, _ = operations("cuda")[1](
            pad(dout, width), q, k, pad(v, width), _additive_mask(q, k, tile), _heads_inside(out, width), lse, unused,
            unused, 0.0, [True, True, True, False], tile.causal, scale=tile.scale,
        )  # fmt: skip
        return dq, dk, dv


class HalfPrecisionBackend(SDPABackend):
    """A backend for bfloat16 and float16 without a mask, which takes one width for q, k and v."""

    name: str

    def width(self, columns: int, values: int) -> int:
        # The kernels take multiples of 8 and compute with multiples of 32. On an H200, where q and k had 72 columns,
        # the backward passes took 1.07 and 1.13 times as long as with 96, and cuDNN compiled its first call for two
        # seconds.
        return rounded_up(max(columns, values), 32)

    def serves(self, q: Tensor, k: Tensor, width: int, tile: Tile) -> bool:
        """True if the operations take tensors of this width on their device."""
        if q.dtype not in (torch.bfloat16, torch.float16) or tile.allowed is not None:
            return False
        if tile.causal and q.shape[-2] != k.shape[-2]:  # where the diagonal lies depends on the kernel
            return False
        if not is_available(self.name):
            return False
        wide_q, wide_k = (x.new_empty(*x.shape[:-2], 1, width).expand(*x.shape[:-1], width) for x in (q, k))
        return self._can_use(SDPAParams(wide_q, wide_k, wide_k, None, 0.0, tile.causal, False))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
        out, lse = self._forward(q, k, pad(v, q.shape[-1]), tile)
        return out[..., : v.shape[-1]], lse

    def backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, tile: Tile
    ) -> tuple[Tensor, Tensor, Tensor]:
        dout, v, out = (pad(x, q.shape[-1]) for x in (dout, v, out))
        return self._backward(dout, q, k, v, out, infinite_lse_of_empty_rows(lse).contiguous(), tile)

    @abstractmethod
    def _can_use(self, arguments: SDPAParams) -> bool: ...

    @abstractmethod
    def _forward(self, q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, tile: Tile
    ) -> tuple[Tensor, Tensor, Tensor]: ...


class _CuDNN(HalfPrecisionBackend):
    name = "cudnn"

    def _can_use(self, arguments: SDPAParams) -> bool:
        return can_use_cudnn_attention(arguments)

    def _forward(self, q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
        out, lse, *_ = operations(self.name)[0](q, k, v, None, True, 0.0, tile.causal, False, scale=tile.scale)
        return out, lse[..., 0]

    def _backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, tile: Tile
    ) -> tuple[Tensor, Tensor, Tensor]:
        unused = _no_random_state(q)
        dq, dk, dv = operations(self.name)[1](
            dout, q, k, v, out, lse[..., None], unused, unused, None, None, None, q.shape[-2], k.shape[-2], 0.0,
            tile.causal, scale=tile.scale,
        )  # fmt: skip
        return dq, dk, dv


class _Flash(HalfPrecisionBackend):
    name = "flash"

    def _can_use(self, arguments: SDPAParams) -> bool:
        return can_use_flash_attention(arguments)

    def _forward(self, q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
        out, lse, *_ = operations(self.name)[0](q, k, v, 0.0, tile.causal, False, scale=tile.scale)
        return out, lse

    def _backward(
        self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, tile: Tile
    ) -> tuple[Tensor, Tensor, Tensor]:
        state, unused = (torch.empty(shape, dtype=torch.uint64, device=q.device) for shape in ((2,), ()))
        dq, dk, dv = operations(self.name)[1](
            dout, q, k, v, out, lse, None, None, q.shape[-2], k.shape[-2], 0.0, tile.causal, state, unused,
            scale=tile.scale,
        )  # fmt: skip
        return dq, dk, dv


EFFICIENT, CUDNN, FLASH = _Efficient(), _CuDNN(), _Flash()


def backend_for(q: Tensor, k: Tensor, columns: int, values: int, tile: Tile) -> SDPABackend:
    """The fastest backend that serves these queries and keys, with this many columns, and values of so many."""
    if not q.is_cuda or torch.compiler.is_compiling():
        return EFFICIENT
    hopper = torch.cuda.get_device_capability(q.device)[0] >= _HOPPER
    order = (CUDNN, FLASH) if hopper else (FLASH, CUDNN)
    return next((each for each in order if each.serves(q, k, each.width(columns, values), tile)), EFFICIENT)


def _no_random_state(q: Tensor) -> Tensor:
    """What stands for the state of the random numbers where there is no dropout."""
    return torch.zeros((), dtype=torch.int64, device=q.device)


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


def _additive_mask(q: Tensor, k: Tensor, tile: Tile) -> Tensor | None:
    if tile.allowed is None:
        return None
    m = k.shape[-2]
    additive = torch.where(tile.allowed, tile.allowed.new_zeros((), dtype=q.dtype), float("-inf"))
    # The kernel wants each row of this array to begin at a multiple of eight numbers. Padded and then cut back to m as
    # a view, the array keeps the longer rows in memory: its strides are aligned and its shape is as it was.
    aligned = F.pad(additive, (0, -m % 8))[..., :m]
    return aligned.expand(q.shape[0], q.shape[1], q.shape[2], m)
