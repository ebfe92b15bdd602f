"""A function of the rows, a few at a time: nothing of it is kept for the backward pass, which runs it again.

One node of autograd's graph whatever the number of rows. (`torch.utils.checkpoint` makes one for each
few rows, and what it allocates between the rectangles keeps the allocator from using their memory
again: in the end that is the matrix.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from limelight.similarity import wide

ENTRIES = 700_000  # of some rows, of which autograd holds a dozen; fewer are slower for what sorts or searches a row
_Tree = TypeVar("_Tree")


def by_rows(
    measure: Callable[[_Tree, slice], Tensor], tree: _Tree, rows: int, entries_per_row: int, dim: int = -1
) -> Tensor:
    """measure(tree, some rows), side by side along `dim`.

    `tree` is dataclasses, tuples and tensors, and all that `measure` takes gradients of but parameters of
    modules in it. `entries_per_row` is 0 where all rows may be taken at once.
    """
    return _Walk(measure, tree, rows, entries_per_row, dim).run()


def sum_over_rows(measure: Callable[[_Tree, slice], Tensor], tree: _Tree, rows: int, entries_per_row: int) -> Tensor:
    """Σ measure(tree, some rows)."""
    return _Walk(measure, tree, rows, entries_per_row, None).run()


@dataclass(frozen=True)
class _Walk:
    measure: Callable[[Any, slice], Tensor]
    tree: Any
    rows: int
    entries_per_row: int
    dim: int | None  # None = the sum

    def run(self) -> Tensor:
        cuts = list(self.cuts())
        if len(cuts) == 1:
            return self.measure(self.tree, cuts[0])
        tensors, parameters = list(tensors_of(self.tree)), list(_parameters_of(self.tree))
        if not torch.is_grad_enabled() or not any(x.requires_grad for x in (*tensors, *parameters)):
            return self.join(self.tree)
        if torch.compiler.is_compiling():  # it does not trace autograd within a backward pass
            pieces = [checkpoint(lambda at: self.measure(self.tree, at), cut, use_reentrant=False) for cut in cuts]
            return torch.cat(pieces, self.dim) if self.dim is not None else torch.stack(pieces).sum(0)
        return _Rows.apply(self, *tensors, *parameters)  # type: ignore[no-untyped-call]

    def cuts(self) -> Iterator[slice]:
        step = self.rows if self.entries_per_row == 0 else max(1, ENTRIES // self.entries_per_row)
        for start in range(0, max(self.rows, 1), max(step, 1)):
            yield slice(start, min(start + step, self.rows))

    def join(self, tree: Any) -> Tensor:
        whole = None
        for cut in self.cuts():
            piece = self.measure(tree, cut)
            if self.dim is None:
                whole = piece if whole is None else whole.add_(piece)
                continue
            if whole is None:
                shape = list(piece.shape)
                shape[self.dim] = self.rows
                whole = piece.new_empty(shape)
            self.part(whole, cut).copy_(piece)
        assert whole is not None
        return whole

    def part(self, whole: Tensor, cut: slice) -> Tensor:
        return whole if self.dim is None else whole.narrow(self.dim, cut.start, cut.stop - cut.start)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, walk, *tensors):  # type: ignore[no-untyped-def]
        ctx.walk = walk
        ctx.random = _random_states(tensors[0].device)  # dropout must drop the same weights again
        ctx.save_for_backward(*tensors[: len(list(tensors_of(walk.tree)))])
        return walk.join(walk.tree)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        walk, parameters = ctx.walk, list(_parameters_of(ctx.walk.tree))
        leaves = [x.detach().requires_grad_(x.requires_grad) for x in ctx.saved_tensors]
        tree, sources = with_tensors(walk.tree, iter(leaves)), [*leaves, *parameters]
        sums = [torch.zeros_like(x, dtype=wide(x).dtype) if x.requires_grad else None for x in sources]
        wanted = [x for x in sources if x.requires_grad]
        with torch.random.fork_rng(devices=[gradient.device] if gradient.is_cuda else []):
            _set_random_states(ctx.random)
            for cut in walk.cuts():
                with torch.enable_grad(), torch.autocast(gradient.device.type, enabled=False):
                    piece = walk.measure(tree, cut)
                if not piece.requires_grad:
                    continue
                pieces = iter(torch.autograd.grad(piece, wanted, walk.part(gradient, cut), allow_unused=True))
                for total in (x for x in sums if x is not None):
                    more = next(pieces)
                    if more is not None:
                        total += more
        return None, *(None if total is None else total.to(x.dtype) for total, x in zip(sums, sources, strict=True))


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """The floating tensors of dataclasses and tuples, in order."""
    if isinstance(tree, Tensor):
        if tree.is_floating_point():
            yield tree
    elif isinstance(tree, tuple):
        for branch in tree:
            yield from tensors_of(branch)
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from tensors_of(getattr(tree, field.name))


def with_tensors(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """The same tree with these tensors instead, in the order of `tensors_of`."""
    if isinstance(tree, Tensor):
        return next(tensors) if tree.is_floating_point() else tree
    if isinstance(tree, tuple):
        return tuple(with_tensors(branch, tensors) for branch in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {f.name: with_tensors(getattr(tree, f.name), tensors) for f in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **fields)
    return tree


def _parameters_of(tree: Any) -> Iterator[nn.Parameter]:
    if isinstance(tree, nn.Module):
        yield from tree.parameters()
    elif isinstance(tree, tuple):
        for branch in tree:
            yield from _parameters_of(branch)
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from _parameters_of(getattr(tree, field.name))


def _random_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_states(states: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1])
