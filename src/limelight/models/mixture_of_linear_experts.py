"""A gate: attention with learned keys, whose values are the coefficients of linear experts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.similarity import Dot


class MixtureOfLinearExperts(nn.Module):
    """z(x) = ⟨Σ_k p_k(x) w_k, (x, 1)⟩ with p(x) = softmax_k ⟨(x, 1), key_k⟩ / temperature.

    Each expert is a linear function of the inputs; the attention weights choose among them, and
    are themselves a function of the inputs. x is (n, inputs), the result (n,).

    With a number of `networks` there are as many independent gates, whose parameters are stacked along a first
    dimension for `descend_side_by_side`: x is (networks, n, inputs), or (n, inputs) for all of them, and the result
    (networks, n).
    """

    def __init__(self, inputs: int, experts: int, temperature: float = 1.0, networks: int | None = None) -> None:
        super().__init__()
        stacked = () if networks is None else (networks,)
        self.keys = nn.Parameter(torch.randn(*stacked, experts, inputs + 1))
        self.experts = nn.Parameter(torch.randn(*stacked, experts, inputs + 1))
        self.temperature = temperature

    def forward(self, x: Float[Tensor, "*networks n inputs"]) -> Float[Tensor, "*networks n"]:
        with_one = F.pad(x, (0, 1), value=1.0)
        coefficients = self.attention(x) @ self.experts
        return (coefficients * with_one).sum(-1)

    def attention(self, x: Float[Tensor, "*networks n inputs"]) -> Attention:
        """The weights of each point on the experts, n × experts."""
        return Attention(F.pad(x, (0, 1), value=1.0), self.keys, Dot(), scale=1 / self.temperature)
