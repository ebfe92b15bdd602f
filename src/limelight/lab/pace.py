"""A limit on how often a simulation makes a measurement that takes longer than a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """When to measure again: at least `pause` seconds after the last time, and never for more than `share` of the time.

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
        """Run the measurement in this block, so that its time is counted."""
        start = time.monotonic()
        yield
        end = time.monotonic()
        self._next = end + max(self._pause, (end - start) * (1 / self._share - 1))

    def postpone(self) -> None:
        """Do not measure until `pause` seconds from now."""
        self._next = time.monotonic() + self._pause
