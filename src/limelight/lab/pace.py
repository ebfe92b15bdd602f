"""How often a simulation may measure what takes longer than a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Times of a measurement: `pause` seconds apart, and so seldom that it takes at most `share` of all time.

    Where many workers share a processor, each measurement takes longer and is made less often, so that training and
    pictures keep most of the processor.
    """

    def __init__(self, pause: float, share: float = 0.1) -> None:
        self._pause, self._share, self._next = pause, share, 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """The block is the measurement."""
        start = time.monotonic()
        yield
        end = time.monotonic()
        self._next = end + max(self._pause, (end - start) * (1 / self._share - 1))

    def postpone(self) -> None:
        """Wait for a pause from now on."""
        self._next = time.monotonic() + self._pause
