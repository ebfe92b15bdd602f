"""Boxes around the peaks of maps, such as of a network's attention, and how well they agree with true boxes.

A box is (top, left, bottom, right) in pixels, whose last two are exclusive.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError


def enlarged(maps: Float[Tensor, "n rows cols"], height: int, width: int) -> Float[Tensor, "n height width"]:
    """Maps at the resolution of their images, linear between the centers of their cells."""
    return torch.nn.functional.interpolate(maps[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]


def boxes_around_peaks(maps: Float[Tensor, "n h w"], share: float) -> Float[Tensor, "n 4"]:
    """The box around the connected pixels that have at least `share` of a map's largest value, and contain its place.

    Of several peaks only the highest counts; pixels are connected that share an edge. A map whose largest value is not
    positive shows no place, and its box is the whole image.

    Raises `InputError` for maps that are not (n, h, w) or not finite, and a share that is not between 0 and 1.

    >>> import torch
    >>> from limelight.interpret.boxes import boxes_around_peaks
    >>> seen = torch.zeros(1, 5, 5)
    >>> seen[0, 1, 2:4] = torch.tensor([1.0, 0.6])
    >>> boxes_around_peaks(seen, 0.5)
    tensor([[1., 2., 2., 4.]])
    """
    if maps.ndim != 3:
        raise InputError(f"boxes_around_peaks expects maps of shape (n, h, w), got {tuple(maps.shape)}")
    if not maps.isfinite().all():
        raise InputError("boxes_around_peaks expects finite maps, got NaN or infinite values")
    if not 0 < share < 1:
        raise InputError(f"boxes_around_peaks(share=…) expects a number between 0 and 1, got {share!r}")
    return torch.tensor([_box(one, share) for one in maps], dtype=maps.dtype)


def _box(one: Float[Tensor, "h w"], share: float) -> tuple[int, int, int, int]:
    from scipy.ndimage import find_objects, label  # imported here, since it takes a fifth of a second

    most = float(one.max())
    if most <= 0:
        return 0, 0, *one.shape
    parts, _ = label((one >= share * most).numpy())
    peak = parts.flat[int(one.argmax())]
    rows, cols = find_objects((parts == peak).astype(int))[0]
    return rows.start, cols.start, rows.stop, cols.stop


def intersection_over_union(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """|A ∩ B| / |A ∪ B| of each pair of boxes: 1 for equal boxes, 0 for boxes that do not meet.

    >>> import torch
    >>> from limelight.interpret.boxes import intersection_over_union
    >>> intersection_over_union(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 1, 2, 3]]))
    tensor([0.3333])
    """
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    both = sides.clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)]
    return both / (areas[0] + areas[1] - both)


def pointed(maps: Float[Tensor, "n h w"], boxes: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """1 where the largest value of a map lies in the box, else 0: the pointing game (Zhang et al. 2016, 1608.00507)."""
    at = torch.stack(torch.unravel_index(maps.flatten(1).argmax(1), maps.shape[1:]), 1)
    return ((at >= boxes[:, :2]) & (at < boxes[:, 2:])).all(1).to(maps.dtype)
