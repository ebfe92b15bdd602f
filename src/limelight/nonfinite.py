"""Values without weight have no effect: NaN and infinity in masked or padded rows do not reach any output.

Since 0 · NaN is NaN, a plain product would carry an uninitialized padding token into every output.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limelight.mask import Mask, real_keys
from limelight.similarity import is_finite
from limelight.tracing import is_readable


def apply_to_weighted(
    apply: Callable[[Tensor], Tensor], v: Float[Tensor, "*#batch m e"], mask: Mask | None
) -> Float[Tensor, "*batch n e"]:
    """apply(v) = P v for non-negative weights P, where rows of v without weight have no effect.

    An output is NaN or infinite only if a row of v that is NaN or infinite has weight in it. `mask` is the mask of
    the weights; in a compiled graph only rows that its padding hides are left out.
    """
    if not is_readable(v):
        real = real_keys(mask)
        return apply(v if real is None else torch.where(real[..., None], v, 0))
    if is_finite(v):
        return apply(v)
    out = apply(v.masked_fill(~v.isfinite(), 0))
    with torch.no_grad():
        kinds = torch.cat([v.isnan(), v == math.inf, v == -math.inf], -1)
        nan, up, down = (apply(kinds.to(v.dtype)) > 0).chunk(3, -1)
        infinite = out.new_zeros(()).masked_fill(up, math.inf).masked_fill(down, -math.inf)
    return out + infinite.masked_fill(nan | (up & down), math.nan)


def finite_or_padded(x: Float[Tensor, "*#batch n d"], real: Bool[Tensor, "*#batch n"] | None) -> Tensor | None:
    """x, with zeros in rows that are not `real` if they hold NaN or infinity; None if other rows hold them."""
    if is_finite(x):
        return x
    if real is None:
        return None
    kept = torch.where(real[..., None], x, 0)
    return kept if is_finite(kept) else None
