"""The learned share of the second attention in differential attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.heads import require_count


class DifferentialShare(nn.Module):
    """λ = exp⟨a₁, b₁⟩ − exp⟨a₂, b₂⟩ + λ₀ with learned vectors a, b: the share in differential attention.

    λ₀ = 0.8 − 0.6 exp(−0.3 (layer − 1)), so that in deeper layers more is subtracted: 0.2 in the first, at most 0.8.
    The vectors have the `width` of a head's queries, and start as normal numbers of standard deviation 0.1. All heads
    of a layer share λ. The paper multiplies each head's normalized output by 1 − λ₀, which is `1 - share.initial`.

    Raises `InputError` for a width or a layer below 1.

    Source: Ye et al. 2024 (2410.05258), equations 2 and 3.

    >>> from limelight.nn import DifferentialShare
    >>> share = DifferentialShare(width=32, layer=1)
    >>> round(share.initial, 2), share().shape
    (0.2, torch.Size([]))
    """

    def __init__(
        self,
        width: int,
        layer: int = 1,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, size in (("width", width), ("layer", layer)):
            require_count(f"DifferentialShare({name}=…)", size)
        super().__init__()
        self.initial = 0.8 - 0.6 * math.exp(-0.3 * (layer - 1))
        self.queries, self.keys = (
            nn.Parameter(0.1 * torch.randn(2, width, device=device, dtype=dtype)) for _ in range(2)
        )

    def forward(self) -> Float[Tensor, ""]:
        """λ, one number."""
        first, second = (self.queries * self.keys).sum(-1).exp()
        return first - second + self.initial
