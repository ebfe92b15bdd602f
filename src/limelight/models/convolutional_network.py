"""Convolutional networks whose class scores are sums over places, so that a map shows each place's contribution."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.attention import Attention


class ConvolutionalTrunk(nn.Module):
    """Three 3×3 convolutions with batch norm and ReLU, the last two at half the resolution.

    Each looks at the neighborhood of a place, wherever it is: strokes first, then their combinations. A place of the
    result sees 12 pixels each way.

    >>> import torch
    >>> from limelight.models.convolutional_network import ConvolutionalTrunk
    >>> ConvolutionalTrunk(channels=16)(torch.rand(2, 22, 22)).shape
    torch.Size([2, 32, 11, 11])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (1, channels, 2 * channels, 2 * channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False) for i in range(3)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n channels rows cols"]:
        seen = images[:, None]
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            seen = torch.relu(norm(convolution(seen)))
            if i == 0:
                seen = nn.functional.max_pool2d(seen, 2)
        return seen


class ClassActivationNetwork(nn.Module):
    """y_c = b_c + mean over places p of ⟨w_c, f_p⟩: convolutions, a global average pool, and a linear layer.

    The mean and the linear layer may be exchanged, so that M_c(p) = ⟨w_c, f_p⟩ is what place p contributes to the score
    of class c: the class activation map (Zhou et al. 2016, 1512.04150).

    >>> import torch
    >>> from limelight.models.convolutional_network import ClassActivationNetwork
    >>> model = ClassActivationNetwork(classes=10)
    >>> model(torch.rand(2, 22, 22)).shape, model.activation_map(torch.rand(2, 22, 22), torch.tensor([3, 7])).shape
    (torch.Size([2, 10]), torch.Size([2, 11, 11]))
    """

    def __init__(self, classes: int, channels: int = 16) -> None:
        super().__init__()
        self.trunk = ConvolutionalTrunk(channels)
        self.last = nn.Linear(2 * channels, classes)

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n classes"]:
        return self.last(self.trunk(images).mean((-2, -1)))

    def activation_map(
        self, images: Float[Tensor, "n h w"], classes: Int[Tensor, " n"]
    ) -> Float[Tensor, "n rows cols"]:
        """M_c(p) of one class for each image, at the resolution of the last convolution."""
        return torch.einsum("nchw,nc->nhw", self.trunk(images), self.last.weight[classes])


class AttentionPooledNetwork(nn.Module):
    """y = W Σ_p a_p f_p + b with a = softmax_p(⟨q, W_k f_p⟩ / √d): the same network, pooled by one learned query.

    The average pool gives every place the same weight; here places whose keys match the learned query get more.

    >>> import torch
    >>> from limelight.models.convolutional_network import AttentionPooledNetwork
    >>> model = AttentionPooledNetwork(classes=10)
    >>> model(torch.rand(2, 22, 22)).shape, model.attention_map(torch.rand(2, 22, 22)).shape
    (torch.Size([2, 10]), torch.Size([2, 11, 11]))
    """

    def __init__(self, classes: int, channels: int = 16) -> None:
        super().__init__()
        self.trunk = ConvolutionalTrunk(channels)
        self.query = nn.Parameter(torch.zeros(1, 2 * channels))  # every place has the same weight at first
        self.key, self.last = nn.Linear(2 * channels, 2 * channels), nn.Linear(2 * channels, classes)

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n classes"]:
        places = self.trunk(images).flatten(2).mT
        return self.last((self._attention(places) @ places)[:, 0])

    def attention_map(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n rows cols"]:
        """The weight of each place, which sum to one for each image."""
        seen = self.trunk(images)
        return self._attention(seen.flatten(2).mT).dense()[:, 0].unflatten(-1, seen.shape[2:])

    def _attention(self, places: Float[Tensor, "n places channels"]) -> Attention:
        return Attention(self.query.expand(len(places), 1, -1), self.key(places))
