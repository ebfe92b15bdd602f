"""A Transformer that maps a sequence of symbols to one of the same length, with any module that mixes positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.models.transformer import ResidualFeedForward


class Layer(nn.Module):
    """s ← s + mix(LN s), then s ← s + MLP(LN s): the layer of a pre-norm Transformer with `mix` for its attention.

    >>> import torch
    >>> from torch import nn
    >>> from limelight.models.sequence_transformer import Layer
    >>> Layer(nn.Identity(), width=4)(torch.zeros(3, 10, 4)).shape
    torch.Size([3, 10, 4])
    """

    def __init__(self, mix: nn.Module, width: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(width), mix
        self.feed_forward = ResidualFeedForward(width, 2 * width)

    def forward(self, s: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n width"]:
        return self.feed_forward(s + self.mix(self.norm(s)))


class SequenceTransformer(nn.Module):
    """logits_i = W LN(layers(E[x] + A[i] + B[n − 1 − i]))_i + b, for symbols x of an alphabet, and i from 0 to n − 1.

    A and B are learned embeddings of a position counted from the front and from the back, so that "the same distance
    from the other end" is something that a layer can compare for any length. `mixes` are the modules that mix
    positions, one for each layer.

    Raises `InputError` for sequences that are longer than `longest`.

    >>> import torch
    >>> from torch import nn
    >>> from limelight.models.sequence_transformer import SequenceTransformer
    >>> model = SequenceTransformer(11, 4, mixes=[nn.Identity()], longest=16)
    >>> model(torch.zeros(3, 10, dtype=torch.long)).shape
    torch.Size([3, 10, 11])
    """

    def __init__(self, alphabet: int, width: int, mixes: Sequence[nn.Module], longest: int) -> None:
        super().__init__()
        self.symbol = nn.Embedding(alphabet, width)
        self.from_front, self.from_back = nn.Embedding(longest, width), nn.Embedding(longest, width)
        self.layers = nn.Sequential(*(Layer(mix, width) for mix in mixes))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, alphabet))
        self.longest = longest

    def forward(self, symbols: Int[Tensor, "batch n"]) -> Float[Tensor, "batch n alphabet"]:
        n = symbols.shape[-1]
        if n > self.longest:
            raise InputError(f"expected at most longest={self.longest} symbols, got {n}; build the model with more")
        i = torch.arange(n, device=symbols.device)
        positions = self.from_front(i) + self.from_back(n - 1 - i)
        return self.last(self.layers(self.symbol(symbols) + positions))
