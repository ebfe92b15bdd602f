"""The boundary: what every caller's input must satisfy, said once, with what was expected and what came."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limelight.errors import DeviceError, DtypeError, InputError
from limelight.mask import Mask
from limelight.shapes import broadcast_shapes
from limelight.similarity import Similarity, is_finite

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def instance(name: str, value: object, kind: type) -> None:
    """`value` is an object of the axis it is given for, not a name or a class."""
    if isinstance(value, kind):
        return
    came = f"the class {value.__name__}; write {value.__name__}()" if isinstance(value, type) else repr(value)
    raise InputError(f"{name} expects a {kind.__name__} object, got {came}")


def operands(q: Tensor, k: Tensor, same_width: bool) -> None:
    """q (*batch, n, d) and k (*batch, m, d): finite, of one floating dtype, on one device."""
    for name, x in (("q", q), ("k", k)):
        if not isinstance(x, Tensor):
            raise DtypeError(f"{name} expects a torch tensor, got {type(x).__name__}")
        if x.dtype not in DTYPES:
            raise DtypeError(f"{name} expects one of {', '.join(map(str, DTYPES))}, got {x.dtype}")
        if x.ndim < 2:
            raise InputError(f"{name} expects at least (length, width), got shape {tuple(x.shape)}")
    if q.dtype != k.dtype:
        raise DtypeError(f"q and k must share a dtype, got {q.dtype} and {k.dtype}")
    if q.device != k.device:
        raise DeviceError(f"q and k must share a device, got {q.device} and {k.device}")
    if (same_width and q.shape[-1] != k.shape[-1]) or 0 in (q.shape[-1], k.shape[-1]):
        raise InputError(
            f"q and k must have the same width ≥ 1, got {q.shape[-1]} and {k.shape[-1]} "
            f"(shapes {tuple(q.shape)} and {tuple(k.shape)})"
        )
    for name, x in (("q", q), ("k", k)):
        if (name == "q" or x is not q) and not is_finite(x):
            bad = (~x.isfinite()).sum().item()
            raise InputError(f"{name} has {bad} NaN or infinite of {x.numel()} entries; expected finite numbers")


def shape(
    q: Tensor, k: Tensor, mask: Mask | None, scale: float | Tensor, heads: dict[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """(*batch, n, m), after q, k, mask, scale and what `heads` says of others are found to fit."""
    n, m = q.shape[-2], k.shape[-2]
    batches: dict[str, tuple[int, ...]] = {"q": q.shape[:-2], "k": k.shape[:-2]}
    if mask is not None:
        mask.check(n, m, q.device)
        batches["the mask"] = mask.batch_shape
    if isinstance(scale, Tensor):
        batches["scale"] = scale.shape[:-2]
    batches |= {name: batch for name, batch in heads.items() if batch}
    return (*broadcast(batches), n, m)


def scale(scale: float | Tensor, q: Tensor) -> None:
    """A positive finite number, or a tensor of such that broadcasts against (*batch, 1, 1)."""
    if isinstance(scale, Tensor):
        _scale_tensor(scale, q)
    elif isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
        raise InputError(f"scale expects a positive finite number or a tensor, got {scale!r}")


def broadcast(batches: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The common batch dimensions."""
    try:
        return broadcast_shapes(*batches.values())
    except RuntimeError:
        came = ", ".join(f"{name} {tuple(batch)}" for name, batch in batches.items())
        raise InputError(
            f"the batch dimensions (all but the last two) do not broadcast: {came}; "
            "for fewer key heads than query heads use attend(…, enable_gqa=True)"
        ) from None


def symmetric(asked_by: object, q: Tensor, k: Tensor, similarity: Similarity, mask: Mask | None) -> None:
    """s_ij = s_ji: one set of tokens, a similarity that declares itself symmetric, a mask that is."""
    if not similarity.properties.symmetric:
        raise InputError(
            f"{asked_by} is of symmetric scores, and {similarity} does not declare itself symmetric; "
            "use one that is (Euclidean, Dot, …), or Sinkhorn, which takes any"
        )
    if not (q is k or (q.shape == k.shape and bool(torch.equal(q, k)))):
        raise InputError(
            f"{asked_by} is of one set of tokens: expected q and k to be the same, got different tensors of shapes "
            f"{tuple(q.shape)} and {tuple(k.shape)}; for two sets use Sinkhorn"
        )
    if mask is not None and not mask.is_symmetric(q.shape[-2], q.device):
        raise InputError(f"{asked_by} is of symmetric scores, and under the mask {mask!r} they are not")


def values(name: str, v: Tensor, like: Tensor, length: int, batch: tuple[int, ...]) -> None:
    """v (*batch, length, e) in the dtype and on the device of `like`; any e."""
    if not isinstance(v, Tensor):
        raise DtypeError(f"{name} expects a torch tensor, got {type(v).__name__}")
    if v.ndim < 2 or v.shape[-2] != length:
        hint = "; for a vector use v[:, None]" if v.shape == (length,) else ""
        raise InputError(f"{name} expects (*batch, {length}, e), got {tuple(v.shape)}{hint}")
    if v.dtype != like.dtype:
        raise DtypeError(f"{name} must have the dtype of q and k, {like.dtype}, got {v.dtype}")
    if v.device != like.device:
        raise DeviceError(f"{name} must be on the device of q and k, {like.device}, got {v.device}")
    if v.shape[:-2] != batch:
        broadcast({"attention": batch, name: v.shape[:-2]})


def _scale_tensor(scale: Tensor, q: Tensor) -> None:
    if scale.shape[-2:] not in ((), (1,), (1, 1)):
        raise InputError(f"a scale tensor expects shape () or (*batch, 1, 1), got {tuple(scale.shape)}")
    if scale.device != q.device:
        raise DeviceError(f"scale is on {scale.device}, q and k are on {q.device}")
    if not scale.is_floating_point():
        raise DtypeError(f"scale expects a floating dtype, got {scale.dtype}")
    if not torch.compiler.is_compiling() and not bool(((scale > 0) & scale.isfinite()).all()):
        raise InputError(f"scale expects positive finite numbers, got a tensor with minimum {scale.min().item():g}")
