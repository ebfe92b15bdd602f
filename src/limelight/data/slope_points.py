"""Generated data: five lines z = a(y)·x, with a slope for each band of y (after a blog post of hayAbhay)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.data.slope_bands import CENTERS, SLOPES, X_MAX


def slopes(
    n: int,
    generator: torch.Generator,
    x: tuple[float, float] = (0.0, X_MAX),
    noise: float = 0.0,
    values: Sequence[float] = SLOPES,
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
    """n points (x, y) with low ≤ |x| < high, and z = a(y)·x plus normal noise; `values`: a in each of the bands."""
    low, high = x
    band = torch.randint(len(CENTERS), (n,), generator=generator)
    y = torch.tensor(CENTERS)[band] + 0.5 * (torch.rand(n, generator=generator) - 0.5)
    sign = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    across = sign * (low + (high - low) * torch.rand(n, generator=generator))
    z = torch.tensor(values)[band] * across + noise * torch.randn(n, generator=generator)
    return torch.stack([across, y], 1), z
