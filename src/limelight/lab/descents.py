"""Networks that learn side by side until they are told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from limelight.errors import DivergenceError
from limelight.models.training import descend

_FOREVER = 10**9

Descents = Mapping[str, Iterator[float]]


def descent(model: nn.Module, loss: Callable[[], Tensor], rate: float) -> Iterator[float]:
    """`descend` without an end."""
    return descend(model, loss, _FOREVER, rate)


def stepped(descents: Descents) -> list[float]:
    """One step of each, and its loss before it. Raises `DivergenceError` for the page to tell, now and ever after."""
    return [_stepped(name, each) for name, each in descents.items()]


def _stepped(name: str, one: Iterator[float]) -> float:
    try:
        return next(one)
    except (DivergenceError, StopIteration):  # the second where it is asked again
        raise DivergenceError(
            f"The loss of “{name}” is no longer finite: lower the learning rate, and press Reset."
        ) from None
