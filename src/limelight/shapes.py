"""Which shape do these have in common?"""

from __future__ import annotations

import torch


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """`torch.broadcast_shapes`, without its 16 µs where there is nothing to broadcast."""
    first = shapes[0]
    for shape in shapes:
        if shape and (len(shape) != len(first) or shape != first):  # lengths first: n is a symbol in an exported graph
            return tuple(torch.broadcast_shapes(*shapes))
    return tuple(first)
