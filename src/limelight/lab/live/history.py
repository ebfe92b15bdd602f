"""A curve that may go on for hours: as many points as can be drawn, of all its length."""

from __future__ import annotations

import numpy as np

_MOST = 400


class History:
    """Values by step; when they are too many every second one goes, so memory is bounded and the start stays."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self.clear()

    def clear(self) -> None:
        self._every, self._steps, self._kept = 1, [], []  # type: tuple[int, list[int], list[list[float]]]

    def add(self, step: int, values: list[float]) -> None:
        if step % self._every:
            return
        self._steps.append(step)
        self._kept.append(values)
        if len(self._steps) > _MOST:
            self._every *= 2
            keep = [i for i, at in enumerate(self._steps) if at % self._every == 0]
            self._steps, self._kept = [self._steps[i] for i in keep], [self._kept[i] for i in keep]

    @property
    def steps(self) -> list[int]:
        return self._steps

    @property
    def values(self) -> np.ndarray:
        """(columns, points)."""
        return np.array(self._kept, dtype=float).reshape(-1, self._columns).T
