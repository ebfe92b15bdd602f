"""Tensors of tokens: their precision, their mean, and how they are concatenated."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limelight.shapes import broadcast_shapes
from limelight.tracing import is_readable

_WIDE = (torch.float32, torch.float64)


def upcast_pair(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """q and k in at least float32; the same tensor twice if q is k."""
    upcast_q = upcast(q)
    return upcast_q, upcast_q if k is q else upcast(k)


def is_finite(x: Tensor) -> bool:
    """True if x has no NaN and no infinity, or if its entries cannot be read (a compiled graph, torch.func)."""
    # A sum over a NaN or an infinity is not finite, so a finite sum settles the common case in one pass and without an
    # array of booleans. Finite numbers may overflow in a sum; only then is each entry examined.
    if not is_readable(x):
        return True
    x = x.detach()
    return math.isfinite(x.sum().item()) or bool(x.isfinite().all())


def are_finite(x: Tensor, y: Tensor) -> bool:
    """`is_finite` of both, which reads only one number from the device if they are finite."""
    if not (is_readable(x) and is_readable(y)):
        return True
    x, y = x.detach(), y.detach()
    return math.isfinite(x.sum().add_(y.sum()).item()) or bool(x.isfinite().all() and y.isfinite().all())


_NEAR = 0.25  # if |mean|² is at most this times the variance, subtracting the mean gains less than one bit


def center(k: Float[Tensor, "*#batch m d"], real: Bool[Tensor, "*#batch m"] | None) -> Float[Tensor, "*#batch 1 d"]:
    """The mean of the keys that are not padding, without a gradient: subtracting it changes no result."""
    k = upcast(k.detach())
    if real is None:
        return k.mean(-2, keepdim=True)
    total = torch.where(real[..., None], k, 0).sum(-2, keepdim=True)
    return total / real.sum(-1)[..., None, None].clamp(min=1)


def shift_for_precision(k: Float[Tensor, "*#batch m d"], real: Bool[Tensor, "*#batch m"] | None) -> Tensor | None:
    """The mean of the keys, or None if subtracting it would not reduce rounding error."""
    # The rounding error of ⟨q, k⟩ is in proportion to |k|, and the mean of |k|² is |μ|² + the variance. Subtracting μ
    # takes the first part away, for the price of a copy of the keys. That pays only where |μ| is more than half a
    # standard deviation. On a GPU, where reading the answer would wait for the device, and under padding, whose rows
    # must not enter the variance, the mean is always returned.
    middle = center(k, real)
    if real is not None or k.device.type != "cpu" or not is_readable(k) or 0 in k.shape:
        return middle
    mean_square = torch.linalg.vector_norm(k.detach(), dim=(-2, -1), dtype=middle.dtype).square() / k.shape[-2]
    own = middle.square().sum((-2, -1))
    return middle if bool((own > _NEAR * (mean_square - own)).any()) else None


def squeeze_head(x: Float[Tensor, "heads _ _"]) -> Float[Tensor, "*heads _ _"]:
    """(heads, …) in a shape that broadcasts against (*batch, heads, n, m): a single head's dimension is dropped."""
    return x[0] if len(x) == 1 else x


def concat_features(tensors: list[Tensor]) -> Float[Tensor, "*batch n w"]:
    """The tensors, broadcast over their batch dimensions and concatenated along the last one."""
    rows = broadcast_shapes(*(tensor.shape[:-1] for tensor in tensors))
    wide = [tensor for tensor in tensors if tensor.shape[-1]] or tensors[:1]
    if len(wide) == 1:  # the others add no feature
        return wide[0] if wide[0].shape[:-1] == rows else wide[0].expand(*rows, wide[0].shape[-1])
    return torch.cat([tensor.expand(*rows, tensor.shape[-1]) for tensor in wide], -1)


def is_wide(x: Tensor) -> bool:
    """True if x is in float32 or float64, so that `upcast` leaves it as it is."""
    return x.dtype in _WIDE


def upcast(x: Tensor) -> Tensor:
    """x in at least float32, the precision of biases and statistics."""
    return x if is_wide(x) else x.to(torch.promote_types(x.dtype, torch.float32))


def times(table: Float[Tensor, "*#batch n m"], scale: float | Tensor) -> Float[Tensor, "*#batch n m"]:
    """table · scale; an array of pairs is not copied where the scale is one."""
    return table if not isinstance(scale, Tensor) and scale == 1 else table * scale
