"""A float mask, which is added to the scores, as what it hides and what it adds."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.mask.base import Boolean
from limelight.tracing import is_readable


def split_additive(
    mask: Float[Tensor, "*#batch #n #m"],
) -> tuple[Boolean | None, Float[Tensor, "*#batch #n #m"] | None]:
    """(the pairs that it leaves, the finite numbers that it adds to them); None for what it does not do.

    −∞ and the least number of its dtype hide a pair. Where its entries cannot be looked at it is taken to do both.
    """
    hidden = mask.detach() <= torch.finfo(mask.dtype).min
    hides = not is_readable(hidden) or bool(hidden.any())
    # Every hidden entry is other than zero, so equal counts say that nothing is added: cheaper than writing it out.
    adds = mask.requires_grad or not is_readable(mask) or bool(mask.count_nonzero() != hidden.count_nonzero())
    return Boolean(~hidden) if hides else None, mask.masked_fill(hidden, 0) if adds else None
