"""Digits somewhere in a scene of clutter, each with the box around its ink: for detection that is learned from classes.

The digits are real (`limelight.data.digits`); the scenes are made: pieces of other digits and noise lie around them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

SIDE = 18  # pixels of a scene, each way: a box in its middle has a mean IoU of about .2 with the box of the digit
PIECES, PIECE = 4, 4  # pieces of clutter in a scene, and the pixels of a piece, each way
NOISE = 0.1  # standard deviation of the noise of every pixel
INK = 0.25  # gray values from here on belong to the digit


class Scenes(NamedTuple):
    """Images with one digit each, the digit, and its box (top, left, bottom, right), whose last two are exclusive."""

    images: Float[Tensor, "n h w"]
    labels: Int[Tensor, " n"]
    boxes: Int[Tensor, "n 4"]


def scenes(images: Float[Tensor, "m 8 8"], labels: Int[Tensor, " m"], count: int, generator: torch.Generator) -> Scenes:
    """`count` scenes, in each of which one of these digits lies, at a place that is drawn evenly.

    Over it, or beside it, lie `PIECES` pieces of other digits; where two things overlap the lighter value counts.

    >>> import torch
    >>> from limelight.data.cluttered_digits import scenes
    >>> from limelight.data.digits import digits
    >>> made = scenes(*digits(), 5, torch.Generator().manual_seed(0))
    >>> made.images.shape, made.boxes.shape
    (torch.Size([5, 18, 18]), torch.Size([5, 4]))
    """
    chosen = torch.randint(len(images), (count,), generator=generator)
    scene = (NOISE * torch.randn(count, SIDE, SIDE, generator=generator)).abs()
    for _ in range(PIECES):
        _paste(scene, _pieces(images, count, generator), generator)
    top, left = _paste(scene, images[chosen], generator)
    return Scenes(
        scene.clamp(max=1), labels[chosen], ink_boxes(images[chosen]) + torch.stack([top, left, top, left], 1)
    )


def ink_boxes(images: Float[Tensor, "n h w"]) -> Int[Tensor, "n 4"]:
    """The smallest box (top, left, bottom, right) around the pixels of each image that are at least `INK`."""
    ink = images >= INK
    ends = []
    for seen in (ink.any(2), ink.any(1)):  # rows, then columns
        first = seen.int().argmax(1)
        last = seen.shape[1] - seen.flip(1).int().argmax(1)
        ends.append((first, last))
    (top, bottom), (left, right) = ends
    return torch.stack([top, left, bottom, right], 1)


def _pieces(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Squares of `PIECE` pixels each way, cut out of digits at random places."""
    chosen = torch.randint(len(images), (count,), generator=generator)
    rows, cols = (_range(images.shape[1], PIECE, count, generator) for _ in range(2))
    return images[chosen[:, None, None], rows[:, :, None], cols[:, None, :]]


def _paste(scene: Tensor, patches: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lay a patch into each scene, in place, and return the row and the column of its first pixel."""
    side = patches.shape[1]
    rows, cols = (_range(scene.shape[1], side, len(scene), generator) for _ in range(2))
    at = torch.arange(len(scene))[:, None, None], rows[:, :, None], cols[:, None, :]
    scene[at] = torch.maximum(scene[at], patches)
    return rows[:, 0], cols[:, 0]


def _range(room: int, length: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` ranges of this length within [0, room), all equally likely, as indices (count, length)."""
    first = torch.randint(room - length + 1, (count,), generator=generator)
    return first[:, None] + torch.arange(length)
