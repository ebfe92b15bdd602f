"""The checks of all inputs. An error says what was expected and what came."""

from __future__ import annotations

import torch
from torch import Tensor

from limelight.errors import DeviceError, DtypeError, InputError
from limelight.heads import FINITE, require
from limelight.mask import Mask, real_keys
from limelight.nonfinite import finite_or_padded
from limelight.shapes import broadcast_shapes
from limelight.similarity import Similarity, are_finite, is_finite
from limelight.tracing import is_readable

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def instance(name: str, value: object, kind: type) -> None:
    """Raise `InputError` unless `value` is an instance of `kind`; says so if a class or a tensor was passed."""
    if isinstance(value, kind):
        return
    if isinstance(value, type):
        came = f"the class {value.__name__}; write {value.__name__}()"
    else:
        came = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    article = "an" if kind.__name__[0] in "AEIO" else "a"
    raise InputError(f"{name} expects {article} {kind.__name__} object, got {came}")


def operands(q: Tensor, k: Tensor, same_width: bool) -> None:
    """Raise unless q is (*batch, n, d) and k is (*batch, m, d), both of one floating dtype and on one device."""
    for name, x in (("q", q), ("k", k)):
        if not isinstance(x, Tensor):
            raise DtypeError(f"{name} expects a torch tensor, got {type(x).__name__}")
        dense(name, x)
        if x.dtype not in DTYPES:
            raise DtypeError(f"{name} expects one of {', '.join(map(str, DTYPES))}, got {x.dtype}")
        if x.ndim < 2:
            raise InputError(f"{name} expects at least (length, width), got shape {tuple(x.shape)}")
    if q.dtype != k.dtype:
        raise DtypeError(f"q and k must share a dtype, got {q.dtype} and {k.dtype}; convert one of them with .to()")
    if q.device != k.device:
        raise DeviceError(f"q and k must share a device, got {q.device} and {k.device}; move one of them with .to()")
    if (same_width and q.shape[-1] != k.shape[-1]) or 0 in (q.shape[-1], k.shape[-1]):
        raise InputError(
            f"q and k must have the same width ≥ 1, got {q.shape[-1]} and {k.shape[-1]} "
            f"(shapes {tuple(q.shape)} and {tuple(k.shape)})"
        )


def dense(name: str, x: Tensor) -> None:
    """Raise `InputError` for a nested or a sparse tensor."""
    if x.layout is torch.strided and not x.is_nested:
        return
    came = "nested; pad it, and hide the padding by a mask" if x.is_nested else "sparse; write .to_dense()"
    raise InputError(f"{name} expects a tensor with all of its entries, got one that is {came}")


def finite(q: Tensor, k: Tensor, mask: Mask | None) -> tuple[Tensor, Tensor]:
    """q and k, checked to be finite. A token that padding hides may hold NaN or infinity, and is set to zero."""
    if is_finite(q) if k is q else are_finite(q, k):
        return q, k
    kept_q = finite_or_padded(q, None if mask is None else real_keys(mask.T))
    kept_k = finite_or_padded(k, real_keys(mask))
    for name, x, kept, said in (("q", q, kept_q, "queries"), ("k", k, kept_k, "keys")):
        if kept is None:
            bad = (~x.isfinite()).sum().item()
            raise InputError(
                f"{name} has {bad} NaN or infinite of {x.numel()} entries; expected finite numbers, except in tokens "
                f"that padding({said}=…) hides"
            )
    assert kept_q is not None
    assert kept_k is not None
    return kept_q, kept_k


def shape(
    q: Tensor, k: Tensor, mask: Mask | None, scale: float | Tensor, heads: dict[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """The shape (*batch, n, m). Raises unless q, k, mask, scale and the batch shapes in `heads` fit together."""
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
    """Raise unless the scale is a finite number, or a tensor of finite numbers for heads on the device of q."""
    require("scale", scale, FINITE)
    if isinstance(scale, Tensor) and scale.device != q.device and scale.ndim > 0:
        raise DeviceError(f"scale is on {scale.device}, q and k are on {q.device}; move one of them with .to()")


def broadcast(batches: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The common batch dimensions. Raises `InputError` if they do not broadcast."""
    try:
        return broadcast_shapes(*batches.values())
    except RuntimeError:
        came = ", ".join(f"{name} {tuple(batch)}" for name, batch in batches.items())
        raise InputError(
            f"the batch dimensions (all but the last two) do not broadcast: {came}; "
            "for fewer key heads than query heads use attend(…, enable_gqa=True)"
        ) from None


def symmetric(asked_by: object, q: Tensor, k: Tensor, similarity: Similarity, mask: Mask | None) -> None:
    """Raise unless s_ij = s_ji: q = k, a similarity that declares itself symmetric, and a symmetric mask."""
    if not similarity.properties.symmetric:
        raise InputError(
            f"{asked_by} expects symmetric scores, and {similarity} does not declare itself symmetric; "
            "use one that does (Euclidean, Dot, …), or Sinkhorn, which takes any"
        )
    if not (q is k or (q.shape == k.shape and (not is_readable(q) or torch.equal(q, k)))):
        raise InputError(
            f"{asked_by} expects q and k to be the same tokens, got different tensors of shapes "
            f"{tuple(q.shape)} and {tuple(k.shape)}; for two sets use Sinkhorn"
        )
    if mask is not None and not mask.is_symmetric(q.shape[-2], q.device):
        raise InputError(
            f"{asked_by} expects symmetric scores, and under the mask {mask!r} they are not; "
            "use a symmetric mask, or Sinkhorn"
        )


def values(name: str, v: Tensor, dtype: torch.dtype, device: torch.device, length: int, batch: tuple[int, ...]) -> None:
    """Raise unless v is (*batch, length, e), for any e, in this dtype and on this device."""
    if not isinstance(v, Tensor):
        raise DtypeError(f"{name} expects a torch tensor, got {type(v).__name__}")
    dense(name, v)
    if v.ndim < 2 or v.shape[-2] != length:
        hint = "; for a vector use v[:, None]" if v.shape == (length,) else ""
        raise InputError(f"{name} expects (*batch, {length}, e), got {tuple(v.shape)}{hint}")
    if v.dtype != dtype:
        raise DtypeError(f"{name} must have the dtype of the operator (of q and k), {dtype}, got {v.dtype}")
    if v.device != device:
        raise DeviceError(f"{name} must be on the device of the operator (of q and k), {device}, got {v.device}")
    if v.shape[:-2] != batch:
        broadcast({"attention": batch, name: v.shape[:-2]})
