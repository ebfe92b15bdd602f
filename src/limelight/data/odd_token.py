"""Generated data: sets of tokens that are alike but for one, whose class is the target."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CLASSES, WIDTH = 8, 16
LENGTH, NOISE = 2.0, 0.3  # of a class's prototype, and the standard deviation of each number of a token around it


def prototypes(generator: torch.Generator) -> Float[Tensor, "classes width"]:
    """One point for each class, in a random direction at the distance `LENGTH` from zero."""
    return LENGTH * F.normalize(torch.randn(CLASSES, WIDTH, generator=generator), dim=-1)


def odd_token(
    n: int, tokens: int, centers: Float[Tensor, "classes width"], generator: torch.Generator
) -> tuple[Float[Tensor, "n tokens width"], Int[Tensor, " n"], Int[Tensor, " n"]]:
    """(tokens, target, which): n sets, in each of which all tokens but one are of the same class.

    `target` is the class of the one that differs, and `which` is its position.
    """
    common = torch.randint(CLASSES, (n,), generator=generator)
    target = (common + torch.randint(1, CLASSES, (n,), generator=generator)) % CLASSES
    which = torch.randint(tokens, (n,), generator=generator)
    labels = common[:, None].repeat(1, tokens)
    labels[torch.arange(n), which] = target
    return centers[labels] + NOISE * torch.randn(n, tokens, WIDTH, generator=generator), target, which
