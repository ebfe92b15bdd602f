"""A ring of processes, round which tensors of tokens travel: each rank receives from the one before it.

With p ranks, what a rank owns has visited every other rank after p − 1 hops. Beside its own, a rank holds the tensors
of two others at most: those that it reads, and those that arrive meanwhile. What is sent home for other ranks is on its
way while the next part is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from limelight.errors import ClusterError, InputError
from limelight.tracing import is_differentiated_again

Group = dist.ProcessGroup | DeviceMesh | None
_VISITS, _HOMEWARD, _SMALL = 0, 100, 200  # the first tag of each kind of message, so that none is taken for another


class Ring:
    """The ranks of a process group in their order, the last followed by the first.

    `group` is a process group, a `DeviceMesh` of one dimension, or None for the default group. A wait of more than
    `timeout` seconds raises `ClusterError`; with NCCL, whose waits do not block, the group's own time-out counts.
    """

    def __init__(self, group: Group, timeout: float) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
            raise InputError(f"timeout expects a positive number of seconds, got {timeout!r}")
        self.group = process_group(group)
        self.rank, self.size = dist.get_rank(self.group), dist.get_world_size(self.group)
        self._limit = timedelta(seconds=timeout)
        self._blocks = dist.get_backend(self.group) != "nccl"

    @property
    def following(self) -> int:
        """The rank that this one sends to."""
        return (self.rank + 1) % self.size

    @property
    def preceding(self) -> int:
        """The rank that this one receives from."""
        return (self.rank - 1) % self.size

    def visits(self, own: Sequence[Tensor], lengths: Sequence[int]) -> Iterator[tuple[int, list[Tensor]]]:
        """(home, tensors) for every rank `home`, this one first: those of that rank, (…, length, width) each.

        While the caller reads the tensors of one rank, those of the next are on their way.
        """
        tensors = list(own)
        for home in self.homes():
            arrive = self._pass_on(tensors, lengths[home - 1], _VISITS) if home != self.following else None
            yield home, tensors
            if arrive is not None:
                tensors = arrive()

    def homes(self) -> list[int]:
        """The ranks in the order in which their tensors visit this one."""
        return [(self.rank - step) % self.size for step in range(self.size)]

    def pass_on(self, tensors: Sequence[Tensor], length: int) -> Callable[[], list[Tensor]]:
        """Begin to send the tensors to the next rank, and return a function that waits for those of the rank before.

        These have `length` rows.
        """
        return self._pass_on(tensors, length, _HOMEWARD)

    def _pass_on(self, tensors: Sequence[Tensor], length: int, first_tag: int) -> Callable[[], list[Tensor]]:
        """Begin to send and to receive. The function that is returned waits for the end, and returns what arrived."""
        going = [x.contiguous() for x in tensors]
        coming = [x.new_empty(*x.shape[:-2], length, x.shape[-1]) for x in tensors]
        there = self._transfers(dist.isend, going, self.following, first_tag)
        back = self._transfers(dist.irecv, coming, self.preceding, first_tag)
        works: list[Any] = []
        if there or back:
            with self._naming(f"rank {self.following} or rank {self.preceding}"):
                works = dist.batch_isend_irecv([*there, *back])

        def arrive() -> list[Tensor]:
            del going[:0]  # what is sent stays in memory until it has been sent
            self._wait(works[len(there) :], f"rank {self.preceding}")
            self._wait(works[: len(there)], f"rank {self.following}")
            return coming

        return arrive

    def _transfers(self, operation: Any, tensors: Sequence[Tensor], peer: int, first_tag: int) -> list[dist.P2POp]:
        """One transfer for each tensor that has entries."""
        numbered = enumerate(tensors, first_tag)
        return [_transfer(operation, x, peer, self.group, tag) for tag, x in numbered if x.numel()]

    def gather_small(self, own: Tensor) -> list[Tensor]:
        """A small tensor of every rank, of one shape for all."""
        every = [torch.empty_like(own) for _ in range(self.size)]
        if not self._blocks:
            dist.all_gather(every, own, group=self.group)
            return every
        every[self.rank] = own
        # Each pair of ranks exchanges its own message, because a collective that fails does not say which rank is
        # missing. All send before they wait, so a rank that is here is never taken for one that is not.
        others = [rank for rank in range(self.size) if rank != self.rank]
        works: list[Any] = []
        for rank in others:
            with self._naming(f"rank {rank}"):
                works += dist.batch_isend_irecv([_transfer(dist.isend, own, rank, self.group, _SMALL)])
        for rank in others:
            with self._naming(f"rank {rank}"):
                works += dist.batch_isend_irecv([_transfer(dist.irecv, every[rank], rank, self.group, _SMALL)])
            self._wait(works[-1:], f"rank {rank}")
        self._wait(works[: len(others)], "one of the other ranks")
        return every

    def _wait(self, works: Sequence[Any], whom: str) -> None:
        with self._naming(whom):
            for work in works:
                work.wait(self._limit) if self._blocks else work.wait()

    def _naming(self, whom: str) -> _Naming:
        return _Naming(self, whom, self._limit.total_seconds())


class Homeward:
    """What all ranks contribute to each rank's rows, merged on the way round the ring until it is home.

    Rank r adds its part for the rank whose tensors visit it. What other ranks have added so far arrives there after the
    same number of hops; after p − 1 hops it is home. `merge` is addition for gradients.
    """

    def __init__(self, ring: Ring, lengths: Sequence[int], merge: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._ring, self._lengths, self._merge = ring, lengths, merge
        self._own: list[Tensor] = []
        self._arrive: Callable[[], list[Tensor]] | None = None

    def add(self, home: int, parts: list[Tensor]) -> None:
        """Add the parts for the rows of rank `home`, in the order of `Ring.homes`."""
        if home == self._ring.rank:
            self._own = parts
            return
        self._arrive = self._ring.pass_on(self._with_arrived(parts), self._lengths[home - 1])

    def total(self) -> list[Tensor]:
        """What all ranks have added for the rows of this rank."""
        return self._with_arrived(self._own)

    def _with_arrived(self, parts: list[Tensor]) -> list[Tensor]:
        """The parts, merged with what has been on its way since the last one."""
        if self._arrive is None:
            return parts
        return [self._merge(x, y) for x, y in zip(parts, self._arrive(), strict=True)]


class _Naming:
    """Turns an error of torch's within the block into a `ClusterError` that says which rank did not answer."""

    def __init__(self, ring: Ring, whom: str, seconds: float) -> None:
        self.ring, self.whom, self.seconds = ring, whom, seconds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, ClusterError):
            raise ClusterError(
                f"rank {self.ring.rank} of {self.ring.size} lost {self.whom}, which has ended, or did not answer "
                f"within {self.seconds:g} seconds; look there for the first error, or allow a longer timeout="
            ) from error


def refuse_again(*gradients: Tensor | None) -> None:
    """Raise `InputError` in a backward pass that is to be differentiated itself, which would need one more round."""
    # torch's `once_differentiable` does not serve: where the incoming gradients do not require a gradient, as those of
    # a sum, it returns a first derivative that is silently constant.
    if is_differentiated_again(*gradients):
        raise InputError(
            "sharded attention has no second derivatives; leave out create_graph=True, or use limelight.attend in one "
            "process"
        )


def _transfer(operation: Any, x: Tensor, peer: int, group: dist.ProcessGroup, tag: int) -> dist.P2POp:
    return dist.P2POp(operation, x, group=group, group_peer=peer, tag=tag)


def process_group(group: Group) -> dist.ProcessGroup:
    """The process group that is meant; raises `InputError` if there is none, or if this process is not in it."""
    if not (dist.is_available() and dist.is_initialized()):
        raise InputError(
            "there is no process group, or it has been destroyed; call torch.distributed.init_process_group first"
        )
    if isinstance(group, DeviceMesh):
        if group.ndim != 1:
            raise InputError(
                f"group expects a DeviceMesh of one dimension, got {group.ndim}; take one, as in mesh['sequence']"
            )
        group = group.get_group()
    group = dist.group.WORLD if group is None else group
    if not isinstance(group, dist.ProcessGroup):
        raise InputError(f"group expects a process group that this process is in, or a DeviceMesh, got {group!r}")
    try:
        rank = dist.get_rank(group)
    except (ValueError, KeyError, RuntimeError):
        rank = -1
    if rank < 0:
        raise InputError("group has been destroyed, or this process is not in it; make it with dist.new_group")
    return group
