"""Deep fully connected networks with plain, normalized or residual layers, to compare what keeps a signal alive."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn


class Residual(nn.Module):
    """h + f(h): a layer that adds to what it was given, so that what it does not know how to improve passes unharmed.

    The derivative I + f'(h) does not vanish where that of f does (He et al. 2015, 1512.03385).

    >>> import torch
    >>> from torch import nn
    >>> from limelight.models.deep_network import Residual
    >>> Residual(nn.Linear(8, 8))(torch.zeros(2, 8)).shape
    torch.Size([2, 8])
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        return h + self.inner(h)


def plain_layer(width: int) -> nn.Module:
    """h ← W relu(h) + b, which starts as torch starts a linear layer: each shrinks the signal to about 0.4 of it.

    >>> import torch
    >>> from limelight.models.deep_network import plain_layer
    >>> plain_layer(8)(torch.randn(2, 8)).shape
    torch.Size([2, 8])
    """
    return nn.Sequential(nn.ReLU(), nn.Linear(width, width))


def he_layer(width: int) -> nn.Module:
    """The same, with weights of variance 2/width, so that a layer keeps the size of the signal (He et al., 1502.01852).

    >>> import torch
    >>> from limelight.models.deep_network import he_layer
    >>> he_layer(8)(torch.randn(2, 8)).shape
    torch.Size([2, 8])
    """
    layer = nn.Linear(width, width)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.ReLU(), layer)


def normalized_layer(width: int) -> nn.Module:
    """h ← W relu(norm(h)) + b: each input's features have mean 0 and variance 1 first (Ba et al. 2016, 1607.06450).

    >>> import torch
    >>> from limelight.models.deep_network import normalized_layer
    >>> normalized_layer(8)(torch.randn(2, 8)).shape
    torch.Size([2, 8])
    """
    return nn.Sequential(nn.LayerNorm(width), *plain_layer(width).children())


class DeepNetwork(nn.Module):
    """A linear map of the inputs to `width` features, `depth` layers, and a linear map to the classes.

    >>> import torch
    >>> from limelight.models.deep_network import DeepNetwork, plain_layer
    >>> model = DeepNetwork(inputs=64, width=32, classes=10, depth=5, layer=plain_layer)
    >>> model(torch.rand(7, 64)).shape, model.features(torch.rand(7, 64)).shape
    (torch.Size([7, 10]), torch.Size([7, 32]))
    """

    def __init__(
        self, inputs: int, width: int, classes: int, depth: int, layer: Callable[[int], nn.Module] = plain_layer
    ) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.layers = nn.Sequential(*(layer(width) for _ in range(depth)))

    def features(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n width"]:
        """What the last layer passes on."""
        return self.layers(self.first(x))

    def forward(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n classes"]:
        return self.last(self.features(x))
