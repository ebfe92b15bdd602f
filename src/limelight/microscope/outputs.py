"""The outputs of a model with and without watchers, compared to the bit."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_LARGE = 1 << 26  # bytes


@dataclass(frozen=True)
class Digest:
    """A checksum of a large tensor, with which another tensor can be compared to the bit."""

    shape: torch.Size
    dtype: torch.dtype
    digest: bytes

    @classmethod
    def of(cls, x: Tensor) -> Digest:
        bits = x.detach().contiguous().flatten().view(torch.uint8).numpy()
        return cls(x.shape, x.dtype, hashlib.blake2b(bits.data).digest())


Remembered = Tensor | Digest


def remembered(x: Tensor) -> Remembered:
    """The tensor, or its digest if it is large, as logits are: 800 MB for 4,096 tokens and 50,000 words."""
    is_plain = x.device.type == "cpu" and not x.is_nested and x.layout == torch.strided
    return Digest.of(x) if is_plain and x.nbytes >= _LARGE else x


def difference(right: Remembered, x: Tensor) -> float:
    """The largest difference; 0 if all numbers are equal, also NaN to NaN, and ∞ for other shapes or dtypes.

    For digests only equality can be checked, so the result is 0 or ∞.
    """
    if isinstance(right, Digest):
        return 0.0 if Digest.of(x) == right else math.inf
    return _difference(right, x)


def tensors_of(out: Any) -> Iterator[Tensor]:
    """All tensors of a model's output; caches are left out."""
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, dict):
        for value in out.values():
            yield from tensors_of(value)
    elif isinstance(out, (list, tuple)):
        for value in out:
            yield from tensors_of(value)
    elif dataclasses.is_dataclass(out):
        for field in dataclasses.fields(out):
            yield from tensors_of(getattr(out, field.name))


def _difference(a: Tensor, b: Tensor) -> float:
    if a.is_nested or b.is_nested:
        pairs = zip(a.unbind(), b.unbind(), strict=True)
        return max((_difference(x, y) for x, y in pairs), default=0.0)
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    a, b = a.detach(), b.detach()
    if torch.equal(a, b):
        return 0.0
    differs = (a != b) & ~((a != a) & (b != b))
    if not bool(differs.any()):
        return 0.0
    off = float((a.double() - b.double()).abs()[differs].max())
    return off if off == off else float("inf")
