"""How many keys each query may see under a mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from limelight.mask.band import Band
from limelight.mask.base_mask import Mask, conjuncts
from limelight.mask.given import Padding, real_keys

_ENTRIES = 1 << 22  # entries of a mask that are counted at a time


def count_visible(mask: Mask, n: int, m: int, device: torch.device) -> Int[Tensor, "*#batch n"]:
    """Σ_j [query i may see key j], in memory linear in n and m; a padded query may be counted as any other."""
    parts = conjuncts(mask)
    if all(isinstance(part, Band | Padding) for part in parts):
        return _count_in_bands([part for part in parts if isinstance(part, Band)], mask, n, m, device)
    step = max(1, _ENTRIES // max(m, 1))
    some = [slice(start, min(start + step, n)) for start in range(0, max(n, 1), step)]
    return torch.cat([mask.block(rows, mask.span(rows, m), device).sum(-1) for rows in some], -1)


def _count_in_bands(
    bands: Sequence[Band], mask: Mask, n: int, m: int, device: torch.device
) -> Int[Tensor, "*#batch n"]:
    # Under bands a query sees the keys of one range, from i − before to i + after. With c_j the number of real keys
    # among the first j, it sees c_stop − c_start of them, so that no entry of the mask is computed.
    real = real_keys(mask)
    real = torch.ones(m, dtype=torch.bool, device=device) if real is None else real
    before = torch.cat([real.new_zeros(*real.shape[:-1], 1), real], -1).cumsum(-1)
    i = torch.arange(n, device=device)
    start, stop = torch.zeros_like(i), torch.full_like(i, m)
    for band in bands:
        start = start if band.before is None else torch.maximum(start, i - band.before)
        stop = stop if band.after is None else torch.minimum(stop, i + band.after + 1)
    start, stop = start.clamp(0, m), stop.clamp(0, m)
    return (before[..., stop] - before[..., start]).clamp(min=0)
