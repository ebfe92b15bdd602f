"""Several networks of one hidden layer at once: small networks cost overhead, which many of them can share."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class ParallelMLP(nn.Module):
    """y_m = V_m relu(W_m x_m + b_m) + c_m for m = 1, …, models: networks that share nothing but the time of a step.

    The sum of their losses has for each network the gradient of its own loss, and Adam treats each number by itself.
    So training the sum trains each network as if it were alone. They start as `torch.nn.Linear` does.

    >>> import torch
    >>> from limelight.models.parallel_mlp import ParallelMLP
    >>> ParallelMLP(models=5, inputs=64, hidden=32, outputs=10)(torch.rand(5, 7, 64)).shape
    torch.Size([5, 7, 10])
    """

    def __init__(self, models: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first, self.first_bias = _layer(models, inputs, hidden)
        self.last, self.last_bias = _layer(models, hidden, outputs)

    def forward(self, x: Float[Tensor, "models n inputs"]) -> Float[Tensor, "models n outputs"]:
        hidden = torch.relu(torch.baddbmm(self.first_bias, x, self.first))
        return torch.baddbmm(self.last_bias, hidden, self.last)


def _layer(models: int, inputs: int, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights (models, inputs, outputs) and biases (models, 1, outputs), uniform in ±1/√inputs."""
    most = 1 / math.sqrt(inputs)
    weight, bias = torch.empty(models, inputs, outputs), torch.empty(models, 1, outputs)
    return nn.Parameter(weight.uniform_(-most, most)), nn.Parameter(bias.uniform_(-most, most))


def cross_entropy(logits: Float[Tensor, "models n classes"], labels: Int[Tensor, "models n"]) -> Float[Tensor, ""]:
    """The sum over networks of each network's mean cross-entropy."""
    return len(logits) * nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
