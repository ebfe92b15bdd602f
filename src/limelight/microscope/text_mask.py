"""Which tokens of a text are real, and which keys each query sees, from the mask that a layer was given.

A batch holds several texts, filled up with padding on one side. Here each text is taken by itself: the rows and columns
of its padding are left out, and what remains of the mask is compared with the usual patterns (every key, causal, a
window). A mask of such a pattern is kept as two numbers. Only a mask of another pattern is kept as a boolean matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from limelight.mask import Band, Boolean, Mask, split_additive

_ROWS = 512  # rows of a mask that are compared at a time


@dataclass(frozen=True)
class Visible:
    """The real queries and keys of one text, and the mask between them.

    `queries` and `keys` are indices into the batch's padded tensors. `positions` says at which of the real keys each
    real query stands, and is None if queries and keys are different texts. `mask` is None where each query sees each
    key.
    """

    queries: Int[Tensor, " n"]
    keys: Int[Tensor, " m"]
    positions: Int[Tensor, " n"] | None
    mask: Mask | None

    def of_heads(self, heads: list[int]) -> Mask | None:
        """The mask of these heads, which may have different ones."""
        differs = isinstance(self.mask, Boolean) and self.mask.allowed.ndim == 3
        return Boolean(self.mask.allowed[heads]) if differs else self.mask  # type: ignore[union-attr]


@dataclass(frozen=True)
class CallMask:
    """What is known of one call: its sizes, its mask, and which tokens the model's attention mask marks as real.

    `allowed` (B or 1, heads or 1, n, m) is True where a query may see a key; None with `is_causal` means j ≤ i, and
    None without it that all keys are seen. `real_queries` and `real_keys` are the rows of the model's
    attention mask, or None. `offset` is the position of the first query among the keys, if the layer is known to have
    one.
    """

    texts: int
    n: int
    m: int
    allowed: Bool[Tensor, "#B #H n m"] | None
    is_causal: bool
    is_cross: bool
    real_queries: Bool[Tensor, "B n"] | None = None
    real_keys: Bool[Tensor, "B m"] | None = None
    offset: int | None = None


def visible(given: CallMask) -> list[Visible]:
    """One `Visible` for each text of the batch."""
    if given.allowed is None:
        one = _without_mask(given)
        return [one] * given.texts
    return [_of_text(given, text) for text in range(given.texts)]


def _without_mask(given: CallMask) -> Visible:
    n, m = given.n, given.m
    queries, keys = torch.arange(n), torch.arange(m)
    offset = given.offset if given.offset is not None else m - n
    positions = None if given.is_cross or offset < 0 else queries + offset
    return Visible(queries, keys, positions, Band(None, 0) if given.is_causal and m > 1 else None)


def _of_text(given: CallMask, text: int) -> Visible:
    assert given.allowed is not None
    allowed = given.allowed[text if len(given.allowed) > 1 else 0]
    seen = allowed.flatten(0, -2).any(0)  # (m,): keys that some query sees
    sees = allowed.any(-1).any(0)  # (n,): queries that see some key
    if given.is_cross:
        keys, queries, offset = _marked_real(given.real_keys, text, seen), _of(given.real_queries, text), None
    else:
        keys, queries, offset = _own(given, text, seen)
    queries = sees if queries is None else queries & sees
    q, k = queries.nonzero()[:, 0], keys.nonzero()[:, 0]
    positions = None if offset is None else ((keys.cumsum(0) - 1)[q + offset]).cpu()
    return Visible(q.cpu(), k.cpu(), positions, _pattern(allowed[:, q][:, :, k]))


def _own(given: CallMask, text: int, seen: Tensor) -> tuple[Tensor, Tensor | None, int | None]:
    """(real keys, real queries, the first query's position) where queries and keys are tokens of one text.

    In a whole text (n = m) padding is a key that no query sees. With a cache (n < m) a window hides keys too, so a key
    is real unless the model's attention mask marks it as padding.
    """
    n, m = given.n, given.m
    if given.offset is not None:
        keys = seen.clone()
        keys[given.offset + n :] = True  # keys that the layer adds itself
        return keys, keys[given.offset : given.offset + n], given.offset
    if n > m:
        return seen, None, None
    keys = seen if n == m else _marked_real(given.real_keys, text, torch.ones_like(seen), seen)
    return keys, keys[m - n :], m - n


def _marked_real(told: Tensor | None, text: int, otherwise: Tensor, seen: Tensor | None = None) -> Tensor:
    """The keys that the attention mask marks as real, unless others are seen, as where the mask is of another text."""
    own = _of(told, text)
    return otherwise if own is None or bool(((otherwise if seen is None else seen) & ~own).any()) else own


def _of(told: Tensor | None, text: int) -> Tensor | None:
    return None if told is None else told[text if len(told) > 1 else 0]


def _pattern(allowed: Bool[Tensor, "H n m"]) -> Mask | None:
    """The mask as None (all is seen), a `Band`, or a `Boolean` if it has another pattern."""
    n, m = allowed.shape[-2:]
    if not n or not m:
        return None
    # A band is known from two rows: the first one shows how far a query sees ahead, the last one how far back.
    first, last = allowed[0, 0].nonzero()[:, 0], allowed[0, -1].nonzero()[:, 0]
    if not len(first) or not len(last):
        return _boolean(allowed)
    after = None if int(first[-1]) == m - 1 else int(first[-1])
    before = None if int(last[0]) == 0 else n - 1 - int(last[0])
    if before is None and after is None:
        band = None
    elif before is not None and after is not None and -before > after:
        return _boolean(allowed)
    else:
        band = Band(before, after)
    for start in range(0, n, _ROWS):
        rows = slice(start, min(start + _ROWS, n))
        part = allowed[:, rows]
        if not bool(part.all() if band is None else (part == band.block(rows, slice(0, m), part.device)).all()):
            return _boolean(allowed)
    return band


def _boolean(allowed: Bool[Tensor, "H n m"]) -> Boolean:
    same = allowed[:1] if bool((allowed == allowed[:1]).all()) else allowed
    return Boolean(same[0] if len(same) == 1 else same)


def split(mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """(where a query may see a key, what is added to the scores); None for everything, and for nothing.

    A boolean mask is True where a key may be seen. In a float mask −∞ and the least number of its dtype hide a key.
    """
    if mask is None or mask.dtype == torch.bool:
        return mask, None
    seen, added = split_additive(mask.detach(), mask.shape[-2])
    return None if seen is None else seen.allowed, added
