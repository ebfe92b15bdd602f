"""One learned query that picks among tokens by what they say of themselves."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention


class Pick(nn.Module):
    """Σ_j softmax_j ⟨q, W_k x_j⟩ · W_v x_j, for tokens x_j and a learned q. With `looks` off, q is zero."""

    def __init__(self, inputs: int, width: int, looks: bool = True) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width), requires_grad=looks)
        if not looks:
            nn.init.zeros_(self.query)
        self.key, self.value = nn.Linear(inputs, width), nn.Linear(inputs, 1)

    def forward(self, tokens: Float[Tensor, "n m inputs"]) -> Float[Tensor, " n"]:
        return (self.attention(tokens) @ self.value(tokens))[:, 0, 0]

    def attention(self, tokens: Float[Tensor, "n m inputs"]) -> Attention:
        """The weight of each token, n × 1 × m."""
        return Attention(self.query, self.key(tokens))
