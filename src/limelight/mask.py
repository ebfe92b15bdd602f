"""Which query may see which key?

A mask is a predicate on (query i, key j), True = may see, as in
`torch.nn.functional.scaled_dot_product_attention`. It is asked for one rectangle at a time, so
that no n×m array need exist. Combine masks, and boolean tensors, with `&`, `|` and `~`:

    causal & padding(keys=lengths_to_keep)
    window(before=128, after=0) | Boolean(global_tokens)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from limelight.errors import DeviceError, DtypeError, InputError
from limelight.shapes import broadcast_shapes

_ENTRIES = 1 << 22  # of a mask looked at in one go


class Mask(ABC):
    """A predicate on (query i, key j): True = query i may see key j."""

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

        Column normalisation asks, since it would let the future through. The pattern is looked
        for in the entries, a few rows at a time, so a causal boolean tensor is known as one too.
        """
        past, future, shrinks, growths = False, False, False, 0
        step = max(2, _ENTRIES // max(m, 1))
        for start in range(0, n, step):
            rows = slice(max(start - 1, 0), min(start + step, n))  # one row of overlap, to compare
            part = self.block(rows, slice(0, m), device)
            past |= bool(part.tril(rows.start - 1).any())
            future |= bool(part.triu(rows.start + 1).any())
            gained = (part[..., 1:, :] & ~part[..., :-1, :]).any(-1)
            shrinks |= bool((part[..., :-1, :] & ~part[..., 1:, :]).any())
            growths += int(gained.flatten(0, -2).any(0).sum() if gained.ndim > 1 else gained.sum())
        return (past and not future) or (not shrinks and growths >= 2)

    def for_groups(self) -> Mask:
        """The same predicate where query heads (…, H) stand in groups (…, H/g, g); its own heads are one or none."""
        if self.batch_shape:
            raise InputError(f"{self!r} has batch dimensions and does not say how they stand in groups of heads")
        return self

    def hides_ahead_of(self, offset: int) -> bool:
        """Does this mask by its form hide every key j > i + offset?"""
        return False

    def __and__(self, other: Mask | Tensor) -> Mask:
        return And(self, as_mask(other))

    def __or__(self, other: Mask | Tensor) -> Mask:
        return Or(self, as_mask(other))

    __rand__ = __and__
    __ror__ = __or__

    def __invert__(self) -> Mask:
        return Not(self)


class Band(Mask):
    """−before ≤ j − i ≤ after; None leaves that side open. `causal` is `Band(None, 0)`.

    Query i and key j are counted from the start of their sequences, as SDPA's `is_causal` does.
    With a cache of earlier keys, `causal.at(offset)` says that query i stands at position offset + i.
    """

    def __init__(self, before: int | None, after: int | None) -> None:
        for name, width in (("before", before), ("after", after)):
            if width is not None and (not isinstance(width, int) or isinstance(width, bool)):
                raise InputError(f"{name} must be a whole number of positions or None, got {width!r}")
        if before is not None and after is not None and -before > after:
            raise InputError(f"an empty band: no j − i lies between {-before} and {after}; expected before + after ≥ 0")
        self.before, self.after = before, after

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "r c"]:
        i = torch.arange(rows.start, rows.stop, device=device)[:, None]
        offset = torch.arange(cols.start, cols.stop, device=device)[None, :] - i
        seen = torch.ones_like(offset, dtype=torch.bool)
        if self.before is not None:
            seen &= offset >= -self.before
        if self.after is not None:
            seen &= offset <= self.after
        return seen

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

    def hides_ahead_of(self, offset: int) -> bool:
        return self.after is not None and self.after <= offset

    def __repr__(self) -> str:
        return "causal" if (self.before, self.after) == (None, 0) else f"Band({self.before}, {self.after})"


causal = Band(None, 0)


def window(before: int, after: int) -> Band:
    """Query i sees keys i − before … i + after (both ≥ 0), in time and memory linear in n."""
    for name, width in (("before", before), ("after", after)):
        if not isinstance(width, int) or isinstance(width, bool) or width < 0:
            raise InputError(f"window({name}=…) expects a whole number ≥ 0, got {width!r}")
    return Band(before, after)


class Padding(Mask):
    """Query i may see key j iff both are real tokens: queries[…, i] and keys[…, j].

    keys (*batch, m) and queries (*batch, n) are boolean, True = real; None = all are real.
    The batch dimensions are those of the scores, heads included: for (B, H, n, d) queries give
    (B, 1, m). With column normalisation (α > 0, Sinkhorn) pass `queries` too in self-attention:
    padded queries would otherwise take part in the keys' normalisers.
    """

    def __init__(self, keys: Tensor | None = None, queries: Tensor | None = None) -> None:
        if keys is None and queries is None:
            raise InputError("padding expects keys=, queries= or both; got neither")
        for name, real in (("keys", keys), ("queries", queries)):
            if real is not None:
                _require_bool(real, f"padding({name}=…)", least_dims=1)
        self.keys, self.queries = keys, queries

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        seen = torch.ones(rows.stop - rows.start, cols.stop - cols.start, dtype=torch.bool, device=device)
        if self.keys is not None:
            seen = seen & self.keys[..., None, cols]
        if self.queries is not None:
            seen = seen & self.queries[..., rows, None]
        return seen

    @property
    def T(self) -> Padding:
        return Padding(keys=self.queries, queries=self.keys)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return broadcast_shapes(*(r.shape[:-1] for r in (self.keys, self.queries) if r is not None))

    def check(self, n: int, m: int, device: torch.device) -> None:
        for name, real, length in (("keys", self.keys, m), ("queries", self.queries, n)):
            if real is None:
                continue
            _require_device(real, device)
            if real.shape[-1] != length:
                raise InputError(f"padding({name}=…) expects (*batch, {length}), got {tuple(real.shape)}")

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        return False

    def for_groups(self) -> Padding:
        return Padding(*(x if x is None or x.ndim < 2 else x.unsqueeze(-2) for x in (self.keys, self.queries)))

    def __repr__(self) -> str:
        return "padding"


padding = Padding


class Boolean(Mask):
    """Any boolean matrix (*batch, n, m), True = may see; dimensions of size 1 broadcast."""

    def __init__(self, seen: Bool[Tensor, "*#batch #n #m"]) -> None:
        _require_bool(seen, "a boolean mask", least_dims=2)
        self.seen = seen

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        n, m = self.seen.shape[-2:]
        part = self.seen[..., rows if n > 1 else slice(None), cols if m > 1 else slice(None)]
        shape = (*part.shape[:-2], rows.stop - rows.start, cols.stop - cols.start)
        return part.expand(shape)

    @property
    def T(self) -> Boolean:
        return Boolean(self.seen.mT)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.seen.shape[:-2])

    def check(self, n: int, m: int, device: torch.device) -> None:
        _require_device(self.seen, device)
        rows, cols = self.seen.shape[-2:]
        if rows not in (1, n) or cols not in (1, m):
            raise InputError(
                f"a mask for {n} queries and {m} keys has shape (*batch, {n}, {m}), got {tuple(self.seen.shape)}"
            )

    def for_groups(self) -> Boolean:
        return Boolean(self.seen if self.seen.ndim < 3 else self.seen.unsqueeze(-3))

    def __repr__(self) -> str:
        return f"Boolean{tuple(self.seen.shape)}"


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
    """Both must allow."""

    symbol = "&"

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        return self.left.block(rows, cols, device) & self.right.block(rows, cols, device)

    def span(self, rows: slice, m: int) -> slice:
        a, b = self.left.span(rows, m), self.right.span(rows, m)
        start, stop = max(a.start, b.start), min(a.stop, b.stop)
        return slice(min(start, stop), stop)

    def hides_ahead_of(self, offset: int) -> bool:
        return self.left.hides_ahead_of(offset) or self.right.hides_ahead_of(offset)

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        return any(part.is_causal(n, m, device) for part in (self.left, self.right)) or super().is_causal(n, m, device)


class Or(_Pair):
    """Either may allow."""

    symbol = "|"

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "*#batch r c"]:
        return self.left.block(rows, cols, device) | self.right.block(rows, cols, device)

    def hides_ahead_of(self, offset: int) -> bool:
        return self.left.hides_ahead_of(offset) and self.right.hides_ahead_of(offset)

    def span(self, rows: slice, m: int) -> slice:
        a, b = self.left.span(rows, m), self.right.span(rows, m)
        return slice(min(a.start, b.start), max(a.stop, b.stop))


class Not(Mask):
    """What the other forbids."""

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

    def for_groups(self) -> Not:
        return Not(self.mask.for_groups())

    def check(self, n: int, m: int, device: torch.device) -> None:
        self.mask.check(n, m, device)

    def __invert__(self) -> Mask:
        return self.mask

    def __repr__(self) -> str:
        return f"~{self.mask!r}"


def as_mask(mask: Mask | Tensor) -> Mask:
    """A mask from a mask or a boolean tensor; anything else raises."""
    if isinstance(mask, Mask):
        return mask
    if isinstance(mask, Tensor):
        return Boolean(mask)
    raise DtypeError(f"expected a Mask or a boolean tensor, got {type(mask).__name__}")


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


def _require_bool(tensor: Tensor, what: str, least_dims: int) -> None:
    if not isinstance(tensor, Tensor):
        raise DtypeError(f"{what} expects a boolean tensor, got {type(tensor).__name__}")
    if tensor.dtype != torch.bool:
        raise DtypeError(
            f"{what} expects dtype torch.bool (True = may see), got {tensor.dtype}; for 0/1 integers use `mask.bool()`"
        )
    if tensor.ndim < least_dims:
        raise InputError(f"{what} expects at least {least_dims} dimensions, got shape {tuple(tensor.shape)}")


def _require_device(tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise DeviceError(f"the mask is on {tensor.device}, q and k are on {device}; move one of them with .to()")
