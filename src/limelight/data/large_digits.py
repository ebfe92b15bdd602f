"""Handwritten digits of twice their size on a black canvas, so that strokes have orientations and curves."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError

SIDE, DIGIT = 32, 16  # pixels of the canvas and of a digit, each way


def on_canvas(images: Float[Tensor, "n 8 8"], shifts: Int[Tensor, "n 2"]) -> Float[Tensor, "n 32 32"]:
    """Each digit, enlarged to 16×16 by linear interpolation, in the middle of a black canvas, moved by (down, right).

    Raises `InputError` for a shift by more than 8 pixels, with which a digit would leave the canvas.

    >>> import torch
    >>> from limelight.data.large_digits import on_canvas
    >>> on_canvas(torch.ones(1, 8, 8), torch.tensor([[0, 3]]))[0, 8, 10:13]
    tensor([0., 1., 1.])
    """
    room = (SIDE - DIGIT) // 2
    if len(shifts) and int(shifts.abs().max()) > room:
        raise InputError(f"on_canvas expects shifts of at most {room} pixels, got {int(shifts.abs().max())}")
    large = torch.nn.functional.interpolate(images[:, None], (DIGIT, DIGIT), mode="bilinear", align_corners=False)[:, 0]
    canvas = torch.zeros(len(images), SIDE, SIDE)
    at = torch.arange(DIGIT) + room
    rows, columns = shifts[:, 0, None, None] + at[:, None], shifts[:, 1, None, None] + at
    canvas[torch.arange(len(images))[:, None, None], rows, columns] = large
    return canvas


def anywhere(images: Float[Tensor, "n 8 8"], reach: int, generator: torch.Generator) -> Float[Tensor, "n 32 32"]:
    """Each digit on the canvas, moved down and right by −reach to reach pixels, all equally likely."""
    return on_canvas(images, torch.randint(-reach, reach + 1, (len(images), 2), generator=generator))


def turned(images: Float[Tensor, "n h w"], degrees: float) -> Float[Tensor, "n h w"]:
    """Square images turned counterclockwise about their middle, with black where nothing was.

    Raises `InputError` for images that are not square, which would be distorted.

    >>> import torch
    >>> from limelight.data.large_digits import turned
    >>> turned(torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), 90).round()
    tensor([[[1., 0.],
             [0., 0.]]])
    """
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"turned expects square images (n, side, side), got {tuple(images.shape)}")
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Output (x, y), y down, takes the value of the input at the place that the turn moves there.
    back = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]], dtype=images.dtype).expand(len(images), 2, 3)
    grid = torch.nn.functional.affine_grid(back, [len(images), 1, *images.shape[1:]], align_corners=False)
    return torch.nn.functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
