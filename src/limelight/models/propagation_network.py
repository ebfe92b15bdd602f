"""A network of data points that attend to each other: H ← P H between two linear layers (the IPN of 2412.18288).

A block maps the points' features, and a mask of those that are known, to P, an `Attention`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.mask import padding
from limelight.similarity import Dot, Metric


def linear_map(width: int) -> nn.Linear:
    """A square linear map, initialized as a rotation: it preserves lengths, and so the initial size of scores."""
    linear = nn.Linear(width, width, bias=False)
    nn.init.orthogonal_(linear.weight)
    return linear


class DotBlock(nn.Module):
    """P = softmax ⟨W_q h_i, W_k h_j⟩."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = linear_map(width), linear_map(width)

    def forward(self, h: Float[Tensor, "n width"], known: Bool[Tensor, " n"]) -> Attention:
        return Attention(self.query(h), self.key(h), Dot(), mask=padding(keys=known), scale=1.0)


class MetricBlock(nn.Module):
    """P = softmax −|φ(h_i) − φ(h_j)|²."""

    def __init__(self, phi: nn.Module) -> None:
        super().__init__()
        self.similarity = Metric(phi)

    def forward(self, h: Float[Tensor, "n width"], known: Bool[Tensor, " n"]) -> Attention:
        return Attention(h, h, self.similarity, mask=padding(keys=known))


class UniformBlock(nn.Module):
    """P = 1/m: every point takes the mean of all."""

    def forward(self, h: Float[Tensor, "n width"], known: Bool[Tensor, " n"]) -> Attention:
        return Attention(torch.zeros_like(h), torch.zeros_like(h), Dot(), mask=padding(keys=known))


class TanhResidual(nn.Module):
    """φ(h) = h + W₂ tanh(W₁ h + b): one hidden layer with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, h: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        return h + self.outer(torch.tanh(self.inner(h)))


class PropagationNetwork(nn.Module):
    """Linear → H ← P(H) H, `blocks` times → linear. Every point is a token; points attend only to known ones."""

    def __init__(self, inputs: int, width: int, classes: int, blocks: int, block: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.blocks = nn.ModuleList(block() for _ in range(blocks))

    def forward(self, points: Float[Tensor, "n inputs"], known: Bool[Tensor, " n"]) -> Float[Tensor, "n classes"]:
        h = self.first(points)
        for block in self.blocks:
            h = block(h, known) @ h
        return self.last(h)


class ResidualPropagationNetwork(PropagationNetwork):
    """Linear → H ← H + P(H) H W_v, `blocks` times → linear: with a residual connection and a map of values."""

    def __init__(self, inputs: int, width: int, classes: int, blocks: int, block: Callable[[], nn.Module]) -> None:
        super().__init__(inputs, width, classes, blocks, block)
        self.values = nn.ModuleList(linear_map(width) for _ in range(blocks))

    def forward(self, points: Float[Tensor, "n inputs"], known: Bool[Tensor, " n"]) -> Float[Tensor, "n classes"]:
        h = self.first(points)
        for block, value in zip(self.blocks, self.values, strict=True):
            h = h + block(h, known) @ value(h)
        return self.last(h)
