"""Fashion-MNIST: 70,000 pictures of clothes in ten classes, 28×28 (Xiao et al. 2017, 1708.07747; MIT license).

It is too large to come with a package, so it is read from a folder with its four files, as they are published or
unpacked. That folder is named by the environment variable `LIMELIGHT_FASHION_MNIST`; otherwise it is the one of
Debian's package. A file is known by its hash, so that a damaged one, or digits in place of clothes, is found.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError, MissingExtraError

FOLDER = "LIMELIGHT_FASHION_MNIST"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28
SHA256 = {  # of each file when it is unpacked
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_IMAGES_AT, _LABELS_AT = 16, 8  # bytes of the files' headers

Labeled = tuple[Float[Tensor, "n 28 28"], Int[Tensor, " n"]]


def folder() -> Path:
    """The folder in which the files are looked for."""
    return Path(os.environ.get(FOLDER) or DEBIAN)


def missing() -> str:
    """What is missing, how to get it and what stands in for it, in a sentence; empty if all four files are there."""
    lacking = [name for name in SHA256 if _file(name) is None]
    if not lacking:
        return ""
    return (
        f"Fashion-MNIST is not in {folder()} ({lacking[0]} is missing): apt install dataset-fashion-mnist, or download "
        f"it with torchvision.datasets.FashionMNIST(ROOT, download=True) and set {FOLDER}=ROOT/FashionMNIST/raw; "
        "scikit-learn's digits stand in for it in translation_prior"
    )


def fingerprint() -> str:
    """SHA-256 of the data, which is the same for all who have it, and known without reading it."""
    return hashlib.sha256("".join(SHA256.values()).encode()).hexdigest()


@cache
def fashion_mnist() -> tuple[Labeled, Labeled]:
    """((images, classes) of the 60,000 to train on, (images, classes) of the 10,000 to test on); grays in [0, 1].

    Raises `MissingExtraError`, which says how to get the files, where one is missing, and `InputError` for a file that
    is not the published one.
    """
    if problem := missing():
        raise MissingExtraError(problem)
    train, test = (
        (_images(_unpacked(f"{part}-images-idx3-ubyte")), _labels(_unpacked(f"{part}-labels-idx1-ubyte")))
        for part in ("train", "t10k")
    )
    return train, test


def split(
    train: int, test: int, side: int, generator: torch.Generator
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((images, classes) to train on, (images, classes) to test on), drawn from the two parts of the data.

    Images are shrunk to side×side pixels, each the mean of an area. Raises what `fashion_mnist` raises, and
    `InputError` for more images than there are, and for a side beyond 1 … 28.
    """
    if not 1 <= side <= SIDE:
        raise InputError(f"Fashion-MNIST can be shrunk to a side of 1 to {SIDE} pixels, got {side}")
    parts = []
    for count, (images, labels) in zip((train, test), fashion_mnist(), strict=True):
        if not 0 <= count <= len(images):
            raise InputError(f"this part of Fashion-MNIST has {len(images)} images, got {count}")
        chosen = torch.randperm(len(images), generator=generator)[:count]
        shrunk = torch.nn.functional.adaptive_avg_pool2d(images[chosen], side)
        parts.append((shrunk, labels[chosen]))
    return parts[0], parts[1]


def _file(name: str) -> Path | None:
    """The file with this name in the folder, packed or unpacked, or None."""
    return next((path for path in (folder() / f"{name}.gz", folder() / name) if path.is_file()), None)


def _unpacked(name: str) -> bytes:
    """What a file holds. Raises `InputError` unless it is the published one."""
    path = _file(name)
    assert path is not None
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as problem:
        raise InputError(f"{path} cannot be read ({problem}); fetch it again") from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise InputError(
            f"{path} is not the published file of Fashion-MNIST: expected the SHA-256 {SHA256[name]} of what it holds, "
            f"got {found}; fetch it again"
        )
    return content


def _images(content: bytes) -> Float[Tensor, "n 28 28"]:
    pixels = np.frombuffer(content, np.uint8, offset=_IMAGES_AT).reshape(-1, SIDE, SIDE)
    return torch.tensor(pixels, dtype=torch.float32) / 255


def _labels(content: bytes) -> Int[Tensor, " n"]:
    return torch.tensor(np.frombuffer(content, np.uint8, offset=_LABELS_AT), dtype=torch.long)
