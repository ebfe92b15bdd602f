"""Attention as a look-up in a table: one head, with learned projections and a learned scale."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.similarity import Similarity


class KeyValueRetrieval(nn.Module):
    """Σ_j softmax_j(β(W_q query, W_k key_j) · e^s) value_j."""

    def __init__(self, width: int, similarity: Similarity) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.similarity = similarity
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(
        self, query: Float[Tensor, "n width"], keys: Float[Tensor, "n m width"], values: Float[Tensor, "n m e"]
    ) -> Float[Tensor, "n e"]:
        return (self.attention(query, keys) @ values)[:, 0]

    def attention(self, query: Float[Tensor, "n width"], keys: Float[Tensor, "n m width"]) -> Attention:
        """The weights of each query on the entries of its table, n × 1 × m."""
        q, k = self.query(query)[:, None], self.key(keys)
        return Attention(q, k, self.similarity, scale=self.log_scale.exp())
