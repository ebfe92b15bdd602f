"""Convolutional active memory: what a position of a sequence learns of the others by convolutions, not by attention.

Attention reads: each position weighs all others and takes a mean of them. An active memory changes as a whole instead:
every position is computed anew from its neighborhood, and what is far away arrives after several layers. A module here
maps a sequence s (…, n, width) to another of the same shape, so that it can stand where self-attention stands in a
Transformer, or be added to it (`Both`).

`reach` = (before, after) says how many earlier and later positions a convolution sees: (2, 2) is a kernel of width 5
around each position, and (4, 0) a causal one of the same width.

Source: Dowdell & Zhang 2019 (1912.11959). The CGRU is that of the Neural GPU (Kaiser & Sutskever 2015, 1511.08228).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.mask import Mask
from limelight.nn import MultiheadAttention

Reach = tuple[int, int]


class Convolution(nn.Module):
    """(U ∗ s + b)_i = Σ_j U_j s_{i+j} + b, for j from −before to after. Beyond its ends the sequence is zero.

    Raises `InputError` for a reach that is not two whole numbers ≥ 0.

    >>> import torch
    >>> from limelight.models.active_memory import Convolution
    >>> Convolution(4, 6, reach=(2, 1))(torch.zeros(3, 10, 4)).shape
    torch.Size([3, 10, 6])
    """

    def __init__(self, inputs: int, outputs: int, reach: Reach) -> None:
        super().__init__()
        if len(reach) != 2 or any(isinstance(part, bool) or not isinstance(part, int) or part < 0 for part in reach):
            raise InputError(f"reach expects two whole numbers (before, after) ≥ 0, such as (2, 2), got {reach!r}")
        self.before, self.after = reach
        self.linear = nn.Linear((self.before + 1 + self.after) * inputs, outputs)

    def padded(self, s: Float[Tensor, "*n inputs"]) -> Float[Tensor, "*padded inputs"]:
        """The sequence with `before` vectors of zeros in front of it, and `after` behind it."""
        return F.pad(s, (0, 0, self.before, self.after))

    def forward(self, s: Float[Tensor, "*n inputs"]) -> Float[Tensor, "*n outputs"]:
        # All shifts of the sequence side by side, and one product with all U_j. For sequences this short it takes less
        # time than torch's convolution, which wants the width in front of the positions.
        padded, n = self.padded(s), s.shape[-2]
        shifts = [padded[..., j : j + n, :] for j in range(self.before + 1 + self.after)]
        return self.linear(torch.cat(shifts, -1))


class PersistentConvolution(Convolution):
    """A convolution that sees learned vectors beyond the ends of the sequence, in place of zeros.

    They are the same for every sequence: a memory that persists.

    >>> import torch
    >>> from limelight.models.active_memory import PersistentConvolution
    >>> PersistentConvolution(4, 6, reach=(2, 1))(torch.zeros(3, 10, 4)).shape
    torch.Size([3, 10, 6])
    """

    def __init__(self, inputs: int, outputs: int, reach: Reach) -> None:
        super().__init__(inputs, outputs, reach)
        self.front, self.back = (nn.Parameter(0.1 * torch.randn(size, inputs)) for size in reach)

    def padded(self, s: Float[Tensor, "*n inputs"]) -> Float[Tensor, "*padded inputs"]:
        front, back = (edge.expand(*s.shape[:-2], -1, -1) for edge in (self.front, self.back))
        return torch.cat([front, s, back], -2)


class ConvolutionMemory(nn.Module):
    """s' = GELU(U ∗ s + b): one convolution, after which each position knows its neighborhood.

    `convolution` is `Convolution`, or `PersistentConvolution` for a persistent memory.

    >>> import torch
    >>> from limelight.models.active_memory import ConvolutionMemory
    >>> ConvolutionMemory(4, reach=(2, 2))(torch.zeros(3, 10, 4)).shape
    torch.Size([3, 10, 4])
    """

    def __init__(self, width: int, reach: Reach, convolution: type[Convolution] = Convolution) -> None:
        super().__init__()
        self.update = convolution(width, width, reach)

    def forward(self, s: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        return F.gelu(self.update(s))


class HighwayMemory(nn.Module):
    """s' = g ∘ s + (1 − g) ∘ GELU(U ∗ s + b) with the gate g = clip(1.2 σ(V ∗ s + c) − 0.1, 0, 1).

    The gate decides what is kept. It is stretched and clipped, so that it can be fully open or shut, where what is kept
    is kept exactly.

    >>> import torch
    >>> from limelight.models.active_memory import HighwayMemory
    >>> HighwayMemory(4, reach=(2, 2))(torch.zeros(3, 10, 4)).shape
    torch.Size([3, 10, 4])
    """

    def __init__(self, width: int, reach: Reach) -> None:
        super().__init__()
        self.gate, self.update = Convolution(width, width, reach), Convolution(width, width, reach)

    def forward(self, s: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        g = (1.2 * self.gate(s).sigmoid() - 0.1).clamp(0, 1)
        return g * s + (1 - g) * F.gelu(self.update(s))


class CGRU(nn.Module):
    """s' = u ∘ s + (1 − u) ∘ tanh(U ∗ (r ∘ s) + b), with u = σ(U' ∗ s + b') and r = σ(U'' ∗ s + b'').

    A convolutional gated recurrent unit. The update gate u says what a position keeps, the reset gate r what its
    neighbors see of it.

    >>> import torch
    >>> from limelight.models.active_memory import CGRU
    >>> CGRU(4, reach=(2, 2))(torch.zeros(3, 10, 4)).shape
    torch.Size([3, 10, 4])
    """

    def __init__(self, width: int, reach: Reach) -> None:
        super().__init__()
        self.gates, self.update = Convolution(width, 2 * width, reach), Convolution(width, width, reach)

    def forward(self, s: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        u, r = self.gates(s).sigmoid().chunk(2, -1)
        return u * s + (1 - u) * torch.tanh(self.update(r * s))


class SelfAttention(nn.Module):
    """s' = MultiheadAttention(s, s, s) under a mask: every position reads all that it may see.

    >>> import torch
    >>> from limelight.mask import causal
    >>> from limelight.models.active_memory import SelfAttention
    >>> SelfAttention(4, heads=2, mask=causal)(torch.zeros(3, 10, 4)).shape
    torch.Size([3, 10, 4])
    """

    def __init__(self, width: int, heads: int, mask: Mask | None = None) -> None:
        super().__init__()
        self.attention, self.mask = MultiheadAttention(width, heads, batch_first=True), mask

    def forward(self, s: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n width"]:
        return self.attention(s, s, s, need_weights=False, attn_mask=self.mask)[0]


class Both(nn.Module):
    """s' = first(s) + second(s): an active memory beside self-attention.

    >>> import torch
    >>> from limelight.models.active_memory import CGRU, Both, SelfAttention
    >>> Both(CGRU(4, reach=(2, 2)), SelfAttention(4, heads=2))(torch.zeros(3, 10, 4)).shape
    torch.Size([3, 10, 4])
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, s: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n width"]:
        return self.first(s) + self.second(s)
