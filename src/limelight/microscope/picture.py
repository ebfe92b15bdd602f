"""A picture as a model of images gets it: read with Pillow, resized by the model's processor, and cut into patches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from limelight.errors import InputError, require

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_PIXELS = (
    50_000_000  # of the largest picture that is decoded; a file of a few kilobytes may hold a million times as many
)


@dataclass(frozen=True)
class Picture:
    """What the model was given: `pixels` (H, W, 3) for people, and `values` (1, 3, H, W) for the model.

    `rows` × `columns` patches are tokens. `size` (width, height) is that of the file.
    """

    pixels: UInt8[Tensor, "H W 3"]
    values: Float[Tensor, "1 3 H W"]
    rows: int
    columns: int
    size: tuple[int, int]

    @property
    def was_resized(self) -> bool:
        return self.size != (self.pixels.shape[1], self.pixels.shape[0])


def picture(path: Path, processor: Any, config: Any, name: str) -> Picture:
    """The picture in a file, as the processor of the model of this name prepares it.

    Raises `InputError` for what is no picture of these formats, for one that is too large to decode, and for one of
    another size than the model takes, if its processor does not resize.
    """
    image = opened(path)
    try:
        values = processor(image, return_tensors="pt")["pixel_values"]
    except (ValueError, TypeError) as problem:
        raise InputError(f"{name} cannot take {path}: {' '.join(str(problem).split())[:200]}") from None
    patch, wanted = _pair(config.patch_size), _pair(config.image_size)
    height, width = values.shape[-2:]
    if (height, width) != wanted and not getattr(processor, "do_resize", False):
        raise InputError(
            f"{name} takes pictures of {wanted[1]} × {wanted[0]} pixels and does not resize; {path} has "
            f"{image.width} × {image.height}, so resize it first"
        )
    return Picture(_shown(values[0], processor), values, height // patch[0], width // patch[1], image.size)


def opened(path: Path) -> Any:
    """The picture in a file, in RGB and the right way up. No other decoders than those of `FORMATS` are run."""
    require("images", "limelight inspect --image", "PIL")
    from PIL import Image, ImageOps, UnidentifiedImageError

    kinds = ", ".join(FORMATS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > _PIXELS:
                    raise InputError(
                        f"{path} has {image.width} × {image.height} pixels, more than {_PIXELS:,}; scale it down"
                    )
                return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise InputError(f"{path} is no picture that can be read; give a file in one of the formats {kinds}") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path} has more than {_PIXELS:,} pixels; scale it down") from None
    except (OSError, ValueError, SyntaxError) as problem:  # Pillow raises SyntaxError for a broken PNG
        raise InputError(f"{path} cannot be read as a picture: {problem}") from None


def _shown(values: Float[Tensor, "3 H W"], processor: Any) -> UInt8[Tensor, "H W 3"]:
    """The pixels that the model got, without the normalization."""
    if getattr(processor, "do_normalize", False):
        std, mean = (
            torch.tensor(x, dtype=values.dtype)[:, None, None] for x in (processor.image_std, processor.image_mean)
        )
        values = values * std + mean
    largest = 255 if getattr(processor, "do_rescale", True) else 1
    return (values * largest).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()


def _pair(size: Any) -> tuple[int, int]:
    """(height, width)."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def patch_labels(model: Any, tokens: int, rows: int, columns: int) -> list[str] | None:
    """A label for each token: the class token, others that are no patches, and the patches by row and column.

    None if there are fewer tokens than patches, as in a model that hides some of them.
    """
    others = tokens - rows * columns
    if others < 0:
        return None
    has_class = any(name.rpartition(".")[2] in ("cls_token", "class_embedding") for name, _ in model.named_parameters())
    names = [f"extra token {i + 1}" for i in range(others)]
    if has_class and others:
        names = ["class token", *names[: others - 1]]
    return names + [f"row {r + 1}, column {c + 1}" for r in range(rows) for c in range(columns)]
