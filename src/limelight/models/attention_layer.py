"""One layer of self-attention with one head, and nothing around it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention


class AttentionLayer(nn.Module):
    """y_i = Σ_j softmax_j(⟨W_q x_i, W_k x_j⟩ · scale) W_v x_j: each token takes a mean of the others' values.

    The same three matrices serve every token and every pair, so the layer has 3 width² numbers whatever the number of
    tokens. Source: Vaswani et al. 2017 (1706.03762).

    >>> import torch
    >>> AttentionLayer(width=4)(torch.randn(2, 6, 4)).shape
    torch.Size([2, 6, 4])
    """

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.scale = scale

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        return self.attention(x) @ self.value(x)

    def attention(self, x: Float[Tensor, "n tokens width"]) -> Attention:
        """The weights of all pairs of tokens, n × tokens × tokens."""
        return Attention(self.query(x), self.key(x), scale=self.scale)
