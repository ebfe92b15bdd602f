"""How well a map marks an object whose pixels are known: its weight there, its order, and its overlap."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limelight.errors import InputError


def weight_by_area(maps: Float[Tensor, "*n rows cols"], covered: Float[Tensor, "rows cols"]) -> Float[Tensor, "*n"]:
    """(Σ_j a_j c_j / Σ_j a_j) / mean c: the share of a map's weight that falls on an object, by its share of the area.

    a ≥ 0 is the map over patches, and c_j the part of patch j that the object covers. 1 is what an even map gives, and
    1 / mean c the most. Raises `InputError` for shapes that do not agree, for weights that are negative, not finite or
    all zero, and for an object that covers nothing.

    >>> import torch
    >>> from limelight.interpret.marking import weight_by_area
    >>> weight_by_area(torch.tensor([[3.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    tensor(3.)
    """
    _require_shapes("weight_by_area", maps, covered)
    total = maps.sum((-2, -1))
    if not maps.isfinite().all() or (maps < 0).any() or (total <= 0).any():
        raise InputError("weight_by_area expects maps of finite weights, none negative and not all zero")
    if not covered.sum() > 0:
        raise InputError(
            "weight_by_area expects an object that covers some of the picture, got one that covers nothing"
        )
    return (maps * covered).sum((-2, -1)) / total / covered.mean()


def ranked_higher(maps: Float[Tensor, "*n rows cols"], inside: Bool[Tensor, "rows cols"]) -> Float[Tensor, "*n"]:
    """P(a_i > a_j) + ½ P(a_i = a_j) for a random i inside and j outside: the area under the ROC curve.

    ½ is what an even map gives, and 1 the most. It depends on the order of a map's values alone, so that maps of
    different kinds can be compared. Raises `InputError` for shapes that do not agree, values that are not finite, and
    if nothing is inside or nothing outside.

    >>> import torch
    >>> from limelight.interpret.marking import ranked_higher
    >>> ranked_higher(torch.tensor([[3.0, 1.0], [1.0, 0.0]]), torch.tensor([[True, False], [True, False]]))
    tensor(0.8750)
    """
    _require_shapes("ranked_higher", maps, inside)
    if not maps.isfinite().all():
        raise InputError("ranked_higher expects finite maps, got NaN or infinite values")
    if inside.all() or not inside.any():
        raise InputError("ranked_higher expects patches both inside and outside of the object")
    ours, others = maps[..., inside], maps[..., ~inside].sort(-1).values
    below, upto = (torch.searchsorted(others, ours.contiguous(), right=right) for right in (False, True))
    return (below + upto).to(maps.dtype).mean(-1) / (2 * others.shape[-1])


def stretched(maps: Float[Tensor, "*n rows cols"]) -> Float[Tensor, "*n rows cols"]:
    """(a − min a) / (max a − min a) of each map: from 0 to 1. A map that is the same everywhere becomes 0.

    >>> import torch
    >>> from limelight.interpret.marking import stretched
    >>> stretched(torch.tensor([[1.0, 2.0], [3.0, 1.0]]))
    tensor([[0.0000, 0.5000],
            [1.0000, 0.0000]])
    """
    least, most = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return torch.where(most > least, (maps - least) / torch.where(most > least, most - least, 1), 0)


def overlap_above(
    maps: Float[Tensor, "*n h w"], mask: Bool[Tensor, "h w"], shares: Float[Tensor, " shares"]
) -> Float[Tensor, "*n shares"]:
    """|A ∩ M| / |A ∪ M| for A = {a ≥ share · max a}, for each of these shares: the IoU of a thresholded map and a mask.

    Raises `InputError` for shapes that do not agree, and for a mask without a pixel.

    >>> import torch
    >>> from limelight.interpret.marking import overlap_above
    >>> seen = torch.tensor([[1.0, 0.6], [0.2, 0.0]])
    >>> overlap_above(seen, torch.tensor([[True, True], [False, False]]), torch.tensor([0.1, 0.5, 0.9]))
    tensor([0.6667, 1.0000, 0.5000])
    """
    _require_shapes("overlap_above", maps, mask)
    if not mask.any():
        raise InputError("overlap_above expects a mask with at least one pixel")
    peaks = maps.amax((-2, -1), keepdim=True)
    found = []
    for share in shares.tolist():
        above = maps >= share * peaks
        found.append((above & mask).sum((-2, -1)) / (above | mask).sum((-2, -1)))
    return torch.stack(found, -1)


def _require_shapes(name: str, maps: Tensor, other: Tensor) -> None:
    if other.ndim != 2 or maps.ndim < 2 or maps.shape[-2:] != other.shape:
        raise InputError(
            f"{name} expects maps (…, rows, cols) and an object of the same rows and cols, got {tuple(maps.shape)} and "
            f"{tuple(other.shape)}"
        )
