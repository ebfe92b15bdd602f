"""The check that images have the size a network was built for."""

from __future__ import annotations

from torch import Tensor

from limelight.errors import InputError


def require_images(images: Tensor, side: int, who: str) -> None:
    """Raise `InputError` unless the images are (n, side, side).

    >>> from limelight.models.image_input import require_images
    >>> import torch
    >>> require_images(torch.zeros(5, 8, 8), 8, 'Autoencoder')
    """
    if images.dim() != 3 or images.shape[1:] != (side, side):
        raise InputError(
            f"{who} expects images (n, {side}, {side}), got {tuple(images.shape)}; "
            "resize them, or build it with another side"
        )


def require_codes(codes: Tensor, width: int, who: str) -> None:
    """Raise `InputError` unless the codes are (n, width)."""
    if codes.dim() != 2 or codes.shape[1] != width:
        raise InputError(f"{who} expects codes (n, {width}), got {tuple(codes.shape)}")
