"""A verdict and its replication on other seeds, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from limelight.experiment.verdict import Part
from limelight.report import terminal
from limelight.report.effect_text import MARKS, effect_text, expectation
from limelight.report.entry import Entry
from limelight.report.summary import Summary


def same_words(original: Entry, again: Entry) -> int:
    """The number of parts whose outcome is the same in both."""
    return sum(a.outcome == b.outcome for a, b in _pairs(original, again))


def show(original: Entry, again: Entry) -> None:
    """Print both verdicts, and each part with its effect in both."""
    page = terminal.Page()
    page.say((f"{original.claim.title}\n", "bold"))
    rows = [
        [page.text(a.description), page.text(expectation(a)), page.text(_found(a)), page.text(_found(b))]
        for a, b in [*_pairs(original, again), (original.verdict.control, again.verdict.control)]
    ]
    rows[-1][0] = page.text((f"control, ought to fail: {original.verdict.control.description}", "dim"))
    headings = {"part": True, "expected": False, _seeds(original): True, f"replication, {_seeds(again)}": True}
    page.rows(headings, rows)
    page.say("\n", *_outcome("verdict", original))
    page.say(*_outcome("replication", again))
    page.say(f"{same_words(original, again)} of {len(original.verdict.parts)} parts have the same word in both.")


def as_json(original: Entry, again: Entry) -> dict[str, Any]:
    """Both verdicts as plain data, and the number of parts with the same outcome."""
    return {
        "original": terminal.as_json(Summary.of(original.claim, original)),
        "replication": terminal.as_json(Summary.of(again.claim, again)),
        "parts with the same outcome": same_words(original, again),
    }


def _pairs(original: Entry, again: Entry) -> list[tuple[Part, Part]]:
    return list(zip(original.verdict.parts, again.verdict.parts, strict=True))


def _found(part: Part) -> str:
    return f"{MARKS[part.outcome]} {effect_text(part)}"


def _seeds(entry: Entry) -> str:
    first, *_, last = entry.results.seeds() * 2
    return f"seeds {first} to {last}"


def _outcome(name: str, entry: Entry) -> Sequence[terminal.Styled]:
    return (f"{name}: ", terminal.outcome_word(entry.verdict.outcome), f". {entry.finding}")
