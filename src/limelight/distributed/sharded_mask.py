"""Masks of a sharded sequence: bands of positions, padding and documents, whose tensors travel with the keys.

A mask can be sharded if each rank can compute a rectangle of it from its own queries and from what comes with the keys
that visit it. A band needs only the positions. Padding and documents have one number for each key, which travels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limelight.distributed.order import Run
from limelight.errors import InputError
from limelight.mask import Band, Documents, Mask, Padding, conjuncts

_SHARDED = (Band, Padding, Documents)


@dataclass(frozen=True)
class ShardedMask:
    """A mask as the parts that must all allow a pair. Padding and documents are those of this rank's tokens."""

    parts: Sequence[Band | Padding | Documents]

    @classmethod
    def of(cls, mask: Mask | None) -> ShardedMask:
        """Raises `InputError` for a mask that cannot be sharded."""
        for part in conjuncts(mask):
            if type(part) not in _SHARDED:  # a subclass may show other pairs
                raise InputError(
                    f"the mask {part!r} cannot be sharded, since its entries for this rank's queries and other ranks' "
                    "keys are unknown; use causal, window(…), padding(keys=…), documents(…), or several joined by &"
                )
        return cls([part for part in conjuncts(mask) if isinstance(part, _SHARDED)])

    @property
    def uses_positions(self) -> bool:
        return any(isinstance(part, Band) for part in self.parts)

    @property
    def of_keys(self) -> list[Tensor]:
        """What travels with the keys, (*#batch, m, 1) each."""
        given = [part.keys for part in self.parts if not isinstance(part, Band)]
        return [x[..., None].to(torch.uint8) if x.dtype == torch.bool else x[..., None] for x in given if x is not None]

    def leaks(self, n: int, m: int, device: torch.device) -> bool:
        """True if a part hides the future of n queries and m keys."""
        return any(part.is_causal(n, m, device) for part in self.parts if isinstance(part, Band))

    def between(self, queries: Run, keys: Run, of_keys: Sequence[Tensor]) -> Mask | None:
        """The mask of a run of queries and a run of visiting keys, or None if it hides nothing."""
        mask: Mask | None = None
        visiting = iter(of_keys)
        for part in self.parts:
            own = _between(part, queries, keys, visiting)
            mask = own if mask is None else mask if own is None else mask & own
        return mask

    def visible(self, queries: Run, keys: Run) -> tuple[Run, Run] | None:
        """Both runs without the queries and keys at their ends that positions hide from all others; None if all are."""
        for part in self.parts:
            if isinstance(part, Band):
                queries, keys = _seeing(part, queries, keys), _seeing(part.T, keys, queries)
        return (queries, keys) if queries.length > 0 < keys.length else None


def _between(
    part: Band | Padding | Documents, queries: Run, keys: Run, visiting: Iterator[Tensor]
) -> Band | Padding | Documents | None:
    """A part of the mask for a run of queries and a run of visiting keys; None if it is a band that hides nothing."""
    if isinstance(part, Band):
        return _moved(part, queries, keys)
    given = None if part.keys is None else next(visiting)[..., keys.at, 0]
    if isinstance(part, Documents):
        assert given is not None
        return Documents(part.queries[..., queries.at], given)
    return Padding(
        keys=None if given is None else given.bool(),
        queries=None if part.queries is None else part.queries[..., queries.at],
    )


# Query i and key j of two runs that start at a and b are at positions a + i and b + j, so
#     −before ≤ (b + j) − (a + i) ≤ after   is   −(before − (a − b)) ≤ j − i ≤ after + (a − b).
def _limits(band: Band, queries: Run, keys: Run) -> tuple[int | None, int | None]:
    """The band's `before` and `after`, counted from the first rows of two runs."""
    ahead = queries.start - keys.start
    before = None if band.before is None else band.before - ahead
    return before, None if band.after is None else band.after + ahead


def _moved(band: Band, queries: Run, keys: Run) -> Band | None:
    """The band between two runs, from their own first rows; None where it allows every pair."""
    before, after = _limits(band, queries, keys)
    # j − i runs from 1 − n to m − 1. A limit outside this range limits nothing.
    after = None if after is not None and after >= keys.length - 1 else after
    before = None if before is not None and before >= queries.length - 1 else before
    return None if before is after is None else Band(before, after)


def _seeing(band: Band, queries: Run, keys: Run) -> Run:
    """The queries of a run that the band shows any key of the other run."""
    before, after = _limits(band, queries, keys)
    first = 0 if after is None else max(0, -after)  # the first key is at most `after` behind it
    last = queries.length if before is None else min(queries.length, keys.length + before)
    return queries.part(first, max(first, last))
