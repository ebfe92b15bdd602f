"""A small convolutional network with any normalization of its features, and batch norm with statistics taken anew."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


def layer_norm(channels: int) -> nn.Module:
    """Each image's features, of all channels and places, get mean 0 and variance 1 (Ba et al. 2016, 1607.06450).

    >>> import torch
    >>> from limelight.models.normalized_network import layer_norm
    >>> layer_norm(3)(torch.rand(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """
    return nn.GroupNorm(1, channels)


def no_norm(channels: int) -> nn.Module:
    """Features as they are.

    >>> from limelight.models.normalized_network import no_norm
    >>> no_norm(3)(5)
    5
    """
    return nn.Identity()


class NormalizedNetwork(nn.Module):
    """Two 3×3 convolutions, each followed by norm, ReLU and a maximum over 2×2 places, and a linear layer.

    `norm` makes a normalization of so many channels, such as `torch.nn.BatchNorm2d`, which gives each channel mean 0
    and variance 1 over a batch, and in evaluation by statistics that were stored in training (Ioffe & Szegedy 2015,
    1502.03167).

    >>> import torch
    >>> from limelight.models.normalized_network import NormalizedNetwork, layer_norm
    >>> NormalizedNetwork(10, layer_norm)(torch.rand(2, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int, norm: Callable[[int], nn.Module], channels: int = 16) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.first_norm, self.second_norm = norm(channels), norm(2 * channels)
        self.last = nn.Linear(8 * channels, classes)

    def forward(self, images: Float[Tensor, "n 8 8"]) -> Float[Tensor, "n classes"]:
        seen = torch.relu(self.first_norm(self.first(images[:, None])))
        seen = nn.functional.max_pool2d(seen, 2)
        seen = torch.relu(self.second_norm(self.second(seen)))
        return self.last(nn.functional.max_pool2d(seen, 2).flatten(1))


@torch.no_grad()
def with_statistics_of(model: nn.Module, images: Float[Tensor, "n h w"]) -> nn.Module:
    """A copy of the model whose batch norms have stored the means and variances of these images, and of no others.

    It is adapted to images of another distribution without their labels (Schneider et al. 2020, 2006.16971). The model
    itself does not change; one without batch norm is copied as it is.

    >>> import torch
    >>> from torch import nn
    >>> from limelight.models.normalized_network import NormalizedNetwork, with_statistics_of
    >>> model = NormalizedNetwork(10, nn.BatchNorm2d)
    >>> with_statistics_of(model, torch.rand(50, 8, 8) + 1).first_norm.num_batches_tracked
    tensor(1)
    """
    adapted = copy.deepcopy(model).train()
    for part in adapted.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.reset_running_stats()
            part.momentum = None  # a plain mean over the batches since then, of which there is one
    adapted(images)
    return adapted.eval()
