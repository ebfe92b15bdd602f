"""A float mask, which is added to the scores, as what it hides and what it adds."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.mask.base import Boolean
from limelight.tracing import holds


def split_additive(
    mask: Float[Tensor, "*#batch #n #m"],
) -> tuple[Boolean | None, Float[Tensor, "*#batch #n #m"] | None]:
    """(the pairs that it leaves, the finite numbers that it adds to them); None for what it does not do.

    −∞ and the least number of its dtype hide a pair. Where its entries cannot be looked at it is taken to do both.
    """
    hidden = mask.detach() <= torch.finfo(mask.dtype).min
    added = mask.masked_fill(hidden, 0)
    adds = mask.requires_grad or holds((added != 0).any())
    return Boolean(~hidden) if holds(hidden.any()) else None, added if adds else None
