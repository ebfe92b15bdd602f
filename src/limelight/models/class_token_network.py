"""A small vision transformer with a class token, which belongs to no place, and asks all places what they saw."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.models.convolutional_network import ConvolutionalTrunk
from limelight.models.image_input import require_images
from limelight.models.mlp import mlp


class Asked(NamedTuple):
    """What the class token asks in a block, q (n, heads, 1, d), and the keys of all tokens, k (n, heads, tokens, d)."""

    q: Float[Tensor, "n heads 1 d"]
    k: Float[Tensor, "n heads tokens d"]


class ClassTokenNetwork(nn.Module):
    """y = W norm(z) + b, z the class token after some blocks of attention and networks, with residual connections.

    A vision transformer (Dosovitskiy et al. 2021, 2010.11929) whose tokens come from convolutions in place of flat
    patches (Xiao et al. 2021, 2106.14881), so that it learns from few images. The first token is the class token,
    which reads the others by attention. Only what it gathers is classified.

    >>> import torch
    >>> from limelight.models.class_token_network import ClassTokenNetwork
    >>> model = ClassTokenNetwork(side=18, classes=10)
    >>> model(torch.rand(2, 18, 18)).shape, len(model.asked(torch.rand(2, 18, 18)))
    (torch.Size([2, 10]), 2)
    """

    def __init__(self, side: int, classes: int, channels: int = 16, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.side, width = side, 2 * channels
        self.trunk = ConvolutionalTrunk(channels)
        self.class_token = nn.Parameter(0.1 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.1 * torch.randn((side // 2) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n classes"]:
        h = self._tokens(images)
        for block in self.blocks:
            h = block(h)
        return self.last(self.norm(h[:, 0]))

    def asked(self, images: Float[Tensor, "n h w"]) -> list[Asked]:
        """The queries of the class token and the keys of all tokens in each block, the class token first."""
        h, found = self._tokens(images), []
        for block in self.blocks:
            assert isinstance(block, Block)
            q, k, _ = block.projected(h)
            found.append(Asked(q[:, :, :1], k))
            h = block(h)
        return found

    def _tokens(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n tokens width"]:
        require_images(images, self.side, "ClassTokenNetwork")
        places = self.trunk(images).flatten(2).mT + self.positions
        return torch.cat([self.class_token.expand(len(places), 1, -1), places], 1)


class Block(nn.Module):
    """h ← h + W_O Σ_j P_ij v_j, then h ← h + network(h): tokens exchange what they saw, and each thinks it over."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(width)))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = mlp(width, 2 * width, width)

    def projected(self, h: Float[Tensor, "n tokens width"]) -> Float[Tensor, "3 n heads tokens d"]:
        """Queries, keys and values of each head."""
        return self.qkv(self.norms[0](h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, h: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        q, k, v = self.projected(h)
        h = h + self.proj((Attention(q, k) @ v).transpose(1, 2).flatten(2))
        return h + self.mlp(self.norms[1](h))
