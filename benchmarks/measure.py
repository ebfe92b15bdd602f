"""Time and memory. Every time is divided by that of a baseline that ran just before or after it.

On a shared machine a single time is not reliable. A round runs baseline, contender, contender, baseline, … so that each
contender has a neighboring baseline; medians and quartiles are over rounds. Peak memory is the growth of a fresh
process's resident set, or on a GPU the largest amount of allocated memory.
"""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

Job = Callable[[], object]

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux


@dataclass(frozen=True)
class Ratio:
    """A contender's time over the baseline's: median and quartiles over rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @staticmethod
    def of(values: Sequence[float]) -> Ratio:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
        return Ratio(statistics.median(values), low, high, len(values))


def seconds(job: Job, device: str) -> float:
    """The seconds that the job takes, until the device has finished it."""
    _wait(device)
    started = time.perf_counter()
    job()
    _wait(device)
    return time.perf_counter() - started


def neighbors(baseline: Job, contenders: Sequence[Job], device: str) -> list[tuple[float, float]]:
    """(seconds of a contender, of its neighboring baseline); the baseline runs first and after every two contenders."""
    found: list[tuple[float, float]] = []
    before = seconds(baseline, device)
    for i in range(0, len(contenders), 2):
        times = [seconds(job, device) for job in contenders[i : i + 2]]
        if len(times) == 1:
            return [*found, (times[0], before)]
        after = seconds(baseline, device)
        found += [(times[0], before), (times[1], after)]
        before = after
    return found


def peak_bytes(build: Callable[..., Job], device: str, *arguments: object) -> int:
    """The bytes by which the job, built from these arguments, raises the peak memory above that of its inputs.

    Raises what the job raises, and OSError if the system does not report the peak of a process.
    """
    if device == "cuda":
        job = build(*arguments)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        job()
        return torch.cuda.max_memory_allocated() - before
    if not _CLEAR.exists():
        raise OSError("peak memory is read from Linux's /proc")
    # A fork of a process that has imported everything and run nothing starts at once, and has no other threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.mechanisms", "benchmarks.peers", "limelight.classical"])
    with context.Pool(1) as pool:
        return pool.apply(_peak_growth, (build, arguments))


def _peak_growth(build: Callable[..., Job], arguments: tuple[object, ...]) -> int:
    return peak_growth(build(*arguments))


def peak_growth(job: Job) -> int:
    """The bytes by which the job raises the peak memory of this process above its present size; on Linux."""
    _CLEAR.write_text("5")  # resets the peak to the present resident size
    before = _status("VmRSS")
    job()
    return _status("VmHWM") - before


@contextmanager
def at_most(limit: float) -> Iterator[None]:
    """Raise TimeoutError if the block takes longer than `limit` seconds (because of a compiler, say)."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took longer than {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _status(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
