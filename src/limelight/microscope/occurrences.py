"""Where the tokens of a text occurred before."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

_PAIRS = 1 << 20  # pairs that are listed at a time


def earlier_occurrences(
    ids: Int[Tensor, " m"], positions: Int[Tensor, " n"]
) -> Iterator[tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]]:
    """All pairs (query i, key j) with token_j = token_i and j before i, some at a time; `positions` are the queries'.

    A stable sort brings equal tokens together, in the order of the text. The earlier occurrences of a token are then
    those before it in its group, so that the time is linear in the number of pairs, and no two tokens are compared that
    differ. All pairs of a query are in one part.
    """
    order = torch.argsort(ids, stable=True)
    _, sizes = torch.unique_consecutive(ids[order], return_counts=True)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # where the group begins, for each place of the order
    place = torch.empty_like(order)
    place[order] = torch.arange(len(ids))
    first = starts[place[positions]]
    counts = place[positions] - first  # how many earlier occurrences each query has
    for queries in _parts(counts):
        own = counts[queries]
        i = queries.repeat_interleave(own)
        within = torch.arange(len(i)) - (own.cumsum(0) - own).repeat_interleave(own)
        yield i, order[first[i] + within]


def _parts(counts: Int[Tensor, " n"]) -> Iterator[Int[Tensor, " part"]]:
    """The queries with a pair, in parts that have some `_PAIRS` pairs; a part has at least one query."""
    queries = counts.nonzero()[:, 0]
    part = (counts[queries].cumsum(0) - 1).div(_PAIRS, rounding_mode="floor")
    yield from queries.split(torch.unique_consecutive(part, return_counts=True)[1].tolist())
