"""Gradient descent as an iterator, so that pictures can be drawn between steps, and the loss of random batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.errors import DivergenceError


def descend(
    model: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float, weight_decay: float = 0.0
) -> Iterator[float]:
    """Adam on `loss()`, which is called at every step; yields the loss before each step.

    Raises `DivergenceError` when the loss is NaN or infinite.
    """
    optimizer = adam(model, lr, weight_decay)
    for step in range(steps):
        yield gradient_step(optimizer, loss, step)


def adam(model: nn.Module, lr: float, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Adam for all parameters of a model."""
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)


def gradient_step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], step: int) -> float:
    """One step of the optimizer; returns the loss before it. Raises `DivergenceError` where that is not finite."""
    optimizer.zero_grad(set_to_none=True)
    value = loss()
    current = value.item()
    if not math.isfinite(current):
        raise DivergenceError(f"the loss became {current} at step {step}")
    value.backward()
    optimizer.step()
    return current


def batch_loss(
    model: nn.Module, inputs: Float[Tensor, "n ..."], labels: Int[Tensor, " n"], size: int, generator: torch.Generator
) -> Callable[[], Tensor]:
    """A function for `descend`: each call draws `size` of the examples, and returns the model's cross-entropy on them.

    They are drawn with replacement, so that a batch may be larger than the number of examples.
    """

    def loss() -> Tensor:
        batch = torch.randint(len(inputs), (size,), generator=generator)
        return F.cross_entropy(model(inputs[batch]), labels[batch])

    return loss
