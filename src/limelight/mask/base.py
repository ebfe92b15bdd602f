"""Which query may see which key? What every mask is.

A mask is a predicate on (query i, key j), True = may see, as in
`torch.nn.functional.scaled_dot_product_attention`. It is asked for one rectangle at a time, so
that no n×m array need exist.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from limelight.errors import DeviceError, DtypeError, InputError
from limelight.tracing import require_readable

_ENTRIES = 1 << 22  # of a mask looked at in one go


class Mask(ABC):
    """A predicate on (query i, key j): True = query i may see key j.

    >>> from limelight import causal, window
    >>> causal & window(2, 2)
    (causal & window(2, 2))
    >>> ~window(0, 0)  # all but the query itself
    ~window(0, 0)
    """

    @abstractmethod
    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        """The predicate on the rectangle `rows` × `cols` (both with explicit start and stop)."""

    @property
    @abstractmethod
    def T(self) -> Mask:
        """The same predicate with queries and keys exchanged."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The batch dimensions that the predicate depends on; () if none."""
        return ()

    def span(self, rows: slice, m: int) -> slice:
        """A range of keys outside which no query of `rows` sees anything."""
        return slice(0, m)

    def check(self, n: int, m: int, device: torch.device) -> None:  # noqa: B027 (nothing to check is a fine answer)
        """Raise `InputError` or `DeviceError` if the mask cannot serve n queries and m keys there."""

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        """Does this mask hide the future: is it lower triangular, or does each query see more than the last?

        Column normalization asks, since it would let the future through. The pattern is looked
        for in the entries, a few rows at a time, so a causal boolean tensor is known as one too.
        """
        past, future, shrinks, growths = False, False, False, 0
        step = max(2, _ENTRIES // max(m, 1))
        for start in range(0, n, step):
            rows = slice(max(start - 1, 0), min(start + step, n))  # one row of overlap, to compare
            part = self.block(rows, slice(0, m), device)
            require_readable(part, "a normalization that mixes queries", "give it causal, window or padding as a mask")
            past |= bool(part.tril(rows.start - 1).any())
            future |= bool(part.triu(rows.start + 1).any())
            gained = (part[..., 1:, :] & ~part[..., :-1, :]).any(-1)
            shrinks |= bool((part[..., :-1, :] & ~part[..., 1:, :]).any())
            growths += int(gained.flatten(0, -2).any(0).sum() if gained.ndim > 1 else gained.sum())
        return (past and not future) or (not shrinks and growths >= 2)

    def is_symmetric(self, n: int, device: torch.device) -> bool:
        """Does key j see i wherever i sees j? Looked for in the entries, a few rows at a time."""
        step = max(1, _ENTRIES // max(n, 1))
        some = [slice(start, min(start + step, n)) for start in range(0, n, step)]
        every = slice(0, n)
        return all(torch.equal(self.block(rows, every, device), self.T.block(rows, every, device)) for rows in some)

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"] | None:
        """The predicate on single pairs, or None where it has batch dimensions or can say rectangles only."""
        return None

    def for_groups(self) -> Mask:
        """The same predicate where query heads (…, H) stand in groups (…, H/g, g); its own heads are one or none."""
        if self.batch_shape:
            raise InputError(f"{self!r} has batch dimensions and does not say how they stand in groups of heads")
        return self

    def hides_ahead_of(self, offset: int) -> bool:
        """Does this mask by its form hide every key j > i + offset?"""
        return False

    def __and__(self, other: Mask | Tensor) -> Mask:
        from limelight.mask.combine import And  # a combination is a mask itself

        return And(self, as_mask(other))

    def __or__(self, other: Mask | Tensor) -> Mask:
        from limelight.mask.combine import Or

        return Or(self, as_mask(other))

    __rand__ = __and__
    __ror__ = __or__

    def __invert__(self) -> Mask:
        from limelight.mask.combine import Not

        return Not(self)


def as_mask(mask: Mask | Tensor) -> Mask:
    """A mask from a mask or a boolean tensor; anything else raises."""
    if isinstance(mask, Mask):
        return mask
    if isinstance(mask, Tensor):
        from limelight.mask.given import Boolean

        return Boolean(mask)
    raise DtypeError(f"expected a Mask or a boolean tensor, got {type(mask).__name__}")


def require_bool(tensor: Tensor, what: str, least_dims: int) -> None:
    if not isinstance(tensor, Tensor):
        raise DtypeError(f"{what} expects a boolean tensor, got {type(tensor).__name__}")
    if tensor.dtype != torch.bool:
        raise DtypeError(
            f"{what} expects dtype torch.bool (True = may see), got {tensor.dtype}; for 0/1 integers use `mask.bool()`"
        )
    if tensor.ndim < least_dims:
        raise InputError(f"{what} expects at least {least_dims} dimensions, got shape {tuple(tensor.shape)}")


def require_device(tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise DeviceError(f"the mask is on {tensor.device}, q and k are on {device}; move one of them with .to()")
