"""What the command line shows: tables, progress with the time left, and the same as JSON."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from limelight.experiment.claim import Claim
from limelight.experiment.forest import MARKS, expectation, number
from limelight.experiment.report import Entry
from limelight.experiment.results import Record
from limelight.experiment.statistics import CONFIDENCE
from limelight.experiment.verdict import Part

_OUT, _ASIDE = Console(), Console(stderr=True)
_STYLE = {"supported": "green", "refuted": "red", "mixed": "yellow", "inconclusive": "bright_black"}
_HUE = {"holds": "green", "fails": "red", "undecided": "bright_black"}
_MARK = {outcome: f"[{hue}]{MARKS[outcome]}[/]" for outcome, hue in _HUE.items()}

Told = tuple[Claim, Entry | None]


def tell(sentence: str) -> None:
    """A sentence beside the output."""
    _ASIDE.print(f"limelight: {escape(sentence)}", highlight=False, soft_wrap=True)


def tell_damaged(damaged: Sequence[str]) -> None:
    """What lies among the results and is none."""
    for sentence in damaged:
        tell(sentence)


def tell_report(path: Path, size: int) -> None:
    """Where the report is."""
    _OUT.print(
        f"Report: {path.resolve()} ({size / 1e6:.1f} MB); open it in a browser.", highlight=False, soft_wrap=True
    )


@contextmanager
def progress(total: int, known: int) -> Iterator[Callable[[Record], None]]:
    """A bar with the time left on a terminal, a line at every tenth elsewhere."""
    if known == total:
        tell(f"all {total} runs have results already")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    started, counted = time.monotonic(), 0
    with Progress(*columns, console=_ASIDE, transient=True, disable=not _ASIDE.is_terminal) as shown:
        task = shown.add_task("runs", total=total, completed=known)

        def done(record: Record) -> None:
            nonlocal counted
            counted += 1
            shown.update(task, advance=1, description=f"{record.claim}: {record.arm}"[:44].ljust(44))
            if record.status != "done":
                tell(f"{record.claim}, {record.arm}, seed {record.seed}: {record.status}: {record.reason}")
            to_do, tenth = total - known, max(1, (total - known) // 10)
            if not _ASIDE.is_terminal and (counted % tenth == 0 or counted == to_do):
                left = (time.monotonic() - started) / counted * (to_do - counted)
                tell(f"{known + counted} of {total} runs, about {left:.0f} s left")

        yield done


def show_list(entries: Sequence[Told]) -> None:
    """The claims in a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("claim", "statement", "verdict"):
        table.add_column(heading)
    for claim, entry in entries:
        table.add_row(f"[bold]{claim.name}[/]", escape(claim.title), _verdict(entry))
    _OUT.print(table)


def show_verdicts(entries: Sequence[Told]) -> None:
    """Each verdict in a sentence, and the table of verdicts last, where the eye ends."""
    table = Table(box=None, pad_edge=False)
    for heading in ("claim", "verdict", "parts", "seeds"):
        table.add_column(heading, no_wrap=True)
    for claim, entry in entries:
        if entry is None:
            table.add_row(claim.name, _verdict(entry))
        else:
            parts = " ".join(_MARK[part.outcome] for part in entry.verdict.parts)
            table.add_row(claim.name, _verdict(entry), parts, str(entry.seeds))
    for claim, entry in entries:
        if entry is None:
            continue
        chief = entry.verdict.parts[0]
        _OUT.print(f"[bold]{escape(claim.title)}[/]: {_verdict(entry)}")
        _OUT.print(escape(entry.verdict.sentence), highlight=False)
        _OUT.print(
            f"[dim]Chief effect: {_effect(chief)}, {CONFIDENCE:.0%} interval; expected {expectation(chief)}.[/]\n"
        )
    _OUT.print(table)
    _OUT.print("[dim]✓ holds  ✗ does not  ? undecided[/]")


def show_claim(claim: Claim, entry: Entry | None) -> None:
    """A claim in full."""
    _OUT.print(f"[bold]{escape(claim.title)}[/]\n")
    _OUT.print(escape(claim.question), highlight=False)
    _OUT.print(f"\nSource: {escape(claim.source)}\nFile:   {inspect.getsourcefile(type(claim))}\n", highlight=False)
    arms = Table("arm", "", box=None, pad_edge=False)
    for arm, says in claim.arms.items():
        arms.add_row(f"[bold]{escape(arm)}[/]", escape(says))
    _OUT.print(arms)
    measures = Table("measure", "", "unit", box=None, pad_edge=False)
    for name, measure in claim.measures.items():
        measures.add_row(f"[bold]{escape(name)}[/]", escape(measure.says), escape(measure.unit))
    _OUT.print(measures)
    if entry is None:
        _OUT.print(f"\nNo verdict yet: run [bold]limelight run {claim.name}[/].")
        return
    parts = Table("", "part", f"effect \\[{CONFIDENCE:.0%} interval]", "expected", box=None, pad_edge=False)
    for part in entry.verdict.parts:
        parts.add_row(_MARK[part.outcome], escape(part.says), _effect(part), expectation(part))
    control = entry.verdict.control
    parts.add_row("", f"[dim]control, ought to fail: {escape(control.says)}[/]", _effect(control), expectation(control))
    _OUT.print(parts)
    _OUT.print(f"\n{_verdict(entry)}, {entry.seeds} seeds: {escape(entry.verdict.sentence)}", highlight=False)


def as_json(claim: Claim, entry: Entry | None) -> dict[str, Any]:
    """A claim and its verdict as plain data; a number that is not finite is null."""
    told: dict[str, Any] = {
        "name": claim.name, "title": claim.title, "question": claim.question, "source": claim.source,
        "arms": dict(claim.arms), "control": claim.control, "verdict": None,
    }  # fmt: skip
    if entry is None:
        return told
    return told | {
        "verdict": entry.verdict.outcome,
        "sentence": entry.verdict.sentence,
        "seeds": entry.seeds,
        "confidence": CONFIDENCE,
        "parts": [_part_json(part) for part in entry.verdict.parts],
        "control_part": _part_json(entry.verdict.control),
        "failures": [
            {"arm": record.arm, "seed": record.seed, "status": record.status, "reason": record.reason}
            for record in entry.results.failures
        ],
        "command": entry.command,
    }


def _part_json(part: Part) -> dict[str, Any]:
    numbers = {
        "estimate": part.effect.estimate,
        "low": part.effect.low,
        "high": part.effect.high,
        "threshold": part.threshold,
    }
    finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {
        "says": part.says,
        "outcome": part.outcome,
        "expects": part.expects,
        "unit": part.unit,
        "n": part.effect.n,
        **finite,
    }


def _verdict(entry: Entry | None) -> str:
    if entry is None:
        return "[dim]no verdict yet[/]"
    outcome = entry.verdict.outcome
    return f"[bold {_STYLE[outcome]}]{outcome}[/]"


def _effect(part: Part) -> str:
    return escape(f"{number(part.effect.estimate)} [{number(part.effect.low)}, {number(part.effect.high)}] {part.unit}")
