"""Digits placed in a larger frame: in the middle, anywhere, mirrored, or with permuted pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.data.digits import FRAME, in_frame, permuted
from limelight.errors import InputError


def centered(images: Float[Tensor, "n 8 8"]) -> Float[Tensor, "n 12 12"]:
    """Each image in the middle of an empty `FRAME`×`FRAME` frame.

    Raises `InputError` for images that are not (n, h, w), are larger than the frame, or cannot be centered exactly.
    """
    room = [FRAME - side for side in images.shape[1:]]
    if len(room) != 2 or any(rest < 0 or rest % 2 for rest in room):
        raise InputError(f"centered expects images (n, h, w) with {FRAME} − h and {FRAME} − w even and at least 0, "
                         f"got {tuple(images.shape)}")  # fmt: skip
    down, across = (rest // 2 for rest in room)
    return torch.nn.functional.pad(images, (across, across, down, down))


def mirrored(
    images: Float[Tensor, "n h w"], generator: torch.Generator | None = None, share: float = 1.0
) -> Float[Tensor, "n h w"]:
    """Mirror each image left to right with probability `share`, drawn once for each image; all of them if it is 1.

    Raises `InputError` for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"mirrored(share=…) expects a number from 0 to 1, got {share!r}")
    chosen = torch.rand(len(images), generator=generator) < share
    return torch.where(chosen[:, None, None], images.flip(-1), images)


def arrangements(images: Float[Tensor, "n 8 8"], generator: torch.Generator) -> dict[str, Float[Tensor, "n 12 12"]]:
    """The same digits arranged in four ways.

    centered: in the middle of the frame. shifted: anywhere in it. mirrored: in the middle, each mirrored left to right
    with probability ½. permuted: shifted, and then with the pixels of all images permuted in the same way.
    """
    middle, anywhere = centered(images), in_frame(images, generator)
    return {
        "centered": middle,
        "shifted": anywhere,
        "mirrored": mirrored(middle, generator, share=0.5),
        "permuted": permuted(anywhere, generator),
    }
