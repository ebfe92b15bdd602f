"""The output of the command line: tables, progress with the time left, and the same content as JSON."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from limelight.experiment.claim import Claim
from limelight.experiment.results import Record
from limelight.experiment.statistics import CONFIDENCE
from limelight.experiment.verdict import Outcome, Part
from limelight.report.effect_text import HEADING, MARKS, doubt_text, effect_text, expectation
from limelight.report.entry import Entry
from limelight.report.plain_text import encodable, one_line, visible
from limelight.report.summary import Summary

_STYLE = {"supported": "green", "refuted": "red", "mixed": "yellow", "inconclusive": "bright_black"}
_HUE = {"holds": "green", "fails": "red", "undecided": "bright_black"}
_LEAST_WRAPPED = 24  # the least width, in characters, at which a wrapped sentence is easy to read

Styled = str | tuple[str, str]  # a text, or a text and its style


class Page(Console):
    """Standard output or error. Texts are never read as Rich's markup, and control characters are escaped.

    A page is made anew for each use, since Rich reads the width and the kind of the terminal when a console is made.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def text(self, *parts: Styled) -> Text:
        """The parts in their styles, with control characters escaped and characters missing in the encoding spelled."""
        pairs = [(part, "") if isinstance(part, str) else part for part in parts]
        return Text.assemble(*((encodable(visible(words), self.encoding), style) for words, style in pairs))

    def say(self, *parts: Styled) -> None:
        """Print a paragraph, wrapped at the width of the terminal."""
        self.print(self.text(*parts))

    def whole_line(self, *parts: Styled) -> None:
        """Print a line without inserting newlines, so that it can be copied as a whole if the terminal wraps it."""
        self.print(self.text(*parts), soft_wrap=True)

    def rows(self, headings: Mapping[str, bool], rows: Sequence[Sequence[Text]]) -> None:
        """Print a table. `headings` maps each heading to whether its column may wrap.

        If the table is too wide for the terminal, each row is printed as a block of lines. Columns of names, which
        users copy, neither wrap nor are cut.
        """
        table = Table(box=None, pad_edge=False)
        for heading, wraps in headings.items():
            table.add_column(heading, no_wrap=not wraps)
        for row in rows:
            table.add_row(*row)
        columns = zip(headings.items(), zip(*rows, strict=True), strict=True) if rows else ()
        needed = 2 * (len(headings) - 1) + sum(
            _LEAST_WRAPPED if wraps else max(len(heading), *(trial.cell_len for trial in trials))
            for (heading, wraps), trials in columns
        )
        if needed <= self.width:
            self.print(table)
        else:
            self._blocks(headings, rows)

    def _blocks(self, headings: Mapping[str, bool], rows: Sequence[Sequence[Text]]) -> None:
        (_, first_wraps), *others = headings.items()
        for row in rows:
            self.print(row[0], soft_wrap=not first_wraps)
            for (heading, _), trial in zip(others, row[1:], strict=True):
                if trial.plain:
                    named = Text.assemble(f"{heading}: ", trial) if heading else trial
                    self.print(Padding(named, (0, 0, 0, 2)))


def log(sentence: str) -> None:
    """Print a sentence on standard error. If standard error cannot be written, the sentence is dropped."""
    with suppress(OSError):
        Page(stderr=True).whole_line(f"limelight: {one_line(sentence)}")


def log_problems(problems: Sequence[str]) -> None:
    """Print on standard error a sentence for each result file that was damaged or could not be read."""
    for sentence in problems:
        log(sentence)


def log_report(path: Path, size: int) -> None:
    """Print the path and the size of the report."""
    log_page("Report", path, size)


def log_page(what: str, path: Path, size: int) -> None:
    """Print the path and the size of a page that was written."""
    Page().whole_line(f"{what}: {path.resolve()} ({size / 1e6:.1f} MB); open it in a browser.")


def log_export(path: Path, rows: int) -> None:
    """Print the path of a table of results and its number of rows."""
    Page().whole_line(f"Table: {path.resolve()} ({rows} row{'' if rows == 1 else 's'}).")


@contextmanager
def progress(total: int, known: int) -> Iterator[Callable[[Record], None]]:
    """Show the progress of a run: a bar with the time left on a terminal, elsewhere a line after each tenth.

    Yields a function that is to be called with each record as it is done. `known` of the `total` trials had a result
    before the run.
    """
    if known == total:
        log(f"all {total} runs have results already")
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    started, counted = time.monotonic(), 0
    page = Page(stderr=True)
    with Progress(*columns, console=page, transient=True, disable=not page.is_terminal) as shown:
        task = shown.add_task("runs", total=total, completed=known)

        def done(record: Record) -> None:
            nonlocal counted
            counted += 1
            running = encodable(one_line(f"{record.claim}: {record.arm}"), page.encoding)
            shown.update(task, advance=1, description=running[:44].ljust(44))
            if record.status != "done":
                log(f"{record.claim}, {record.arm}, seed {record.seed}: {record.status}: {record.reason}")
            to_do, tenth = total - known, max(1, (total - known) // 10)
            if not page.is_terminal and (counted % tenth == 0 or counted == to_do):
                left = (time.monotonic() - started) / counted * (to_do - counted)
                log(f"{known + counted} of {total} runs, about {left:.0f} s left")

        yield done


def show_list(claims: Sequence[Summary]) -> None:
    """Print a table of the claims."""
    page = Page()
    page.rows(
        {"claim": False, "statement": True, "verdict": False},
        [
            (page.text((claim.name, "bold")), page.text(claim.title), page.text(outcome_word(outcome_of(claim))))
            for claim in claims
        ],
    )


def show_verdicts(entries: Sequence[tuple[Claim, Entry | None]]) -> None:
    """Print each verdict with its sentence, and then the table of all verdicts, which so stays on the screen."""
    page = Page()
    for claim, entry in entries:
        if entry is None:
            continue
        main = entry.verdict.parts[0]
        page.say((claim.title, "bold"), ": ", outcome_word(entry.verdict.outcome))
        page.say(entry.finding)
        if entry.finding != entry.verdict.sentence:
            page.say(entry.verdict.sentence)
        page.say((f"Main effect: {effect_text(main)}; expected {expectation(main)}.\n", "dim"))
    page.rows(
        {"claim": False, "verdict": False, "parts": False, "seeds": False},
        [
            [
                page.text(claim.name),
                page.text(outcome_word(entry.verdict.outcome if entry else None)),
                page.text(*_marks(entry.verdict.parts) if entry else ()),
                page.text(str(entry.seeds) if entry else ""),
            ]
            for claim, entry in entries
        ],
    )
    page.say(("✓ holds  ✗ does not hold  ? undecided", "dim"))


def show_claim(claim: Summary) -> None:
    """Print all of a claim: its question, arms and measures, and its verdict or, before one, its thresholds."""
    page = Page()
    page.say((f"{claim.title}\n", "bold"))
    if claim.verdict is not None:
        told = claim.verdict
        page.say(outcome_word(told.outcome), f", {told.seeds} seeds. {told.finding}\n")
    page.say(claim.question)
    page.say(f"\nSource: {claim.source}")
    page.whole_line(f"File:   {claim.file}\n")
    page.rows(
        {"arm": False, "": True},
        [(page.text((arm, "bold")), page.text(says)) for arm, says in claim.arms.items()],
    )
    page.rows(
        {"measure": False, "": True, "unit": True},
        [
            (page.text((name, "bold")), page.text(description), page.text(unit))
            for name, (description, unit) in claim.measures.items()
        ],
    )
    if claim.verdict is None:
        _show_thresholds(page, claim)
        return
    control = claim.control_part
    rows = [
        [page.text(_mark(p)), page.text(p.description), page.text(_effect(p)), page.text(expectation(p))]
        for p in claim.parts
    ]
    ought = page.text((f"control, ought to fail: {control.description}", "dim"))
    rows.append([page.text(), ought, page.text(effect_text(control)), page.text(expectation(control))])
    page.rows({"": False, "part": True, HEADING: True, "expected": False}, rows)
    page.say("\n", claim.verdict.sentence)


def _show_thresholds(page: Page, claim: Summary) -> None:
    control = claim.control_part
    rows = [[page.text(part.description), page.text(f"{expectation(part)} {part.unit}")] for part in claim.parts]
    ought = page.text((f"control, ought to fail: {control.description}", "dim"))
    rows.append([ought, page.text(f"{expectation(control)} {control.unit}")])
    page.rows({"part": True, "expected, as written before any result": True}, rows)
    page.whole_line("\nNo verdict yet: run ", (f"limelight run {claim.address}", "bold"), ".")


def as_json(claim: Summary) -> dict[str, Any]:
    """A claim and its verdict as plain data; a number that is not finite is null."""
    data: dict[str, Any] = {
        "name": claim.name, "title": claim.title, "question": claim.question, "source": claim.source,
        "arms": dict(claim.arms), "control": claim.control, "verdict": None,
    }  # fmt: skip
    parts = {"parts": [_part_json(part) for part in claim.parts], "control_part": _part_json(claim.control_part)}
    if claim.verdict is None:
        return data | parts
    told = claim.verdict
    return data | {
        "verdict": told.outcome,
        "finding": told.finding,
        "sentence": told.sentence,
        "seeds": told.seeds,
        "confidence": CONFIDENCE,
        **parts,
        "failures": [*told.failures],
        "command": told.command,
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
        "description": part.description,
        "outcome": part.outcome,
        "expects": part.expects,
        "unit": part.unit,
        "summary": part.effect.summary,
        "p": part.p,
        "n": part.effect.n,
        **finite,
    }


def outcome_of(claim: Summary) -> Outcome | None:
    return None if claim.verdict is None else claim.verdict.outcome


def outcome_word(outcome: Outcome | None) -> tuple[str, str]:
    """The verdict in one word, and its style."""
    return ("no verdict yet", "dim") if outcome is None else (outcome, f"bold {_STYLE[outcome]}")


def _mark(part: Part) -> tuple[str, str]:
    return MARKS[part.outcome], _HUE[part.outcome]


def _marks(parts: Sequence[Part]) -> list[Styled]:
    spaced: list[Styled] = [" "] * (2 * len(parts) - 1)
    spaced[::2] = map(_mark, parts)
    return spaced


def _effect(part: Part) -> str:
    doubt = doubt_text(part)
    return f"{effect_text(part)}; {doubt}" if doubt else effect_text(part)
