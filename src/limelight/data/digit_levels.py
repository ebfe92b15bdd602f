"""Gray values as scanned digits have them, and as a model without bounds should see them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LEVELS = 16  # the digits' gray values are whole numbers of sixteenths
_APART = 0.2  # how far white and black are moved outward
MIDDLE, SPREAD = 0.25, 0.5  # mean and standard deviation of all pixels after that, roughly


def as_scanned(images: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """The nearest of the gray values 0, 1/16, …, 1 to each pixel, which may lie outside [0, 1].

    Otherwise a classifier could recognize every computed image by gray values that no scanned image has.

    >>> import torch
    >>> from limelight.data.digit_levels import as_scanned
    >>> as_scanned(torch.tensor([[[-0.2, 0.51, 0.03]]]))
    tensor([[[0.0000, 0.5000, 0.0000]]])
    """
    return (images * LEVELS).round().clamp(0, LEVELS) / LEVELS


def unbounded(images: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Images with mean about 0 and variance about 1, white and black a little farther out than the grays.

    Half of all pixels are exactly white, since a scanner cuts off what lies below. A model whose values have no bounds
    cannot hit a value exactly; with a gap beside it, it need not. `bounded` is the way back.

    >>> import torch
    >>> from limelight.data.digit_levels import bounded, unbounded
    >>> bounded(unbounded(torch.tensor([[[0.0, 0.5, 1.0]]])))
    tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    apart = torch.where(images <= 0, -_APART, torch.where(images >= 1, 1 + _APART, images))
    return (apart - MIDDLE) / SPREAD


def bounded(values: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """The scanned images that unbounded values stand for."""
    return as_scanned(values * SPREAD + MIDDLE)
