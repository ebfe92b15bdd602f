"""The order of the runs: a warm-up, then peak memory, then rounds until the time is up."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import Tensor

from benchmarks import mechanisms, peers
from benchmarks.contender import BASELINES, WARM_UP_LENGTH, Contender, Setting, forward, training
from benchmarks.measure import Job, Ratio, at_most, neighbors, peak_bytes
from benchmarks.progress import Bar
from benchmarks.results import Row

PATIENCE = 90.0  # the longest time for a first call in seconds, compilation included
SLOW = 8.0  # a contender that takes more than this times the baseline runs at most twice
AGREE = {torch.float32: 1e-3, torch.float64: 1e-6}  # the largest difference from Limelight's outputs; others 0.05

_KNOWN = BASELINES | {mechanisms.APPLIED: mechanisms.APPLIED_ALONE} | mechanisms.MECHANISMS | peers.PEERS
_OWN = set(mechanisms.MECHANISMS)


@dataclass
class Lane:
    """The jobs of one contender, and their times."""

    contender: Contender
    row: Row
    forward: Job | None = None
    training: Job | None = None
    ratios: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cost: float = 0.0  # seconds that its last round took

    @property
    def slow(self) -> bool:
        return any(sum(found) / len(found) > SLOW for found in self.ratios.values())


def lane(contender: Contender, setting: Setting, bar: Bar) -> Lane:
    """A contender that has run once. If it cannot run, its row says why."""
    bar.step(f"warm-up: {contender.name}")
    own = setting.over(contender.shrink)
    kernel = contender.kernel(own) if contender.kernel else ""
    row = Row(contender.name, contender.over, own.shape[2], kernel, contender.like, contender.target)
    found = Lane(contender, row)
    short = own if contender.compiled else own.of_length(min(own.shape[2], WARM_UP_LENGTH))
    try:
        with at_most(PATIENCE):
            out = forward(contender, short)()
        if contender.like:
            row.note = _differs(out, contender, short)
        found.forward = forward(contender, own)
        if contender.trains_on and setting.device not in contender.trains_on:
            row.note = row.note or f"forward only: it has no backward pass on {setting.device}"
        elif contender.trains_on:
            with at_most(PATIENCE):
                training(contender, short)()
            found.training = training(contender, own)
    except Exception as error:  # any error of a peer is the reason why it is skipped
        only = "forward only" if found.forward else "skipped"
        row.note = f"{only}: {_reason(error)}"
    return found


def measure_memory(lanes: Sequence[Lane], setting: Setting, bar: Bar) -> None:
    """Fill in each row's peak memory, and its ratio to its baseline's."""
    known: dict[tuple[str, int], int] = {}
    for each in lanes:
        bar.step(f"memory: {each.row.name}")
        if each.training is None:
            continue
        at = (each.contender.over, each.contender.shrink)
        try:
            if at not in known:
                known[at] = peak_bytes(_warm, setting.device, at[0], setting.over(at[1]))
            each.row.peak = peak_bytes(_warm, setting.device, each.row.name, setting.over(at[1]))
            each.row.memory = each.row.peak / max(known[at], 1)
        except Exception as error:  # out of memory, or the system does not report the peak
            each.row.note = each.row.note or f"no memory: {_reason(error)}"


def run(lanes: Sequence[Lane], setting: Setting, rounds: int, deadline: float, bar: Bar) -> None:
    """Fill in each row's ratios from at most `rounds` rounds. No round begins that would end after the deadline.

    Slow contenders run in the first round, and once more at the end if there is time.
    """
    _round(lanes, setting, bar)
    slow = [each for each in lanes if each.slow]
    others = [each for each in lanes if not each.slow]
    for racing in (*[others] * (rounds - 1), slow):
        if rounds > 1 and time.monotonic() + sum(each.cost for each in racing) <= deadline:
            _round(racing, setting, bar)
    for each in lanes:
        for kind, found in each.ratios.items():
            setattr(each.row, kind, Ratio.of(found))


def _round(lanes: Sequence[Lane], setting: Setting, bar: Bar) -> None:
    groups: dict[tuple[str, int], list[Lane]] = defaultdict(list)
    for each in lanes:
        each.cost = 0.0
        groups[each.contender.over, each.contender.shrink].append(each)
    for (over, shrink), group in groups.items():
        for kind, make in (("forward", forward), ("training", training)):
            racing = [each for each in group if getattr(each, kind)]
            if racing:
                _race(racing, kind, make(_KNOWN[over], setting.over(shrink)), setting.device, bar)


def _race(racing: Sequence[Lane], kind: str, baseline: Job, device: str, bar: Bar) -> None:
    def with_progress(each: Lane) -> Job:
        def job() -> None:
            bar.step(each.row.name)
            try:
                getattr(each, kind)()
            except Exception as error:  # out of memory at full length
                setattr(each, kind, None)
                each.row.note = f"{kind} failed: {_reason(error)}"

        return job

    for each, (own, other) in zip(racing, neighbors(baseline, [with_progress(x) for x in racing], device), strict=True):
        each.cost += own + other
        if getattr(each, kind):
            each.ratios[kind].append(own / other)


def _warm(name: str, setting: Setting) -> Job:
    """The job of a contender's forward and backward pass, after one run at a small length in this process."""
    torch.set_num_threads(setting.threads)
    contender = _KNOWN[name]
    training(contender, setting if contender.compiled else setting.of_length(64))()
    return training(contender, setting)


def _differs(out: object, contender: Contender, setting: Setting) -> str:
    """A note if a peer's output differs from that of its Limelight row, otherwise an empty text."""
    ours = forward(mechanisms.MECHANISMS[contender.like], setting)()
    assert isinstance(out, Tensor)
    assert isinstance(ours, Tensor)
    gap = float((out.double() - ours.double()).abs().max())
    return "" if gap <= AGREE.get(setting.dtype, 0.05) else f"differs from {contender.like} by up to {gap:.2g}"


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and not find_spec(error.name.split(".")[0]):
        return f"{error.name.split('.')[0]} is not installed"
    sentence = str(error).strip().split("\n")[0].split(". ")[0]
    return sentence[:100] or type(error).__name__
