"""Handwritten digits, 8×8 (UCI, through scikit-learn, BSD): as points, or shifted inside a larger frame."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

FRAME = 12  # pixels, each way
_SIDE = 8


@cache
def digits() -> tuple[Float[Tensor, "n 8 8"], Int[Tensor, " n"]]:
    """All 1797 images, gray values in [0, 1], and their digits."""
    from sklearn.datasets import load_digits  # imported here, since it takes a second

    found = load_digits()
    return torch.tensor(found.images / 16, dtype=torch.float32), torch.tensor(found.target)


@cache
def fingerprint() -> str:
    """SHA-256 of the data, so that results of another version of the data are not mixed with these."""
    images, labels = digits()
    return hashlib.sha256(images.numpy().tobytes() + labels.numpy().astype(np.int64).tobytes()).hexdigest()


def split(train: int, test: int, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((images, digits) to train on, (images, digits) to test on), drawn without overlap."""
    images, labels = digits()
    order = torch.randperm(len(images), generator=generator)[: train + test]
    chosen = images[order], labels[order]
    return (chosen[0][:train], chosen[1][:train]), (chosen[0][train:], chosen[1][train:])


def in_frame(images: Float[Tensor, "n 8 8"], generator: torch.Generator) -> Float[Tensor, "n 12 12"]:
    """Each image at a random position in an empty `FRAME`×`FRAME` frame, all equally likely."""
    room = FRAME - _SIDE + 1
    down, across = torch.randint(room, (2, len(images)), generator=generator)
    framed = torch.zeros(len(images), FRAME, FRAME)
    rows = down[:, None, None] + torch.arange(_SIDE)[None, :, None]
    cols = across[:, None, None] + torch.arange(_SIDE)[None, None, :]
    framed[torch.arange(len(images))[:, None, None], rows, cols] = images
    return framed


def permuted(images: Float[Tensor, "n h w"], generator: torch.Generator) -> Float[Tensor, "n h w"]:
    """All images with their pixels permuted in the same random way, so that neighbors are no longer related."""
    order = torch.randperm(images[0].numel(), generator=generator)
    return images.flatten(1)[:, order].view_as(images)
