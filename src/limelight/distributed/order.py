"""Which rows of a sequence a rank has: one run of them, or two from the two ends, for equal work under a causal mask.

Under a causal mask query i sees i + 1 keys, so the rank with the last n/p rows would have almost twice the mean work.
In the two-ended ("zigzag") order the sequence is cut into 2p runs, and rank r has run r and run 2p − 1 − r: a cheap one
and a dear one. With runs of n/2p rows every rank then has the same number of visible pairs, and the same number in each
step of the ring but the first. (Zhu, "ring-flash-attention", 2024; Llama 3, 2407.21783, section 3.3.2.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, get_args

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from limelight.distributed.ring import Group, Homeward, Ring, process_group, refuse_again
from limelight.errors import InputError, UnknownNameError

Order = Literal["zigzag", "contiguous"]
# More pieces of keys hold less memory, and so do more parts of queries. The kernels are fast from about a thousand rows
# on, and take a few per cent longer if only the keys have half as many.
MOST_PIECES, SHORTEST_PIECE, SHORTEST_PART = 8, 512, 1024


class Run(NamedTuple):
    """Consecutive rows of the sequence: `at` says where this rank has them, `start` where the sequence has them."""

    at: slice
    start: int

    @property
    def length(self) -> int:
        length: int = self.at.stop - self.at.start
        return length

    def part(self, first: int, end: int) -> Run:
        """Its rows from the number `first` on, before the number `end`."""
        return Run(slice(self.at.start + first, self.at.start + end), self.start + first)


def require_order(order: str) -> None:
    """Raise `UnknownNameError` unless the order is a known one."""
    if order not in get_args(Order):
        raise UnknownNameError("order", order, get_args(Order))


def runs(order: Order, lengths: Sequence[int], what: str) -> list[list[Run]]:
    """The runs of every rank, from the number of rows that each rank has; `what` names the rows in an error."""
    p, total = len(lengths), sum(lengths)
    if order == "contiguous":
        starts = [0, *accumulate(lengths)]
        return [[Run(slice(0, length), start)] for length, start in zip(lengths, starts, strict=False)]
    cuts = _cuts(total, 2 * p)
    dealt = [[_run(cuts, r, 0), _run(cuts, 2 * p - 1 - r, cuts[r + 1] - cuts[r])] for r in range(p)]
    expected = [sum(run.length for run in own) for own in dealt]
    if expected != list(lengths):
        raise InputError(
            f"in the zigzag order {total} {what} are dealt to {p} ranks as {expected}, got {list(lengths)}; deal them "
            "with shard(x), or say order='contiguous'"
        )
    return dealt


def _cuts(total: int, parts: int) -> list[int]:
    """Where `total` rows are cut into runs whose lengths differ by at most one; the longer ones come first."""
    return [0, *accumulate(total // parts + (part < total % parts) for part in range(parts))]


def _run(cuts: Sequence[int], part: int, begin: int) -> Run:
    return Run(slice(begin, begin + cuts[part + 1] - cuts[part]), cuts[part])


class Piece(NamedTuple):
    """A part of every rank's keys that goes round the ring at once.

    It consists of the slices `rows` of what this rank has. `runs` says for every rank where the rows of its piece stand
    within the piece, and in the sequence.
    """

    rows: list[slice]
    runs: list[list[Run]]

    @property
    def lengths(self) -> list[int]:
        """The number of rows in the piece of every rank."""
        return [sum(run.length for run in own) for own in self.runs]

    def of(self, x: Float[Tensor, "*batch n w"]) -> Float[Tensor, "*batch r w"]:
        """The rows of this rank's piece."""
        parts = [x[..., rows, :] for rows in self.rows]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -2)

    def put(self, into: Float[Tensor, "*batch n w"], x: Float[Tensor, "*batch r w"]) -> None:
        """Write the rows of this rank's piece to their places among its rows: the inverse of `of`."""
        for rows, part in zip(self.rows, x.split([rows.stop - rows.start for rows in self.rows], -2), strict=True):
            into[..., rows, :] = part


def count(ranks: int, every: Sequence[Sequence[Run]], shortest: int | None = None) -> int:
    """The number of pieces in which the runs of these ranks are cut; one for a single rank, whom nothing visits.

    The longest run has pieces of at least `shortest` rows, by default as many as a piece of keys has.
    """
    longest = max((run.length for own in every for run in own), default=0)
    return 1 if ranks == 1 else min(max(longest // (shortest or SHORTEST_PIECE), 1), MOST_PIECES)


def parts_of_queries(every: Sequence[Sequence[Run]], rank: int) -> list[Run]:
    """The runs of a rank's queries, cut as the backward pass takes them."""
    number = count(len(every), every, SHORTEST_PART)
    return [part for run in every[rank] for part in parts(run, number)]


# Why every run is cut, and not the rank's rows as a whole: a rank of the zigzag order has an early run and a late one,
# and its work is equal to that of the others only if what visits it has the same share of both.
def pieces(every: Sequence[Sequence[Run]], rank: int, count: int) -> list[Piece]:
    """Cut the rows of every rank into `count` pieces, the s-th of which has the s-th part of each of its runs."""
    cut = [[parts(run, count) for run in own] for own in every]
    taken = [[[run[s] for run in own] for own in cut] for s in range(count)]
    return [Piece([run.at for run in own[rank]], [_side_by_side(runs) for runs in own]) for own in taken]


def parts(run: Run, count: int) -> list[Run]:
    """A run cut into `count` runs whose lengths differ by at most one."""
    return [run.part(a, b) for a, b in pairwise(_cuts(run.length, count))]


def _side_by_side(runs: Sequence[Run]) -> list[Run]:
    """The same rows of the sequence, where the runs follow each other without a gap."""
    begins = [0, *accumulate(run.length for run in runs)]
    return [Run(slice(begin, begin + run.length), run.start) for begin, run in zip(begins, runs, strict=False)]


def _dealt(order: Order, total: int, p: int) -> list[list[Run]]:
    """The runs of every rank when `total` rows are dealt as evenly as possible."""
    if order == "contiguous":
        cuts = _cuts(total, p)
        return [[_run(cuts, r, 0)] for r in range(p)]
    cuts = _cuts(total, 2 * p)
    return [[_run(cuts, r, 0), _run(cuts, 2 * p - 1 - r, cuts[r + 1] - cuts[r])] for r in range(p)]


def shard(
    x: Float[Tensor, "*batch n w"], group: Group = None, *, order: Order = "zigzag"
) -> Float[Tensor, "*batch r w"]:
    """The rows of x that this rank has, when the n rows of a sequence are dealt to the ranks of a group.

    Every rank passes the same x. In the order "zigzag" a rank has two runs of rows, from both ends of the sequence, so
    that a causal mask gives all ranks the same work; in the order "contiguous" it has one run. Runs differ by at most
    one row. `gather` is the inverse. Raises `InputError` without a process group.

    >>> import torch
    >>> import torch.distributed as dist
    >>> from limelight.distributed import shard
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> shard(torch.arange(3.0)[:, None])[:, 0]  # the only rank has all rows
    tensor([0., 1., 2.])
    >>> dist.destroy_process_group()
    """
    require_order(order)
    own = process_group(group)
    dealt = _dealt(order, x.shape[-2], dist.get_world_size(own))[dist.get_rank(own)]
    return torch.cat([x[..., run.start : run.start + run.length, :] for run in dealt], -2)


def gather(
    x: Float[Tensor, "*batch r w"], group: Group = None, *, order: Order = "zigzag", timeout: float = 300.0
) -> Float[Tensor, "*batch n w"]:
    """The n rows of the whole sequence, on every rank, from the rows x that each rank has: the inverse of `shard`.

    It holds the whole of x in memory, so it is for results and tests; attention itself gathers nothing. What the ranks
    compute from the result counts as one sum: the gradient of x is the sum of what all ranks' results contribute. If
    all ranks compute one loss from the gathered rows, divide it by their number. Raises `InputError` if the lengths
    are not those of the order.

    >>> import torch
    >>> import torch.distributed as dist
    >>> from limelight.distributed import gather, shard
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> gather(shard(torch.arange(3.0)[:, None]))[:, 0]
    tensor([0., 1., 2.])
    >>> dist.destroy_process_group()
    """
    require_order(order)
    ring = Ring(group, timeout, x.device)
    own = torch.tensor([x.shape[-2]], device=ring.of_messages)
    lengths = [int(length) for length in ring.gather_small(own)]
    whole: Tensor = _Gather.apply(x, ring, runs(order, lengths, "rows"), lengths)  # type: ignore[no-untyped-call]
    return whole


class _Gather(torch.autograd.Function):
    """Rows of this rank ↦ rows of all ranks. Its derivative sums the gradients of all ranks for each rank's rows."""

    @staticmethod
    def forward(ctx, x, ring, dealt, lengths):  # type: ignore[no-untyped-def]
        ctx.ring, ctx.dealt, ctx.lengths = ring, dealt, lengths
        whole = x.new_empty(*x.shape[:-2], sum(lengths), x.shape[-1])
        for home, (rows,) in ring.visits([x], lengths):
            for run in dealt[home]:
                whole[..., run.start : run.start + run.length, :] = rows[..., run.at, :]
        return whole

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        refuse_again(gradient)
        own, *homes = ctx.ring.homes()
        home_going = Homeward(ctx.ring, ctx.lengths, torch.add)

        def part(home: int) -> Tensor:
            runs = ctx.dealt[home]
            return torch.cat([gradient[..., run.start : run.start + run.length, :] for run in runs], -2)

        for home in homes:
            home_going.add(home, [part(home)])
        return home_going.total([part(own)])[0], None, None, None
