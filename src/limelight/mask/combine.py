"""Masks made of masks: both, either, not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from limelight.mask.base import Mask
from limelight.mask.given import Padding
from limelight.shapes import broadcast_shapes


class _Pair(Mask):
    """Two masks, each asked where the other is."""

    symbol: str

    def __init__(self, left: Mask, right: Mask) -> None:
        self.left, self.right = left, right

    @property
    def T(self) -> Mask:
        return type(self)(self.left.T, self.right.T)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return broadcast_shapes(self.left.batch_shape, self.right.batch_shape)

    def for_groups(self) -> Mask:
        return type(self)(self.left.for_groups(), self.right.for_groups())

    def check(self, n: int, m: int, device: torch.device) -> None:
        self.left.check(n, m, device)
        self.right.check(n, m, device)

    def __repr__(self) -> str:
        return f"({self.left!r} {self.symbol} {self.right!r})"


class And(_Pair):
    """Both must allow.

    >>> import torch
    >>> from limelight import Attention, causal, window
    >>> x = torch.zeros(4, 1)
    >>> Attention(x, x, mask=causal & window(1, 1)).dense().round(decimals=2)
    tensor([[1.0000, 0.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.5000, 0.5000]])
    """

    symbol = "&"

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        return self.left.block(rows, cols, device) & self.right.block(rows, cols, device)

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"] | None:
        a, b = self.left.pairs(i, j), self.right.pairs(i, j)
        return None if a is None or b is None else a & b

    def span(self, rows: slice, m: int) -> slice:
        a, b = self.left.span(rows, m), self.right.span(rows, m)
        start, stop = max(a.start, b.start), min(a.stop, b.stop)
        return slice(min(start, stop), stop)

    def hides_ahead_of(self, offset: int) -> bool:
        return self.left.hides_ahead_of(offset) or self.right.hides_ahead_of(offset)

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        return any(part.is_causal(n, m, device) for part in (self.left, self.right)) or super().is_causal(n, m, device)


class Or(_Pair):
    """Either may allow.

    >>> import torch
    >>> from limelight import Attention, Boolean, window
    >>> x = torch.zeros(4, 1)
    >>> first = torch.tensor([True, False, False, False])[None]
    >>> Attention(x, x, mask=window(0, 0) | Boolean(first)).dense().round(decimals=2)
    tensor([[1.0000, 0.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000, 0.0000],
            [0.5000, 0.0000, 0.5000, 0.0000],
            [0.5000, 0.0000, 0.0000, 0.5000]])
    """

    symbol = "|"

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        return self.left.block(rows, cols, device) | self.right.block(rows, cols, device)

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"] | None:
        a, b = self.left.pairs(i, j), self.right.pairs(i, j)
        return None if a is None or b is None else a | b

    def hides_ahead_of(self, offset: int) -> bool:
        return self.left.hides_ahead_of(offset) and self.right.hides_ahead_of(offset)

    def span(self, rows: slice, m: int) -> slice:
        a, b = self.left.span(rows, m), self.right.span(rows, m)
        return slice(min(a.start, b.start), max(a.stop, b.stop))


class Not(Mask):
    """What the other forbids.

    >>> import torch
    >>> from limelight import Attention, window
    >>> x = torch.zeros(4, 1)
    >>> Attention(x, x, mask=~window(0, 0)).dense().round(decimals=2)
    tensor([[0.0000, 0.3300, 0.3300, 0.3300],
            [0.3300, 0.0000, 0.3300, 0.3300],
            [0.3300, 0.3300, 0.0000, 0.3300],
            [0.3300, 0.3300, 0.3300, 0.0000]])
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = mask

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        return ~self.mask.block(rows, cols, device)

    @property
    def T(self) -> Not:
        return Not(self.mask.T)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.mask.batch_shape

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"] | None:
        allowed = self.mask.pairs(i, j)
        return None if allowed is None else ~allowed

    def for_groups(self) -> Not:
        return Not(self.mask.for_groups())

    def check(self, n: int, m: int, device: torch.device) -> None:
        self.mask.check(n, m, device)

    def __invert__(self) -> Mask:
        return self.mask

    def __repr__(self) -> str:
        return f"~{self.mask!r}"


def conjuncts(mask: Mask | None) -> Sequence[Mask]:
    """The masks that must all allow: `a & (b & c)` → (a, b, c); None → ()."""
    if mask is None:
        return ()
    if isinstance(mask, And):
        return (*conjuncts(mask.left), *conjuncts(mask.right))
    return (mask,)


def real_keys(mask: Mask | None) -> Bool[Tensor, "*#batch m"] | None:
    """The keys that padding leaves, (*#batch, m), or None where nothing is padded."""
    real = None
    for part in conjuncts(mask):
        if isinstance(part, Padding) and part.keys is not None:
            real = part.keys if real is None else real & part.keys
    return real
