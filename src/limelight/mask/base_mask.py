"""The base class of masks, which say which query may see which key, and their combinations.

A mask is a predicate on (query i, key j), True = may see, as in
`torch.nn.functional.scaled_dot_product_attention`. It is computed for one rectangle at a time, so
that no n×m array is needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from limelight.errors import DeviceError, DtypeError, InputError
from limelight.shapes import broadcast_shapes, rectangle
from limelight.tracing import require_readable

_ENTRIES = 1 << 22  # entries of a mask that are examined at a time


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

    def check(self, n: int, m: int, device: torch.device) -> None:  # noqa: B027 (a mask may have nothing to check)
        """Raise `InputError` or `DeviceError` unless the mask fits n queries and m keys on this device."""

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        """True if the mask hides the future: it is lower triangular, or each query sees more keys than the one before.

        A normalization with column sums refuses such a mask, since these sums would let the future through. The
        entries are examined, a few rows at a time, so that a causal boolean tensor is recognized too.
        """
        # Two patterns hide the future. Either something below the diagonal is allowed and nothing above it; or,
        # whatever the diagonal, each query sees all that the one before sees, and sometimes more, as with a cache of
        # earlier keys. One growth is not counted as a pattern, since padded queries before real ones make it too. Rows
        # are taken some at a time, with the last row of those before, to compare each row with the one before it.
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
        """True if the matrix of the mask is symmetric. Its entries are compared, a few rows at a time."""
        step = max(1, _ENTRIES // max(n, 1))
        some = [slice(start, min(start + step, n)) for start in range(0, n, step)]
        every = slice(0, n)
        return all(torch.equal(self.block(rows, every, device), self.T.block(rows, every, device)) for rows in some)

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"] | None:
        """The predicate on single pairs, or None where it has batch dimensions or is known for rectangles only."""
        return None

    def for_groups(self) -> Mask:
        """The same predicate for query heads in groups, (…, H/g, g); the mask has one head or none."""
        if self.batch_shape:
            raise InputError(f"{self!r} has batch dimensions and cannot be used with grouped heads; define for_groups")
        return self

    def hides_ahead_of(self, offset: int) -> bool:
        """True if the kind of mask alone implies that every key j > i + offset is hidden; entries are not read."""
        return False

    def __and__(self, other: Mask | Tensor) -> Mask:
        return And(self, as_mask(other))

    def __or__(self, other: Mask | Tensor) -> Mask:
        return Or(self, as_mask(other))

    __rand__ = __and__
    __ror__ = __or__

    def __invert__(self) -> Mask:
        return Not(self)


class Boolean(Mask):
    """A mask given as a boolean tensor (*batch, n, m), True = may see; dimensions of size 1 broadcast.

    >>> import torch
    >>> from limelight import Attention, Boolean
    >>> x = torch.zeros(4, 1)
    >>> Attention(x, x, mask=Boolean(torch.eye(4, dtype=torch.bool))).dense().round(decimals=2)
    tensor([[1., 0., 0., 0.],
            [0., 1., 0., 0.],
            [0., 0., 1., 0.],
            [0., 0., 0., 1.]])
    """

    def __init__(self, allowed: Bool[Tensor, "*#batch #n #m"]) -> None:
        require_bool(allowed, "a boolean mask", least_dims=2)
        self.allowed = allowed

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        part = rectangle(self.allowed, rows, cols)
        shape = (*part.shape[:-2], rows.stop - rows.start, cols.stop - cols.start)
        return part.expand(shape)

    @property
    def T(self) -> Boolean:
        return Boolean(self.allowed.mT)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.allowed.shape[:-2])

    def check(self, n: int, m: int, device: torch.device) -> None:
        require_device(self.allowed, device)
        rows, cols = self.allowed.shape[-2:]
        if rows not in (1, n) or cols not in (1, m):
            raise InputError(
                f"a mask for {n} queries and {m} keys must have the shape (*batch, {n}, {m}), "
                f"got {tuple(self.allowed.shape)}"
            )

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"] | None:
        n, m = self.allowed.shape[-2:]
        return None if self.batch_shape else self.allowed[i.clamp(max=n - 1), j.clamp(max=m - 1)]

    def for_groups(self) -> Boolean:
        return Boolean(self.allowed if self.allowed.ndim < 3 else self.allowed.unsqueeze(-3))

    def __repr__(self) -> str:
        return f"Boolean{tuple(self.allowed.shape)}"


class _Pair(Mask):
    """Two masks joined by a logical operation."""

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
    """Allows what both masks allow.

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
    """Allows what at least one of the masks allows.

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
    """Allows what the other mask forbids.

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


def as_mask(mask: Mask | Tensor) -> Mask:
    """A mask from a mask or a boolean tensor; anything else raises."""
    if isinstance(mask, Mask):
        return mask
    if isinstance(mask, Tensor):
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
