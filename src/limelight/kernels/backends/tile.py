"""A rectangle of scores and its gradients, as the fused kernels take and give them, and how their arrays are padded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

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
        # The kernel takes one array and has no gradient for it. A key bias is constant along a column: it stays (x, y,
        # 1, m) and is never expanded, and its gradient comes from a column of ones in q (`__init__.py`). Only a mask or
        # a bias that depends on both query and key makes the array n × m.
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


def pick(x: Tensor, at: Matrices) -> Tensor:
    """The part of a tensor (#x, #y, …) that belongs to these matrices."""
    return x[at[0] if len(x) > 1 else slice(None), at[1] if x.shape[1] > 1 else slice(None)]


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of lse and of biases: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def infinite_lse_of_empty_rows(lse: Tensor) -> Tensor:
    """lse with +∞ for a row that sees nothing, so that p = exp(s − lse) is 0 there whatever s is."""
    return lse.masked_fill(lse == float("-inf"), float("inf"))


def pad(x: Tensor, width: int) -> Tensor:
    if x.shape[-1] == width:
        return x
    padded = x.new_empty(*x.shape[:-1], width)  # F.pad would write all of it twice
    padded[..., : x.shape[-1]] = x
    padded[..., x.shape[-1] :] = 0
    return padded


def rounded_up(width: int, multiple: int) -> int:
    """The smallest positive multiple that is no less than the width."""
    return max(multiple, width + -width % multiple)


def pad_away(x: Tensor, width: int) -> Tensor:
    if width == 0:
        return x.new_empty(*x.shape[:-1], 0)  # a view would keep all of x
    return x if x.shape[-1] == width else x[..., :width]
