"""Masks that limit the distance between a query and a key: causal, and windows."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from limelight.errors import InputError
from limelight.mask.base_mask import Mask


class Band(Mask):
    """Query i may see key j iff −before ≤ j − i ≤ after; None sets no limit. `causal` is `Band(None, 0)`.

    Query i and key j are counted from the start of their sequences, as in torch's `is_causal`.
    With a cache of earlier keys use `causal.at(offset)`, in which query i is at position offset + i.

    >>> import torch
    >>> from limelight import Attention, causal
    >>> x = torch.zeros(4, 1)
    >>> Attention(x, x, mask=causal).dense().round(decimals=2)
    tensor([[1.0000, 0.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000, 0.0000],
            [0.3300, 0.3300, 0.3300, 0.0000],
            [0.2500, 0.2500, 0.2500, 0.2500]])
    """

    def __init__(self, before: int | None, after: int | None) -> None:
        for name, width in (("before", before), ("after", after)):
            if width is not None and (not isinstance(width, int) or isinstance(width, bool)):
                raise InputError(f"{name} must be a whole number of positions or None, got {width!r}")
        if before is not None and after is not None and -before > after:
            raise InputError(f"expected before + after ≥ 0, since no j − i lies between {-before} and {after}")
        self.before, self.after = before, after

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "r c"]:
        i = torch.arange(rows.start, rows.stop, device=device)[:, None]
        offset = torch.arange(cols.start, cols.stop, device=device)[None, :] - i
        allowed = torch.ones_like(offset, dtype=torch.bool)
        if self.before is not None:
            allowed &= offset >= -self.before
        if self.after is not None:
            allowed &= offset <= self.after
        return allowed

    @property
    def T(self) -> Band:
        return Band(self.after, self.before)

    def span(self, rows: slice, m: int) -> slice:
        start = 0 if self.before is None else min(max(rows.start - self.before, 0), m)
        stop = m if self.after is None else min(max(rows.stop + self.after, 0), m)
        return slice(min(start, stop), stop)

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        # Any band whose upper edge is on or below the diagonal and that reaches below it, or, with a cache of
        # earlier keys, one under which each query sees one key more than the last.
        if self.after is None:
            return False
        return (self.after <= 0 and self.before != 0) if self.before is not None else self.after < max(m - 1, 1)

    def at(self, offset: int) -> Band:
        """The same band for queries that start at position `offset` of the keys: a cache of `offset` keys."""
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise InputError(f"at(offset) expects a whole number of earlier keys ≥ 0, got {offset!r}")
        before = None if self.before is None else self.before - offset
        return Band(before, None if self.after is None else self.after + offset)

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"]:
        ahead = j - i
        allowed = torch.ones_like(ahead, dtype=torch.bool)
        allowed = allowed if self.before is None else allowed & (ahead >= -self.before)
        return allowed if self.after is None else allowed & (ahead <= self.after)

    def hides_ahead_of(self, offset: int) -> bool:
        return self.after is not None and self.after <= offset

    def __repr__(self) -> str:
        if (self.before, self.after) == (None, 0):
            return "causal"
        known = [width for width in (self.before, self.after) if width is not None and width >= 0]
        return f"{'window' if len(known) == 2 else 'Band'}({self.before}, {self.after})"


causal = Band(None, 0)


def window(before: int, after: int) -> Band:
    """Query i sees keys i − before … i + after (both ≥ 0), in time and memory linear in n.

    >>> import torch
    >>> from limelight import Attention, window
    >>> x = torch.zeros(4, 1)
    >>> Attention(x, x, mask=window(before=1, after=0)).dense().round(decimals=2)
    tensor([[1.0000, 0.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.5000, 0.5000]])
    """
    for name, width in (("before", before), ("after", after)):
        if not isinstance(width, int) or isinstance(width, bool) or width < 0:
            raise InputError(f"window({name}=…) expects a whole number ≥ 0, got {width!r}")
    return Band(before, after)
