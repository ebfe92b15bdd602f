"""Differential attention: the difference of two attentions, in which what both attend to cancels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import check
from limelight.attention import Attention
from limelight.errors import DeviceError, DtypeError, InputError
from limelight.heads import FINITE, batch_shape_of, per_head, require
from limelight.signed import SignedOperator
from limelight.similarity import upcast


class DifferentialAttention(SignedOperator):
    """P = P₁ − λ P₂, the difference of two attentions to the same keys (Ye et al., 2410.05258).

    `first` and `second` are attentions of n queries to m keys, of any similarity, normalization and mask; `share` is
    λ: a finite number, or a tensor (), (heads,) or (*batch, 1, 1), which gets a gradient.
    `limelight.nn.DifferentialShare` learns it as the paper does. Weights may be negative, and with softmax rows sum to
    1 − λ. Both products run on the attentions' own kernels, and are subtracted in at least float32.

    `entropy()` and the other measures that take a row for a distribution raise `InputError`, as do attentions of
    different lengths; `DtypeError` and `DeviceError` for attentions of different dtypes and devices.

    >>> import torch
    >>> from limelight import Attention, DifferentialAttention
    >>> q, k = torch.randn(2, 8, 100, 32).unbind()  # 8 heads, whose queries and keys have two halves each
    >>> first, second = (Attention(*half) for half in zip(q.chunk(2, -1), k.chunk(2, -1)))
    >>> P = DifferentialAttention(first, second, share=0.2)
    >>> out = P @ torch.ones(8, 100, 64)
    >>> out.shape, round(out[0, 0, 0].item(), 2)
    (torch.Size([8, 100, 64]), 0.8)
    """

    def __init__(self, first: Attention, second: Attention, share: float | Float[Tensor, "*#batch"]) -> None:
        check.instance("first", first, Attention)
        check.instance("second", second, Attention)
        require("DifferentialAttention(share=…)", share, FINITE)
        if first.shape[-2:] != second.shape[-2:]:
            raise InputError(
                "DifferentialAttention expects two attentions of the same numbers of queries and keys, got shapes "
                f"{first.shape} and {second.shape}"
            )
        if first.dtype != second.dtype:
            raise DtypeError(
                f"both attentions must share a dtype, got {first.dtype} and {second.dtype}; convert one with .to()"
            )
        if first.device != second.device:
            raise DeviceError(
                f"both attentions must share a device, got {first.device} and {second.device}; move one with .to()"
            )
        self.first, self.second, self.share = first, second, per_head(share)
        batches = {"first": first.shape[:-2], "second": second.shape[:-2], "share": batch_shape_of(share)}
        self.shape = (*check.broadcast(batches), *first.shape[-2:])

    @property
    def dtype(self) -> torch.dtype:
        return self.first.dtype

    @property
    def device(self) -> torch.device:
        return self.first.device

    def _cast(self, v: Tensor) -> Tensor:
        return self.first._cast(v)

    def _apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        return self._difference(self.first @ v, self.second @ v)

    def _apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*batch m e"]:
        return self._difference(self.first.T @ w, self.second.T @ w)

    def dense(self) -> Float[Tensor, "*batch n m"]:
        """The matrix P₁ − λ P₂, n×m: for pictures, or for small n and m."""
        return self._difference(self.first.dense(), self.second.dense())

    def _difference(self, first: Tensor, second: Tensor) -> Tensor:
        difference = upcast(first) - self.share * upcast(second)
        return difference.to(first.dtype)

    def __repr__(self) -> str:
        share = tuple(self.share.shape) if isinstance(self.share, Tensor) else f"{self.share:g}"
        return f"DifferentialAttention({self.first!r}, {self.second!r}, share={share})"
