"""What has no weight plays no part: NaN and infinity in rows that are masked or padded away stay where they are.

0 · NaN is NaN, so a plain product carries an uninitialized padding token into every output.
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
    """apply(v), a map of non-negative weights P v, in which rows of v without weight play no part.

    An output is NaN or infinite where a row of v that is so has weight in it, as in exact arithmetic. `mask` is
    the one of the weights; in a compiled graph only the keys that its padding hides are set aside.
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
    """x, with zeros for rows that are not `real` if they hold NaN or infinity; None if others do."""
    if is_finite(x):
        return x
    if real is None:
        return None
    kept = torch.where(real[..., None], x, 0)
    return kept if is_finite(kept) else None
