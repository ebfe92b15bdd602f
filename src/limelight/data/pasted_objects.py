"""Photographs with one object pasted into each, so that it is known which pixels are the object's.

The photographs are the two that scikit-learn ships. A small part of one is taken at random, enlarged, and mirrored in
half of the cases: leaves, petals, tiles, water or sky, but hardly ever a whole flower or temple, which would be a
subject of its own. The objects are drawings: color emoji of Google's Noto font (Debian's fonts-noto-color-emoji, SIL
Open Font License). No picture is the same as another, and no object of `CHOOSING` is one of `JUDGED`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limelight.errors import MissingExtraError

SIDE = 336  # pixels of a picture, each way: 24 patches of DINOv2
PART = 160  # pixels of the photograph that become a picture, each way
SMALLEST, LARGEST = 0.3, 0.6  # of the picture's side that the longer side of an object takes
OPAQUE = 128  # pixels of a drawing that are at least so opaque, of 255, are the object's
DRAWINGS = (
    "🐶🐱🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧🦉🐴🐝🦋🐌🐞🐢🐍"
    "🐙🦀🐠🐬🐳🐊🐘🐫🦒🐄🐎🐖🐑🐐🐓🍎🍊🍌🍉🍇🍓🍍"
    "🥑🌽🍔🍕🎂🍩☕🚗🚌🚲🚂🚀⛵🚁🏠⌚📷🔑🎸🎈⚽🎁"
)
CHOOSING, JUDGED = DRAWINGS[::3], "".join(one for i, one in enumerate(DRAWINGS) if i % 3)
_SIZE = 109  # the one size in which the font has its drawings
_FONT = "NotoColorEmoji.ttf"


@dataclass(frozen=True)
class Pasted:
    """A picture, the pixels of its object, and the object's box (top, left, bottom, right; the last two exclusive)."""

    pixels: Float[Tensor, "3 h w"]
    mask: Bool[Tensor, "h w"]
    box: Int[Tensor, " 4"]


def pasted(drawings: str, seed: int) -> Pasted:
    """A part of a photograph with one of these drawings, at a place and of a size that are drawn evenly.

    Seed s has the drawing number s, counted around. Raises `MissingExtraError` without Pillow, scikit-learn or the
    font.
    """
    generator = torch.Generator().manual_seed(seed)
    picture = _part(photographs(), generator)
    drawing = _resized(drawn(drawings[seed % len(drawings)]), generator)
    height, width = drawing.shape[1:]
    top, left = (int(torch.randint(SIDE - size + 1, (), generator=generator)) for size in (height, width))
    return paste(picture, drawing, top, left)


def paste(picture: Float[Tensor, "3 h w"], drawing: Float[Tensor, "4 a b"], top: int, left: int) -> Pasted:
    """The picture with a drawing (red, green, blue, opacity, from 0 to 1) over it, whose first pixel is at this place.

    >>> import torch
    >>> from limelight.data.pasted_objects import paste
    >>> found = paste(torch.zeros(3, 4, 4), torch.ones(4, 2, 1), 1, 2)
    >>> found.box.tolist(), int(found.mask.sum()), found.pixels[0, 1].tolist()
    ([1, 2, 3, 3], 2, [0.0, 0.0, 1.0, 0.0])
    """
    height, width = drawing.shape[1:]
    color, opacity = drawing[:3], drawing[3]
    pixels, mask = picture.clone(), torch.zeros(picture.shape[1:], dtype=torch.bool)
    place = slice(top, top + height), slice(left, left + width)
    pixels[:, *place] = opacity * color + (1 - opacity) * pixels[:, *place]
    mask[place] = opacity >= OPAQUE / 255
    rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
    box = torch.stack([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
    return Pasted(pixels, mask, box)


@cache
def photographs() -> Float[Tensor, "n 3 h w"]:
    """scikit-learn's two photographs, a temple and a flower (CC BY, see its `load_sample_images`), from 0 to 1."""
    if problem := missing():
        raise MissingExtraError(problem)
    from sklearn.datasets import load_sample_images

    return torch.tensor(np.stack(load_sample_images().images)).permute(0, 3, 1, 2).float() / 255


@cache
def drawn(character: str) -> Float[Tensor, "4 a b"]:
    """The font's drawing of a character, without what is empty around it: red, green, blue, opacity, from 0 to 1."""
    if problem := missing():
        raise MissingExtraError(problem)
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGBA", (2 * _SIZE, 2 * _SIZE))
    font = ImageFont.truetype(str(_font()), _SIZE)
    ImageDraw.Draw(image).text((10, 10), character, font=font, embedded_color=True)
    return _tensor(image.crop(image.getbbox()))


@cache
def fingerprint() -> str:
    """SHA-256 of the photographs and of the drawings, which other versions of the font draw otherwise; empty if one of
    them is missing."""
    if missing():
        return ""
    found = hashlib.sha256(photographs().numpy().tobytes())
    for character in DRAWINGS:
        found.update(drawn(character).numpy().tobytes())
    return found.hexdigest()


def missing() -> str:
    """What is not installed, and how to install it, in a sentence; empty if nothing is missing."""
    lacking = [name for name in ("sklearn", "PIL") if importlib.util.find_spec(name) is None]
    if lacking:
        return f"{', '.join(lacking)} is not installed: pip install 'limelight[claims,images]'"
    if _font() is None:
        return f"{_FONT} is not installed: apt-get install fonts-noto-color-emoji, or copy it to ~/.local/share/fonts"
    return ""


def _font() -> Path | None:
    """The font where Debian, Fedora and Arch install it, or in the user's own folder."""
    own = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fonts"
    share = Path("/usr/share/fonts")
    folders = (own, share / "truetype" / "noto", share / "google-noto-color-emoji-fonts", share / "noto")
    return next((folder / _FONT for folder in folders if (folder / _FONT).is_file()), None)


def _part(photographs: Float[Tensor, "n 3 h w"], generator: torch.Generator) -> Float[Tensor, "3 side side"]:
    """A square part of one of them, mirrored in half of the cases."""
    which = int(torch.randint(len(photographs), (), generator=generator))
    top, left = (int(torch.randint(room - PART + 1, (), generator=generator)) for room in photographs.shape[2:])
    part = _scaled(photographs[which, :, top : top + PART, left : left + PART], [SIDE, SIDE])
    return part.flip(-1) if torch.rand((), generator=generator) < 0.5 else part


def _resized(drawing: Float[Tensor, "4 a b"], generator: torch.Generator) -> Float[Tensor, "4 c d"]:
    """The drawing, its longer side a random share of a picture's."""
    share = SMALLEST + (LARGEST - SMALLEST) * float(torch.rand((), generator=generator))
    times = share * SIDE / max(drawing.shape[1:])
    return _scaled(drawing, [round(times * length) for length in drawing.shape[1:]])


def _scaled(image: Float[Tensor, "channels a b"], size: list[int]) -> Float[Tensor, "channels c d"]:
    made = torch.nn.functional.interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)
    return made[0].clamp(0, 1)


def _tensor(image: Any) -> Float[Tensor, "channels h w"]:
    return torch.tensor(np.array(image)).permute(2, 0, 1).float() / 255
