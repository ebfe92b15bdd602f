"""How do scores become weights? What every normalization is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn

from limelight.errors import InputError
from limelight.kernels.scores import Scores
from limelight.weights import Weights


class Normalization(nn.Module, ABC):
    """Scores s ↦ the operator P, a module so that what it learns is trained with the model that holds it.

    >>> import torch
    >>> from limelight import Attention, Normalization, Sparsemax
    >>> isinstance(Sparsemax(), Normalization)
    True
    """

    temperature: float | Tensor  # scores are divided by it

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0

    @property
    @abstractmethod
    def uses_column_sums(self) -> bool:
        """Does one query's row depend on the other queries? Then a causal mask is refused."""

    @property
    def needs_symmetry(self) -> bool:
        """Is it of symmetric scores alone? Then s_ij = s_ji is required of what it is given."""
        return False

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The batch dimensions of what it holds for single heads, (…, heads); () if nothing."""
        return ()

    @property
    def fused(self) -> bool:
        """Is P applied by the kernel of the scores? Else it takes their rows, a few at a time."""
        return True

    @abstractmethod
    def forward(self, scores: Scores) -> Weights:
        """P, from the scores."""


def require_steps(owner: Normalization, steps: int) -> None:
    """Raise `InputError` unless an iteration is given a whole number of steps ≥ 1."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"{type(owner).__name__}(steps=…) expects a whole number ≥ 1, got {steps!r}")


def require_tolerance(owner: Normalization, tolerance: float) -> None:
    """Raise `InputError` unless an iteration is given a positive finite tolerance."""
    if not 0 < tolerance < math.inf:
        raise InputError(f"{type(owner).__name__}(tolerance=…) expects a positive number, got {tolerance!r}")
