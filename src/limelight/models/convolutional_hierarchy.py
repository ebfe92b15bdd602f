"""Three convolutions, one after the other, with the activations of each layer, to measure what its units respond to."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError


class ConvolutionalHierarchy(nn.Module):
    """a_l = relu(w_l * pool(a_(l−1)) + b_l) for l = 1, 2, 3, and y = W max_p a_3(p) + b.

    Each layer sees more of the image: a place p of layer l sees `FIELDS[l]` pixels each way, the first of which is
    pixel `STRIDES[l]`·p. So the first layer could find strokes, the second their curves, and the third, which sees a
    whole digit, the digit (LeCun et al. 1998 describe such a hierarchy). Nothing is padded: a place sees pixels only.

    >>> import torch
    >>> from limelight.models.convolutional_hierarchy import ConvolutionalHierarchy
    >>> model = ConvolutionalHierarchy(classes=10, channels=(4, 8, 16))
    >>> [tuple(each.shape[1:]) for each in model.layers(torch.rand(2, 32, 32))]
    [(4, 28, 28), (8, 10, 10), (16, 3, 3)]
    """

    KERNELS = (5, 5, 3)
    FIELDS = (5, 14, 24)  # pixels that a place of each layer sees, each way
    STRIDES = (1, 2, 4)  # pixels from one place of each layer to the next

    def __init__(self, classes: int, channels: tuple[int, int, int] = (8, 16, 32)) -> None:
        super().__init__()
        widths = (1, *channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernel) for i, kernel in enumerate(self.KERNELS)
        )
        self.last = nn.Linear(channels[-1], classes)
        for convolution in self.convolutions:  # so that an empty image excites no unit, and activations keep their size
            nn.init.kaiming_normal_(convolution.get_parameter("weight"), nonlinearity="relu")
            nn.init.zeros_(convolution.get_parameter("bias"))

    def layers(self, images: Float[Tensor, "n h w"]) -> list[Float[Tensor, "n channels rows cols"]]:
        """The activations of the three layers, each before its maximum over pairs of places is taken.

        Raises `InputError` for images that are smaller than what a unit of the third layer sees.
        """
        if images.ndim != 3 or min(images.shape[1:]) < self.FIELDS[-1]:
            raise InputError(
                f"ConvolutionalHierarchy expects images (n, h, w) of at least {self.FIELDS[-1]} pixels each way, got "
                f"{tuple(images.shape)}; pad them with black"
            )
        found = [torch.relu(self.convolutions[0](images[:, None]))]
        for convolution in list(self.convolutions)[1:]:
            found.append(torch.relu(convolution(nn.functional.max_pool2d(found[-1], 2))))
        return found

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n classes"]:
        return self.last(self.layers(images)[-1].amax((-2, -1)))

    @torch.no_grad()
    def fix_first_layer(self, filters: Float[Tensor, "channels 5 5"]) -> None:
        """Give the first layer these filters without a bias, which training leaves as they are."""
        first = self.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        assert first.bias is not None
        if filters[:, None].shape != first.weight.shape:
            raise InputError(
                f"fix_first_layer expects filters {tuple(first.weight[:, 0].shape)}, got {tuple(filters.shape)}"
            )
        first.weight.copy_(filters[:, None])
        first.bias.zero_()
        first.requires_grad_(False)
