"""The progress of a benchmark: a bar with the time left on a terminal, otherwise a line after every tenth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

_ASIDE = Console(stderr=True)


class Bar:
    """A bar for steps of about the same length. The time left is at most that until the deadline."""

    def __init__(self, shown: Progress, task: TaskID, total: int, deadline: float) -> None:
        self._shown, self._task, self._total, self._deadline = shown, task, total, deadline
        self._started, self._counted = time.monotonic(), 0

    def step(self, name: str) -> None:
        """Count one step, and show its name and the time left."""
        self._counted += 1
        now = time.monotonic()
        mean = (now - self._started) / self._counted
        left = max(min(mean * (self._total - self._counted), self._deadline - now), 0)
        about = f"about {left:.0f} s left"
        self._shown.update(self._task, advance=1, description=name[:40].ljust(40), left=about)
        if not _ASIDE.is_terminal and self._counted % max(1, self._total // 10) == 0:
            _ASIDE.print(f"bench: {self._counted} of {self._total} steps, {about}", highlight=False, soft_wrap=True)


@contextmanager
def progress(total: int, deadline: float) -> Iterator[Bar]:
    """Show a bar with `total` steps within the block."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=_ASIDE, transient=True, disable=not _ASIDE.is_terminal) as shown:
        yield Bar(shown, shown.add_task("", total=total, left=""), total, deadline)
