"""Gradient descent as an iterator, so that pictures can be drawn between steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from limelight.errors import DivergenceError


def descend(
    model: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float, weight_decay: float = 0.0
) -> Iterator[float]:
    """Adam on `loss()`, which is called at every step; yields the loss before each step.

    Raises `DivergenceError` when the loss is NaN or infinite.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        current = value.item()
        if not math.isfinite(current):
            raise DivergenceError(f"the loss became {current} at step {step}")
        value.backward()
        optimizer.step()
        yield current
