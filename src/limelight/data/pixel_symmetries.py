"""Symmetries that exchange pixels: mirror, quarter turns, shifts, the order of a set; and ones that make no sense.

A symmetry is a table (elements, pixels): its element g turns a flattened image x into x[table[g]]. The first element
leaves images as they are.
"""

from __future__ import annotations

from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError

SIDE = 8

Table = Int[Tensor, "elements pixels"]


def mirror() -> Table:
    """As they are, and left to right.

    >>> from limelight.data.pixel_symmetries import mirror
    >>> mirror()[1, :8]
    tensor([7, 6, 5, 4, 3, 2, 1, 0])
    """
    return _of_grids([_grid(), _grid().flip(1)])


def quarter_turns() -> Table:
    """Turned by 0, 90, 180 and 270 degrees."""
    return _of_grids([_grid().rot90(turns) for turns in range(4)])


def shifts() -> Table:
    """Moved by at most one pixel each way, nine in all; what leaves the image comes in on the other side."""
    return _of_grids([_grid().roll((down, across), (0, 1)) for down in (0, 1, -1) for across in (0, 1, -1)])


def reorderings(members: int) -> Table:
    """All orders of a set of images, which stand one after the other.

    >>> from limelight.data.pixel_symmetries import reorderings
    >>> reorderings(3).shape
    torch.Size([6, 192])
    """
    blocks = torch.arange(members * SIDE * SIDE).view(members, -1)
    return torch.stack([blocks[list(order)].flatten() for order in permutations(range(members))])


def nonsense(table: Table, generator: torch.Generator) -> Table:
    """The same symmetry between pixels that have been exchanged at random, so that it makes no sense for images.

    If π exchanges the pixels, then its elements are π g π⁻¹: as many as before, which combine as before.
    """
    order = torch.randperm(table.shape[1], generator=generator)
    return order[table[:, order.argsort()]]


def drawn(
    x: Float[Tensor, "*batch pixels"], table: Table, generator: torch.Generator, share: float = 1.0
) -> Float[Tensor, "*batch pixels"]:
    """Each image moved by an element that is drawn evenly, with probability `share`; else left as it is.

    Raises `InputError` for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"drawn(share=…) expects a number from 0 to 1, got {share!r}")
    element = torch.randint(len(table), x.shape[:-1], generator=generator)
    moved = torch.rand(x.shape[:-1], generator=generator) < share
    return x.gather(-1, table[torch.where(moved, element, 0)])


def _grid() -> Int[Tensor, "8 8"]:
    return torch.arange(SIDE * SIDE).view(SIDE, SIDE)


def _of_grids(grids: list[Tensor]) -> Table:
    return torch.stack([grid.flatten() for grid in grids])
