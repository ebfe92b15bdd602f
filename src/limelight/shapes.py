"""Arrays that broadcast: their common shape, and rectangles of an array of pairs."""

from __future__ import annotations

import torch
from torch import Tensor


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """`torch.broadcast_shapes`, without its 16 µs where there is nothing to broadcast."""
    first = shapes[0]
    for shape in shapes:
        if shape and (len(shape) != len(first) or shape != first):  # lengths first: n is a symbol in an exported graph
            return tuple(torch.broadcast_shapes(*shapes))
    return tuple(first)


def rectangle(pairs: Tensor, rows: slice, cols: slice) -> Tensor:
    """These rows and columns of (…, #n, #m), a view; a dimension of size 1, which stands for all, stays as it is."""
    n, m = pairs.shape[-2:]
    return pairs[..., rows if n > 1 else slice(None), cols if m > 1 else slice(None)]
