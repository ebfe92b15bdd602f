"""Gradient descent of several networks at once, whose weights are stacked along the first dimension.

A small network takes as long to start each operation as to compute it, so ten of them in one operation take three to
four times as long as one alone, not ten times. They stay independent of each other: Adam treats each number by itself,
and gradients are clipped for each network alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def descend_side_by_side(
    networks: nn.Module,
    losses: Callable[[], Float[Tensor, " r"]],
    steps: int,
    lr: float,
    clip: float = 1.0,
    weight_decay: float = 0.0,
) -> Iterator[Float[Tensor, " r"]]:
    """Adam on the loss of each of r networks; yields their losses before each step.

    The gradient of a network is scaled down to the length `clip` where it is longer; with `math.inf` it never is. A
    network whose loss or gradient is NaN or infinite has diverged: its loss is NaN from that step on, and its weights
    are set to zero, so that the others can go on.
    """
    parameters = list(networks.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    diverged = torch.zeros(parameters[0].shape[0], dtype=torch.bool)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        current = losses()
        current.sum().backward()
        lengths = _gradient_lengths(parameters)
        diverged = diverged | ~(current.detach().isfinite() & lengths.isfinite())
        _scale_gradients(parameters, (clip / lengths).clamp(max=1.0), diverged)
        optimizer.step()
        yield torch.where(diverged, torch.nan, current.detach())


@torch.no_grad()
def _gradient_lengths(parameters: list[nn.Parameter]) -> Float[Tensor, " r"]:
    """The Euclidean norm of the gradient of each network."""
    squares = [x.grad.flatten(1).square().sum(1) for x in parameters if x.grad is not None]
    return torch.stack(squares).sum(0).sqrt()


@torch.no_grad()
def _scale_gradients(
    parameters: list[nn.Parameter], factors: Float[Tensor, " r"], diverged: Bool[Tensor, " r"]
) -> None:
    """Multiply each network's gradient by its factor; that of a diverged network becomes 0, and its weights too."""
    for x in parameters:
        if x.grad is None:
            continue
        x.grad *= factors.view(-1, *[1] * (x.ndim - 1))
        if diverged.any():
            x.grad[diverged] = 0.0
            x[diverged] = 0.0
