"""How fast, and how much memory, side by side? Times are interleaved and quoted as ratios.

On a shared machine a single time means little. Every round runs every contender once, in turn,
and a ratio is taken within its round; the median and the quartiles over rounds are printed.
Peak memory is the growth of a fresh process's resident set, one process for each contender.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Job = Callable[[], object]

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux


@dataclass(frozen=True)
class Ratio:
    """A contender's time over the baseline's, over rounds."""

    median: float
    low: float
    high: float


def ratios(jobs: Mapping[str, Job], baseline: str, rounds: int) -> dict[str, Ratio]:
    """Every job's time over the baseline's: median and quartiles over `rounds` interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()  # a warm-up
    for _ in range(rounds):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - started)
    return {name: _summary([a / b for a, b in zip(own, times[baseline], strict=True)]) for name, own in times.items()}


def peak_bytes(build: Callable[[str], Job], name: str) -> int:
    """By how many bytes job `name` raises the peak resident set of a fresh process that has its inputs."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_growth, (build, name))


def _peak_growth(build: Callable[[str], Job], name: str) -> int:
    job = build(name)
    _CLEAR.write_text("5")  # the high-water mark starts again from what is resident now
    before = _status("VmRSS")
    job()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _summary(values: list[float]) -> Ratio:
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Ratio(statistics.median(values), low, high)
