"""How do scores become weights? What every normalisation is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from limelight.kernels.scores import Scores
from limelight.weights import Weights


class Normalisation(nn.Module, ABC):
    """Scores s ↦ the operator P, a module so that what it learns is trained with the model that holds it."""

    temperature: float | Tensor = 1.0  # scores are divided by it

    @property
    @abstractmethod
    def mixes_queries(self) -> bool:
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
