"""Networks of the points of a surface, in which every point attends to all points of its body.

They differ in `attention`, a module that makes P of the points' features h: dot products, a distance, equal weights, or
no mixing. All take bodies (bodies, n, inputs) to a score of each part for each point, (bodies, n, parts).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.models.propagation_network import linear_map
from limelight.similarity import Dot, Similarity

Weights = Attention | Tensor


class DotProducts(nn.Module):
    """P_ij = softmax_j scale · ⟨W_q h_i, W_k h_j⟩; the scale is 1/√width unless it is given.

    >>> import torch
    >>> from limelight.models.surface_network import DotProducts
    >>> DotProducts(4)(torch.randn(2, 5, 4)).shape
    (2, 5, 5)
    """

    def __init__(self, width: int, scale: float | None = None) -> None:
        super().__init__()
        self.query, self.key, self.scale = linear_map(width), linear_map(width), scale

    def forward(self, h: Float[Tensor, "*b n width"]) -> Weights:
        return Attention(self.query(h), self.key(h), Dot(), scale=self.scale)


class Similar(nn.Module):
    """P_ij = softmax_j of β(h_i, h_j) for a similarity β with its own scale.

    >>> import torch
    >>> from limelight import Metric
    >>> from limelight.models.surface_network import Similar
    >>> Similar(Metric(torch.nn.Linear(4, 4)))(torch.randn(2, 5, 4)).shape
    (2, 5, 5)
    """

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, h: Float[Tensor, "*b n width"]) -> Weights:
        return Attention(h, h, self.similarity)


class EqualWeights(nn.Module):
    """P_ij = 1/n: every point takes the mean over its body, without attention.

    >>> import torch
    >>> from limelight.models.surface_network import EqualWeights
    >>> EqualWeights()(torch.randn(2, 4)).dense()
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """

    def forward(self, h: Float[Tensor, "*b n width"]) -> Weights:
        return Attention(torch.zeros_like(h), torch.zeros_like(h), Dot())


class Alone(nn.Module):
    """P = I: every point sees itself only.

    >>> import torch
    >>> from limelight.models.surface_network import Alone
    >>> Alone()(torch.randn(2, 4))
    tensor([[1., 0.],
            [0., 1.]])
    """

    def forward(self, h: Float[Tensor, "*b n width"]) -> Weights:
        return torch.eye(h.shape[-2], dtype=h.dtype, device=h.device)


class PlainSurfaceNetwork(nn.Module):
    """Linear → h ← P(h) h in each block → linear: the network of Ruan & Zhang (2412.18288).

    >>> import torch
    >>> from limelight.models.surface_network import DotProducts, PlainSurfaceNetwork
    >>> PlainSurfaceNetwork(6, 8, 3, 2, lambda: DotProducts(8))(torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, inputs: int, width: int, parts: int, blocks: int, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, parts)
        self.attention = nn.ModuleList(attention() for _ in range(blocks))

    def forward(self, points: Float[Tensor, "*b n inputs"]) -> Float[Tensor, "*b n parts"]:
        h = self.first(points)
        for block in range(len(self.attention)):
            h = self.mixed(h, block)
        return self.last(h)

    def mixed(self, h: Float[Tensor, "*b n width"], block: int) -> Float[Tensor, "*b n width"]:
        """What a block makes of h."""
        return self.attention[block](h) @ h

    def weights(self, points: Float[Tensor, "*b n inputs"]) -> list[Weights]:
        """P of each block, for measures and pictures."""
        h, found = self.first(points), []
        for block, attention in enumerate(self.attention):
            found.append(attention(h))
            h = self.mixed(h, block)
        return found


class SurfaceNetwork(PlainSurfaceNetwork):
    """Linear → h ← h + P(h) W_v h and h ← h + W₂ relu(W₁ h + b₁) + b₂ in each block → linear.

    These are the blocks of a Transformer (Vaswani et al. 2017, 1706.03762) with one head and without normalization.

    >>> import torch
    >>> from limelight.models.surface_network import EqualWeights, SurfaceNetwork
    >>> SurfaceNetwork(6, 8, 3, 2, EqualWeights)(torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, inputs: int, width: int, parts: int, blocks: int, attention: Callable[[], nn.Module]) -> None:
        super().__init__(inputs, width, parts, blocks, attention)
        self.values = nn.ModuleList(linear_map(width) for _ in range(blocks))
        self.forwards = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(blocks)
        )

    def mixed(self, h: Float[Tensor, "*b n width"], block: int) -> Float[Tensor, "*b n width"]:
        h = h + self.attention[block](h) @ self.values[block](h)
        return h + self.forwards[block](h)
