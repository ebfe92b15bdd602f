"""Learned queries that attend to tokens by the tokens' keys, and sum the tokens' values."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention


class AttentionPooling(nn.Module):
    """Σ_h Σ_j softmax_j ⟨q_h, W_k x_j⟩ · W_v x_j: learned queries q_h pool the tokens x_j, one query for each head h.

    With `content_based=False` all queries are zero and fixed, so every token has the same weight: the control.
    """

    def __init__(self, inputs: int, width: int, heads: int, content_based: bool = True) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(heads, 1, width), requires_grad=content_based)
        if not content_based:
            nn.init.zeros_(self.queries)
        self.key, self.value = nn.Linear(inputs, heads * width), nn.Linear(inputs, heads)

    def forward(self, tokens: Float[Tensor, "n m inputs"]) -> Float[Tensor, " n"]:
        values = self.value(tokens).mT[..., None]
        return (self.attention(tokens) @ values).sum((1, 2, 3))

    def attention(self, tokens: Float[Tensor, "n m inputs"]) -> Attention:
        """The weight of each token in each head, n × heads × 1 × m."""
        heads = len(self.queries)
        return Attention(self.queries, self.key(tokens).unflatten(-1, (heads, -1)).transpose(1, 2))
