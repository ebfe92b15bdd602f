"""Networks that are trained side by side for as long as the page plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from limelight.errors import DivergenceError
from limelight.models.training import descend

_FOREVER = 10**9

Descents = Mapping[str, Iterator[float]]


def descent(model: nn.Module, loss: Callable[[], Tensor], rate: float) -> Iterator[float]:
    """`descend` with no limit on the number of steps."""
    return descend(model, loss, _FOREVER, rate)


def stepped(descents: Descents) -> list[float]:
    """Take one step of each descent and return the losses before it. Raises `DivergenceError` for a non-finite loss."""
    return [_stepped(name, each) for name, each in descents.items()]


def _stepped(name: str, one: Iterator[float]) -> float:
    try:
        return next(one)
    except (DivergenceError, StopIteration):  # StopIteration after the first divergence
        raise DivergenceError(
            f"The loss of “{name}” is no longer finite: lower the learning rate, and press Reset."
        ) from None
