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
    """

    def __init__(self, inputs: int, experts: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(experts, inputs + 1))
        self.experts = nn.Parameter(torch.randn(experts, inputs + 1))
        self.temperature = temperature

    def forward(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, " n"]:
        with_one = F.pad(x, (0, 1), value=1.0)
        coefficients = self.attention(x) @ self.experts
        return (coefficients * with_one).sum(-1)

    def attention(self, x: Float[Tensor, "n inputs"]) -> Attention:
        """The weights of each point on the experts, n × experts."""
        return Attention(F.pad(x, (0, 1), value=1.0), self.keys, Dot(), scale=1 / self.temperature)


class ParallelStarts(nn.Module):
    """Several gates of one size, each with its own start, as one module: x (n, inputs) ↦ z (starts, n).

    Their parameters lie side by side in one batch dimension, so a step of all costs little more than a step of one. An
    optimizer that treats each number by itself, as Adam does, trains each gate on the sum of their losses as if it were
    alone.
    """

    def __init__(self, inputs: int, experts: int, starts: int) -> None:
        super().__init__()
        gates = [MixtureOfLinearExperts(inputs, experts) for _ in range(starts)]
        self.keys = nn.Parameter(torch.stack([gate.keys.detach() for gate in gates]))
        self.experts = nn.Parameter(torch.stack([gate.experts.detach() for gate in gates]))

    def forward(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "starts n"]:
        with_one = F.pad(x, (0, 1), value=1.0)
        coefficients = Attention(with_one, self.keys, Dot(), scale=1.0) @ self.experts
        return (coefficients * with_one).sum(-1)

    def gate(self, start: int) -> MixtureOfLinearExperts:
        """One of the gates by itself."""
        _, experts, width = self.keys.shape
        gate = MixtureOfLinearExperts(width - 1, experts)
        with torch.no_grad():
            gate.keys.copy_(self.keys[start])
            gate.experts.copy_(self.experts[start])
        return gate
