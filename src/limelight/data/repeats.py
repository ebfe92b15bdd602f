"""Texts that repeat themselves: random tokens, and then the same tokens once more."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def repeated(half: int, least: int, most: int, generator: torch.Generator) -> Int[Tensor, "1 n"]:
    """Random tokens least … most − 1, `half` of them, twice in a row: the first half determines the second.

    >>> import torch
    >>> from limelight.data.repeats import repeated
    >>> ids = repeated(3, 100, 200, torch.Generator().manual_seed(0))
    >>> ids.shape, ids[0, :3].tolist() == ids[0, 3:].tolist()
    (torch.Size([1, 6]), True)
    """
    once = torch.randint(least, most, (1, half), generator=generator)
    return torch.cat([once, once], 1)
