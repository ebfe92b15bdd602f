"""New modules whose first weights depend on a seed alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def fresh(build: Callable[[], Module], seed: int) -> Module:
    """The module that `build` makes, with weights from this seed, whatever was drawn before; draws nothing itself.

    >>> import torch
    >>> from torch import nn
    >>> from limelight.models.fresh import fresh
    >>> first, second = (fresh(lambda: nn.Linear(2, 1), seed=3) for _ in range(2))
    >>> torch.equal(first.weight, second.weight)
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
