"""Three image classifiers with different priors: none, locality and translation invariance, relations of patches."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.functional import attend
from limelight.models.mlp import mlp


def fully_connected(side: int, classes: int) -> nn.Module:
    """A fully connected network, which assumes nothing about images."""
    return nn.Sequential(nn.Flatten(), mlp(side * side, 64, classes))


class Convolutional(nn.Module):
    """Two 3×3 convolutions and a maximum over positions: neighbors belong together, and positions do not matter."""

    def __init__(self, classes: int, channels: int = 24) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, channels, 3), nn.Conv2d(channels, 2 * channels, 3)
        self.last = nn.Linear(2 * channels, classes)

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n classes"]:
        seen = torch.relu(self.first(images[:, None]))
        seen = torch.relu(self.second(nn.functional.max_pool2d(seen, 2)))
        return self.last(seen.amax((-2, -1)))


class SmallViT(nn.Module):
    """A small vision transformer: patches are tokens with learned position embeddings, pooled by their mean."""

    def __init__(self, side: int, patch: int, classes: int, width: int = 32, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.patch, self.heads = patch, heads
        self.embed = nn.Linear(patch * patch, width)
        self.pos_embed = nn.Parameter(0.1 * torch.randn((side // patch) ** 2, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.last = nn.Linear(width, classes)

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n classes"]:
        patches = images.unfold(1, self.patch, self.patch).unfold(2, self.patch, self.patch)
        h = self.embed(patches.flatten(3).flatten(1, 2)) + self.pos_embed
        for block in self.blocks:
            h = block(h)
        return self.last(h.mean(1))


class _Block(nn.Module):
    """A transformer block: self-attention and then a network for each token, both with residual connections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(width)))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = mlp(width, 2 * width, width)

    def forward(self, h: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        q, k, v = self.qkv(self.norms[0](h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = h + self.proj(attend(q, k, v).transpose(1, 2).flatten(2))
        return h + self.mlp(self.norms[1](h))
