"""The rectangles of the matrix that the fused kernel computes, with the mask of each.

There is one rectangle if the mask depends on the key alone, or is causal, or both. Otherwise there are tiles of rows,
each so small that its mask is small, and with only the keys in its span.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from limelight.kernels.backends import Tile
from limelight.mask import Band, Boolean, Mask, Padding, conjuncts
from limelight.shapes import broadcast_shapes, rectangle
from limelight.tracing import is_readable

_ENTRIES = 1 << 21  # entries of a mask in memory at once: 8 MB as float32
_LEAST_ROWS = 64  # rows of a tile, if the mask is not too wide


@dataclass(frozen=True)
class Batch:
    """Any number of batch dimensions, merged into the two (x, y) that the kernels take."""

    shape: tuple[int, ...]

    @classmethod
    def of(cls, *tensors: Tensor | None, mask: Mask | None) -> Batch:
        shapes = [tensor.shape[:-2] for tensor in tensors if tensor is not None]
        return cls(broadcast_shapes(*shapes, () if mask is None else mask.batch_shape))

    @property
    def merged(self) -> tuple[int, int]:
        return math.prod(self.shape[:-1]), self.shape[-1] if self.shape else 1

    def merge(self, tensor: Tensor) -> Tensor:
        """(*#batch, n, w) → (x, y, n, w); no copy for two batch dimensions or fewer."""
        if len(self.shape) == 2 and tensor.shape[:-2] == self.shape:
            return tensor
        return tensor.expand(*self.shape, *tensor.shape[-2:]).reshape(*self.merged, *tensor.shape[-2:])

    def merge_pairs(self, pairs: Tensor) -> Tensor:
        """(*#batch, r, c) → (#x, #y, r, c) for a mask or a bias of pairs, which is as large as the matrix.

        Its dimensions of size 1 are kept, so that it is not repeated for every matrix.
        """
        pairs = pairs.reshape(*(1,) * (max(len(self.shape), 2) + 2 - pairs.ndim), *pairs.shape)
        if pairs.ndim == 4:
            return pairs
        *leading, y = pairs.shape[:-2]
        if any(size > 1 for size in leading):
            leading = list(self.shape[:-1])
        return pairs.expand(*leading, *pairs.shape[-3:]).reshape(math.prod(leading), y, *pairs.shape[-2:])

    def unmerge_pairs(self, pairs: Tensor) -> Tensor:
        """(#x, #y, r, c) → (*#batch, r, c)."""
        if len(self.shape) == 2:
            return pairs
        x, y = pairs.shape[:2]
        leading = self.shape[:-1] if x > 1 else (1,) * len(self.shape[:-1])
        return pairs.reshape(*leading, *((y,) if self.shape else ()), *pairs.shape[-2:])

    def unmerge(self, tensor: Tensor) -> Tensor:
        """(x, y, …) → (*batch, …)."""
        return tensor if tensor.shape[:2] == self.shape else tensor.reshape(*self.shape, *tensor.shape[2:])


Visit = tuple[slice, slice, Tile, Bool[Tensor, "#x #y #r"] | None]


def tiles(
    mask: Mask | None, q: Tensor, k: Tensor, scale: float, batch: Batch, biased: bool, pair_bias: Tensor | None
) -> Iterator[Visit]:
    """(rows, keys, tile, nonempty) for the whole matrix; `nonempty` is True for rows that see a key, None if all do."""
    n, m = q.shape[-2], k.shape[-2]
    if 0 in (*batch.merged, n, m):
        return
    simple, copies = _Simple.of(mask), _copies(mask, batch, biased, pair_bias)
    if simple is not None and (pair_bias is None or copies * pair_bias.shape[-2] * m <= _ENTRIES):
        tile = replace(simple.tile(scale, batch), pair_bias=pair_bias)
        nonempty = None if tile.allowed is None else _nonempty_rows(tile.allowed, simple.causal, n)
        if simple.queries is not None:
            queries = batch.merge_pairs(simple.queries[..., None])[..., 0]
            nonempty = queries if nonempty is None else nonempty & queries
        yield slice(0, n), slice(0, m), tile, nonempty
        return
    for rows in [slice(0, n)] if _is_one_graph(mask, m) else _some_rows(mask, n, m, copies):
        cols = slice(0, m) if torch.compiler.is_exporting() else _span(mask, rows, m)
        if cols.stop > cols.start:
            allowed = None if mask is None else batch.merge_pairs(mask.block(rows, cols, q.device))
            table = None if pair_bias is None else rectangle(pair_bias, rows, cols)
            yield rows, cols, Tile(allowed, False, scale, table), None if allowed is None else _if_some_empty(allowed)


def _copies(mask: Mask | None, batch: Batch, biased: bool, pair_bias: Tensor | None) -> int:
    """The number of matrices in the array that a tile adds to the scores; 0 if no array has to be made."""
    # The kernel adds one array to the scores, which combines a key bias, a mask and a bias of pairs. A mask alone has
    # as many matrices as its batch dimensions. A key bias differs between all matrices, so with it the array has all of
    # them. A bias of pairs alone exists already.
    if pair_bias is None:
        return math.prod(batch.shape if biased else () if mask is None else mask.batch_shape)
    if biased:
        return math.prod(batch.shape)
    if mask is None:
        return 0
    return math.prod(broadcast_shapes(batch.unmerge_pairs(pair_bias).shape[:-2], mask.batch_shape))


def _span(mask: Mask | None, rows: slice, m: int) -> slice:
    return slice(0, m) if mask is None else mask.span(rows, m)


def _is_one_graph(mask: Mask | None, m: int) -> bool:
    """True if a compiled graph should not loop over tiles, which fixes n: on export, or if no keys are skipped."""
    if not torch.compiler.is_compiling():
        return False
    return torch.compiler.is_exporting() or _span(mask, slice(0, 1), m) == slice(0, m)


def _if_some_empty(allowed: Bool[Tensor, "#x #y #r #c"]) -> Bool[Tensor, "#x #y #r"] | None:
    """The rows that see a key, or None if it was checked that all do. On a GPU the check would wait for the device."""
    nonempty = allowed.any(-1)
    looks = nonempty.device.type == "cpu" and is_readable(nonempty)
    return None if looks and bool(nonempty.all()) else nonempty


def is_simple(mask: Mask | None) -> bool:
    """True if the whole matrix is one tile."""
    return _Simple.of(mask) is not None


def plain_tile(
    mask: Mask | None, n: int, m: int, scale: float, batch: Batch, device: torch.device, pair_bias: Tensor | None
) -> Tile | None:
    """The whole matrix as one tile without an empty row, for torch's own call; None if that is impossible.

    A mask that the kernel does not support becomes an array if that is small and no keys can be skipped.
    """
    if mask is None and pair_bias is None:
        return Tile(None, False, scale)
    simple, copies = _Simple.of(mask), _copies(mask, batch, False, pair_bias)
    if simple is not None:
        if simple.queries is not None or (pair_bias is not None and copies * pair_bias.shape[-2] * m > _ENTRIES):
            return None
        return replace(simple.tile(scale, batch), pair_bias=pair_bias)
    assert mask is not None
    if torch.compiler.is_compiling() or device.type != "cpu" or 0 in (n, m):
        return None
    if mask.span(slice(0, n), m) != slice(0, m) or _rows_per_tile(mask, n, m, copies) < n:
        return None
    allowed = batch.merge_pairs(mask.block(slice(0, n), slice(0, m), device))
    return Tile(allowed, False, scale, pair_bias) if _if_some_empty(allowed) is None else None


@dataclass(frozen=True)
class _Simple:
    """A mask that the kernels support: causal or not, with padding of keys and queries."""

    causal: bool = False
    keys: Bool[Tensor, "*#batch m"] | None = None
    queries: Bool[Tensor, "*#batch n"] | None = None

    @classmethod
    def of(cls, mask: Mask | None) -> _Simple | None:
        """The mask in this form, or None if it is another kind of mask."""
        # A mask is taken apart at its `&`. Causality is a flag of the kernel, and what depends on the key alone is one
        # row that it adds to all rows of scores. Padded queries are computed as if they were real and set to 0
        # afterwards: a whole row costs less than a mask n × m. Any other part, and any `|`, makes the mask no longer
        # simple.
        found = cls()
        for part in conjuncts(mask):
            if isinstance(part, Band) and (part.before, part.after) == (None, 0):
                found = replace(found, causal=True)
            elif isinstance(part, Padding):
                found = replace(found, keys=_both(found.keys, part.keys), queries=_both(found.queries, part.queries))
            elif isinstance(part, Boolean) and part.allowed.shape[-2] == 1 < part.allowed.shape[-1]:
                found = replace(found, keys=_both(found.keys, part.allowed[..., 0, :]))  # one row for all queries
            else:
                return None
        return found

    def tile(self, scale: float, batch: Batch) -> Tile:
        """The whole matrix as one tile. The caller must handle padded queries."""
        allowed = None if self.keys is None else batch.merge_pairs(self.keys[..., None, :])
        return Tile(allowed, self.causal, scale)


def _both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a & b


def _nonempty_rows(keys: Bool[Tensor, "#x #y 1 m"], is_causal: bool, n: int) -> Bool[Tensor, "#x #y #n"]:
    """True for queries that see a real key; under a causal mask a query sees keys up to its own position."""
    if not is_causal:
        return keys.any(-1)
    # Under a causal mask and padding query i sees a key if one of keys 0 … i is real: the running count of real keys up
    # to i is positive. Queries beyond the last key see all of them.
    any_so_far = keys[..., 0, :].cumsum(-1) > 0
    return any_so_far[..., torch.arange(n, device=keys.device).clamp(max=keys.shape[-1] - 1)]


def _some_rows(mask: Mask | None, n: int, m: int, copies: int) -> Iterator[slice]:
    step = _rows_per_tile(mask, n, m, copies)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _rows_per_tile(mask: Mask | None, n: int, m: int, copies: int) -> int:
    """So many rows that the mask of a tile is small and, under a narrow mask, not mostly False."""

    def width(rows: int) -> int:
        start = max((n - rows) // 2, 0)
        span = _span(mask, slice(start, min(start + rows, n)), m)
        length: int = span.stop - span.start
        return max(length, 1)

    # Rows are doubled as long as the tile's mask stays small and its span does not widen much. Of a window of w keys a
    # tile of r rows spans w + r: with r much larger than w most of the tile would be hidden pairs, computed for
    # nothing.
    rows = max(1, min(_LEAST_ROWS, _ENTRIES // (copies * width(_LEAST_ROWS))))
    while rows < n and copies * 2 * rows * width(2 * rows) <= _ENTRIES and width(2 * rows) < 1.5 * width(rows):
        rows *= 2
    return rows
