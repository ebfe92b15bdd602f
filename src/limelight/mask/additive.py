"""A float mask, which is added to the scores, split into a boolean mask and finite numbers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.mask.base_mask import Boolean
from limelight.tracing import is_readable


def split_additive(
    mask: Float[Tensor, "*#batch #n #m"], n: int
) -> tuple[Boolean | None, Float[Tensor, "*#batch #n #m"] | None]:
    """(a mask of the pairs that it allows, or None for all; the finite numbers that it adds to them, or None for zero).

    −∞ and the least number of its dtype hide a pair. If its entries cannot be read, neither result is None.
    """
    if mask.shape[-2] == n and _is_of_keys(mask):
        mask = mask[..., :1, :]
    if mask.numel() and is_readable(mask):
        least, most = (float(x) for x in mask.detach().aminmax())  # one pass settles the common case
        if least > torch.finfo(mask.dtype).min:
            return None, None if least == most == 0 and not mask.requires_grad else mask
    hidden = mask.detach() <= torch.finfo(mask.dtype).min
    hides, adds = True, True
    if is_readable(mask):
        # Hidden entries are not zero, so if as many entries are hidden as are not zero, nothing is added. Counting
        # costs less than making an array of the numbers that are added.
        count = int(hidden.count_nonzero())
        hides, adds = count > 0, mask.requires_grad or int(mask.count_nonzero()) != count
    return Boolean(~hidden) if hides else None, mask.masked_fill(hidden, 0) if adds else None


def _is_of_keys(mask: Float[Tensor, "*#batch #n #m"]) -> bool:
    """True if all rows are equal, as in expanded key padding: then one row is enough."""
    if mask.shape[-2] < 2 or mask.requires_grad or not is_readable(mask):
        return False
    first = mask[..., :1, :]
    return mask.stride(-2) == 0 or (torch.equal(mask[..., -1:, :], first) and bool((mask == first).all()))
