"""A function of rows, computed a few rows at a time. Nothing is kept for the backward pass, which computes it again.

It is one node of autograd's graph for any number of rows. (`torch.utils.checkpoint` makes one node for each few rows.
Small allocations between the rectangles then keep the allocator from using their memory again, so that in the end as
much memory is taken as by the matrix.)

The gradient of such a function, Jᵀg = Σ over the rows of J_rowsᵀ g_rows, is itself a sum over the rows. So the backward
pass is one more node of the same kind, of the same arguments and g, and can be differentiated in turn: derivatives of
any order, each in memory linear in the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from limelight.kernels.last_product import only_derivative
from limelight.similarity import upcast
from limelight.tracing import in_transform

ENTRIES = 700_000  # entries of rows at a time; autograd holds a dozen such arrays, and with fewer sorting is slower
_MORE_ELSEWHERE = 16  # so many times as many on a GPU, where starting an operation takes as long as a million entries
Dim = int | None  # the dimension of a result that runs over the rows; None if the result is a sum over the rows
_Tree = TypeVar("_Tree")
_Measure = Callable[[Any, slice], tuple[Tensor, ...]]


def by_rows(
    measure: Callable[[_Tree, slice], Tensor], tree: _Tree, rows: int, entries_per_row: int, dim: int = -1
) -> Tensor:
    """measure(tree, some rows) for all rows, concatenated along `dim`.

    `tree` consists of dataclasses, tuples and tensors. Gradients flow only to its tensors, and to the parameters of
    modules in it. `entries_per_row` is 0 if all rows may be taken at once.
    """
    return results_by_rows(lambda own, cut: (measure(own, cut),), tree, rows, entries_per_row, (dim,))[0]


def sum_over_rows(measure: Callable[[_Tree, slice], Tensor], tree: _Tree, rows: int, entries_per_row: int) -> Tensor:
    """Σ measure(tree, some rows)."""
    return results_by_rows(lambda own, cut: (measure(own, cut),), tree, rows, entries_per_row, (None,))[0]


def results_by_rows(
    measure: Callable[[_Tree, slice], tuple[Tensor, ...]],
    tree: _Tree,
    rows: int,
    entries_per_row: int,
    dims: tuple[Dim, ...],
) -> tuple[Tensor, ...]:
    """Several results of one pass over the rows, each concatenated along its dimension, or summed for None."""
    return _Walk(measure, tree, rows, entries_per_row, dims).run()


def gradients_by_rows(
    measure: Callable[[_Tree, slice], tuple[Tensor, ...]],
    tree: _Tree,
    gradients: Sequence[Tensor | None],
    rows: int,
    entries_per_row: int,
    dims: tuple[Dim, ...],
) -> list[Tensor | None]:
    """The gradients of `results_by_rows`, given the gradients of its results, in a differentiable form.

    They are those of `tensors_of(tree)` and then of `learned_of(tree)`; None for a tensor that needs none. A given
    gradient may be None.
    """
    given = [i for i, gradient in enumerate(gradients) if gradient is not None]

    def some(own: _Tree, cut: slice) -> tuple[Tensor, ...]:
        found = measure(own, cut)
        return tuple(found[i] for i in given)

    walk = _Walk(some, tree, rows, entries_per_row, tuple(dims[i] for i in given))
    return walk.gradients(tree, tuple(g for g in gradients if g is not None))


@dataclass(frozen=True)
class _Walk:
    measure: _Measure
    tree: Any
    rows: int
    entries_per_row: int
    dims: tuple[Dim, ...]
    random: _Random | None = None  # the states from which random numbers are drawn; None for the present ones

    def run(self) -> tuple[Tensor, ...]:
        with only_derivative(False):  # also inside a gradient by rows, whose measure may read these results
            return self._run()

    def _run(self) -> tuple[Tensor, ...]:
        cuts = list(self.cuts())
        if in_transform():
            return self._joined([self.measure(self.tree, cut) for cut in cuts])
        if len(cuts) == 1 and not isinstance(self.measure, _Gradient):
            return self.measure(self.tree, cuts[0])
        tensors, learned = list(tensors_of(self.tree)), list(learned_of(self.tree))
        if not torch.is_grad_enabled() or not any(x.requires_grad for x in (*tensors, *learned)):
            return self.join(self.tree)
        if torch.compiler.is_compiling():  # the compiler cannot trace autograd within a backward pass
            return self._joined(
                [checkpoint(lambda at: self.measure(self.tree, at), cut, use_reentrant=False) for cut in cuts]
            )
        return _Rows.apply(self, *tensors, *learned)  # type: ignore[no-untyped-call]

    def cuts(self) -> Iterator[slice]:
        if self.entries_per_row == 0 or torch.compiler.is_exporting():  # an exported graph takes any number of rows
            yield slice(0, self.rows)
            return
        # So many rows that they have about `ENTRIES` entries, at least one: memory does not grow with the rows.
        on_cpu = all(x.device.type == "cpu" for x in tensors_of(self.tree))
        step = max(1, (ENTRIES if on_cpu else _MORE_ELSEWHERE * ENTRIES) // self.entries_per_row)
        for start in range(0, max(self.rows, 1), step):
            yield slice(start, min(start + step, self.rows))

    def join(self, tree: Any) -> tuple[Tensor, ...]:
        """The results for all rows, each written into one tensor, without gradients."""
        wholes: list[Tensor] = []
        with _drawing_from(self.random):
            for cut in self.cuts():
                pieces = self.measure(tree, cut)
                if not wholes:
                    wholes = [self._allocated(piece, dim) for piece, dim in zip(pieces, self.dims, strict=True)]
                for whole, piece, dim in zip(wholes, pieces, self.dims, strict=True):
                    if dim is None:
                        whole += piece
                    else:
                        part_of(whole, dim, cut).copy_(piece)
        return tuple(wholes)

    def gradients(self, tree: Any, gradients: tuple[Tensor, ...]) -> list[Tensor | None]:
        """The gradients of the tensors and the parameters of `tree`, as sums over the same rows."""
        # With y = f(x) by rows, y_I = f_I(x) for the rows I, the chain rule gives dx = Σ_I J_Iᵀ dy_I. Each term is a
        # function of x and dy, the results have no dimension along the rows, and their sum is a walk over the rows,
        # too.
        sources = [*tensors_of(tree), *learned_of(tree)]
        wanted = [x.requires_grad for x in sources]
        if not gradients or not any(wanted):
            return [None] * len(sources)
        measure = _Gradient(self.measure, self.dims, tuple(wanted))
        whole = replace(self, measure=measure, tree=(tree, gradients), dims=(None,) * sum(wanted))
        found = iter(whole.run())
        return [next(found).to(x.dtype) if want else None for x, want in zip(sources, wanted, strict=True)]

    def _allocated(self, piece: Tensor, dim: Dim) -> Tensor:
        if dim is None:
            return torch.zeros_like(piece)
        shape = list(piece.shape)
        shape[dim] = self.rows
        return piece.new_empty(shape)

    def _joined(self, pieces: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return tuple(
            torch.stack(parts).sum(0) if dim is None else torch.cat(parts, dim)
            for parts, dim in zip(zip(*pieces, strict=True), self.dims, strict=True)
        )


@dataclass(frozen=True)
class _Gradient:
    """((tree, g), rows) ↦ J_rowsᵀ g_rows: one gradient for each tensor and parameter that needs one."""

    measure: _Measure
    dims: tuple[Dim, ...]
    wanted: tuple[bool, ...]

    def __call__(self, tree_and_gradients: tuple[Any, tuple[Tensor, ...]], rows: slice) -> tuple[Tensor, ...]:
        tree, gradients = tree_and_gradients
        # A gradient that will be differentiated itself must depend on the given tensors, so the measure is given views
        # of them and its graph is kept (`create_graph`). Otherwise it is given detached tensors, so that autograd stops
        # at the inputs of these rows.
        again = torch.is_grad_enabled()  # True if this gradient will be differentiated itself
        tensors, learned = list(tensors_of(tree)), list(learned_of(tree))
        autocast = torch.autocast(gradients[0].device.type, enabled=False)
        with torch.enable_grad(), autocast, only_derivative(not again):
            own = [
                x.view_as(x) if again and x.requires_grad else x.detach().requires_grad_(want)
                for x, want in zip(tensors, self.wanted[: len(tensors)], strict=True)
            ]
            pieces = self.measure(with_tensors(tree, iter(own)), rows)
            sources = [x for x, want in zip([*own, *learned], self.wanted, strict=True) if want]
            pairs = [
                (piece, part_of(gradient, dim, rows))
                for piece, gradient, dim in zip(pieces, gradients, self.dims, strict=True)
                if piece.requires_grad
            ]
            found = (
                torch.autograd.grad(
                    [piece for piece, _ in pairs], sources, [g for _, g in pairs], create_graph=again, allow_unused=True
                )
                if pairs
                else [None] * len(sources)
            )
        return tuple(upcast(torch.zeros_like(x) if g is None else g) for x, g in zip(sources, found, strict=True))


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, walk, *tensors):  # type: ignore[no-untyped-def]
        ctx.walk = walk
        ctx.random = walk.random or _Random.now(tensors[0].device)  # dropout must drop the same weights again
        ctx.save_for_backward(*tensors[: len(list(tensors_of(walk.tree)))])
        return walk.join(walk.tree)

    @staticmethod
    def backward(ctx, *gradients):  # type: ignore[no-untyped-def]
        tree = with_tensors(ctx.walk.tree, iter(ctx.saved_tensors))
        # Only the inputs were kept. The backward pass computes some rows again, takes their gradient, and frees them
        # before the next ones: this saves memory for one more forward pass (Chen et al. 2016, 1604.06174). Random
        # numbers are drawn from the same states, so that dropout drops the same weights as in the forward pass.
        return None, *replace(ctx.walk, random=ctx.random).gradients(tree, gradients)


def part_of(whole: Tensor, dim: Dim, rows: slice) -> Tensor:
    """The part of a result that belongs to these rows, as a view."""
    return whole if dim is None else whole.narrow(dim, rows.start, rows.stop - rows.start)


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """The floating-point tensors in a tree of dataclasses and tuples, in order."""
    # An autograd function takes and returns a flat list of tensors, and a measure wants the whole object that holds
    # them (scores, normalizations, values). `tensors_of` takes the tensors out, and `with_tensors` puts others in their
    # places, in the same order; whole numbers such as the edges of a graph stay where they are.
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
    """The tree with its floating-point tensors replaced by these, in the order of `tensors_of`."""
    if isinstance(tree, Tensor):
        return next(tensors) if tree.is_floating_point() else tree
    if isinstance(tree, tuple):
        return tuple(with_tensors(branch, tensors) for branch in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {f.name: with_tensors(getattr(tree, f.name), tensors) for f in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **fields)
    return tree


def learned_of(tree: Any) -> Iterator[Tensor]:
    """The parameters of modules in the tree, and their buffers that require a gradient.

    Each is listed once, even if its module is in several places of the tree (in both parts of a `Mixture`): otherwise
    its gradient would be counted twice.
    """
    seen: set[int] = set()
    for learned in _all_learned_of(tree):
        if id(learned) not in seen:
            seen.add(id(learned))
            yield learned


def _all_learned_of(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, nn.Module):
        yield from learned_by(tree)
    elif isinstance(tree, tuple):
        for branch in tree:
            yield from _all_learned_of(branch)
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from _all_learned_of(getattr(tree, field.name))


def learned_by(module: nn.Module) -> Iterator[Tensor]:
    """The parameters of a module, and its buffers that require a gradient."""
    yield from module.parameters()
    yield from (buffer for buffer in module.buffers() if buffer.requires_grad)


@dataclass(frozen=True)
class _Random:
    """The states of the random number generators: the CPU's and, for tensors on a GPU, that GPU's."""

    device: torch.device
    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> _Random:
        return cls(device, torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)


@contextmanager
def _drawing_from(random: _Random | None) -> Iterator[None]:
    """Within the block, random numbers are drawn from these states; afterwards the states before it are restored."""
    if random is None:
        yield
        return
    with torch.random.fork_rng(devices=[] if random.cuda is None else [random.device]):
        torch.set_rng_state(random.cpu)
        if random.cuda is not None:
            torch.cuda.set_rng_state(random.cuda, random.device)
        yield
