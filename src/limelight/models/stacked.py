"""Networks that are trained side by side, for `descend_side_by_side`: fully connected ones, and attention layers.

The weights of r networks are stacked along a first dimension. A product of stacked matrices computes all of them in one
operation, and each remains as independent of the others as if it were alone.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.models.positions import require_size


class StackedMLP(nn.Module):
    """y_m = W_{m,L} relu(… relu(W_{m,1} x_m + b_{m,1}) …) + b_{m,L}: r fully connected networks of these widths.

    They start as `torch.nn.Linear` does. Inputs (n, inputs) go to each of them. Raises `InputError` for a number of
    networks or a width below 1.

    >>> import torch
    >>> from limelight.models.stacked import StackedMLP
    >>> StackedMLP(5, 12, 64, 64, 4)(torch.randn(5, 7, 12)).shape
    torch.Size([5, 7, 4])
    """

    def __init__(self, networks: int, *widths: int) -> None:
        super().__init__()
        for name, size in (("networks", networks), *(("width", width) for width in widths)):
            require_size(name, size)
        self.weights = nn.ParameterList(stacked_matrices(networks, *pair) for pair in pairwise(widths))
        self.biases = nn.ParameterList(_uniform(networks, 1, to, inputs=of) for of, to in pairwise(widths))

    def forward(self, x: Float[Tensor, "*r n inputs"]) -> Float[Tensor, "r n outputs"]:
        x = x.expand(len(self.weights[0]), *x.shape[-2:])
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            x = x if layer == last else torch.relu(x)
        return x


class StackedAttention(nn.Module):
    """y_i = Σ_j softmax_j(⟨W_q x_i, W_k x_j⟩ / √width) W_v x_j: r layers of attention with one head each.

    The same three matrices serve every token and every pair of tokens, so their size does not depend on the number of
    tokens. Raises `InputError` for sizes below 1. Source: Vaswani et al. 2017 (1706.03762).

    >>> import torch
    >>> from limelight.models.stacked import StackedAttention
    >>> StackedAttention(5, inputs=3, width=8, outputs=1)(torch.randn(5, 7, 4, 3)).shape
    torch.Size([5, 7, 4, 1])
    """

    def __init__(self, networks: int, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        for name, size in (("networks", networks), ("inputs", inputs), ("width", width), ("outputs", outputs)):
            require_size(name, size)
        self.query, self.key = (stacked_matrices(networks, inputs, width) for _ in range(2))
        self.value = stacked_matrices(networks, inputs, outputs)

    def forward(self, x: Float[Tensor, "r n tokens inputs"]) -> Float[Tensor, "r n tokens outputs"]:
        query, key, value = (x @ matrix[:, None] for matrix in (self.query, self.key, self.value))
        return Attention(query, key) @ value


def stacked_matrices(networks: int, inputs: int, outputs: int) -> nn.Parameter:
    """Weights (networks, inputs, outputs), uniform in ±1/√inputs, by which x @ weights maps inputs to outputs."""
    return _uniform(networks, inputs, outputs, inputs=inputs)


def _uniform(*shape: int, inputs: int) -> nn.Parameter:
    most = 1 / math.sqrt(inputs)
    return nn.Parameter(torch.empty(shape).uniform_(-most, most))
