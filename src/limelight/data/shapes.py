"""Generated images: outlines of a square, triangles and a circle, which may cross, and the object of each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import UnknownNameError

SIDE, RADIUS = 12, 3  # of an image in pixels; and from a shape's center to its edge
KINDS = ("square", "up", "down", "circle")  # `up` and `down` are triangles that point there
CROSSING = -1  # the label of a pixel that several objects share


def outline(kind: str) -> Float[Tensor, "7 7"]:
    """The outline of a shape, one pixel wide, as an image of 2·`RADIUS` + 1 pixels a side with values 0 and 1.

    Raises `UnknownNameError` for a shape that is not among `KINDS`.

    >>> from limelight.data.shapes import outline
    >>> outline('square').sum()
    tensor(24.)
    """
    at = torch.arange(-RADIUS, RADIUS + 1.0)
    down, across = at[:, None], at[None]
    if kind == "square":
        edge = torch.maximum(down.abs(), across.abs()) == RADIUS
    elif kind == "circle":
        edge = (down.square() + across.square()).sqrt().round() == RADIUS
    elif kind in ("up", "down"):
        from_tip = down + RADIUS if kind == "up" else RADIUS - down
        inside = across.abs() <= from_tip / 2
        edge = inside & ((across.abs() > from_tip / 2 - 1) | (from_tip == 2 * RADIUS))
    else:
        raise UnknownNameError("shape", kind, KINDS)
    return edge.float()


def every_scene(kinds: Sequence[str]) -> tuple[Float[Tensor, "n h w"], Int[Tensor, "n h w"]]:
    """(images, labels): one shape of each kind in every combination of places where all are whole; 36 places a shape.

    An image is 1 on an outline and 0 elsewhere. A pixel's label is 0 for the background, i for the i-th kind, counted
    from 1, and `CROSSING` where outlines share a pixel.

    Raises `UnknownNameError` for a shape that is not among `KINDS`.

    >>> from limelight.data.shapes import every_scene
    >>> images, labels = every_scene(['square', 'up'])
    >>> images.shape, labels.unique()
    (torch.Size([1296, 12, 12]), tensor([-1,  0,  1,  2]))
    """
    places = [_everywhere(outline(kind)) for kind in kinds]
    chosen = torch.cartesian_prod(*(torch.arange(len(each)) for each in places)).view(-1, len(kinds))
    there = torch.stack([each[which] for each, which in zip(places, chosen.T, strict=True)], 1)
    number = torch.arange(1, len(kinds) + 1)[:, None, None]
    objects = there.sum(1)
    labels = torch.where(objects > 1, CROSSING, (there * number).sum(1).long())
    return (objects > 0).float(), labels


def _everywhere(shape: Float[Tensor, "s s"]) -> Float[Tensor, "places h w"]:
    """The shape in each place of the image where it is whole."""
    rest = SIDE - len(shape)
    return torch.stack([
        torch.nn.functional.pad(shape, (left, rest - left, top, rest - top))
        for top in range(rest + 1)
        for left in range(rest + 1)
    ])  # fmt: skip
