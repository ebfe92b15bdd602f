"""A curve over a whole run, with a bounded number of points however long the run is."""

from __future__ import annotations

import numpy as np

_MOST = 400


class History:
    """Values by step. When there are too many, every second one is dropped, so memory is bounded. The first is kept."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self.clear()

    def clear(self) -> None:
        self._every = 1
        self._kept: list[tuple[int, list[float]]] = []
        self._newest: tuple[int, list[float]] | None = None

    def add(self, step: int, values: list[float]) -> None:
        self._newest = step, values
        if step % self._every:
            return
        self._kept.append(self._newest)
        if len(self._kept) > _MOST:
            self._every *= 2
            self._kept = [point for point in self._kept if point[0] % self._every == 0]

    @property
    def _points(self) -> list[tuple[int, list[float]]]:
        """The points that are kept, and the newest one."""
        last = [] if self._newest is None or self._newest in self._kept[-1:] else [self._newest]
        return [*self._kept, *last]

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self._points]

    @property
    def values(self) -> np.ndarray:
        """The values as an array (columns, points)."""
        return np.array([values for _, values in self._points], dtype=float).reshape(-1, self._columns).T
