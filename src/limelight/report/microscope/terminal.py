"""What was seen inside a model, on the terminal and as JSON."""

from __future__ import annotations

import math
from typing import Any

from limelight.microscope.comparing import Comparison, Difference
from limelight.microscope.reading import Reading
from limelight.report.microscope.summary import name_of, sentences
from limelight.report.terminal import Page

_HEADS = 4  # the most heads that a row of the table names


def show(reading: Reading) -> None:
    """Print the sentences, and a table of the strongest heads for each measure."""
    page = Page()
    for sentence in sentences(reading):
        page.say(sentence)
    page.say("")
    rows = []
    for measure in reading.measures:
        best = reading.table.strongest(measure.name, _HEADS)
        if best and best[0][measure.name] != 0:
            named = "  ".join(f"{name_of(row):>5} {row[measure.name]:<7.3g}" for row in best)
            rows.append([page.text(measure.name), page.text(named.rstrip())])
    page.rows({"measure": False, "strongest heads, as layer.head": False}, rows)


def show_comparison(comparison: Comparison) -> None:
    """Print a row for each measure: its mean in both models, and the head that differs most."""
    page, (own, other) = Page(), (reading.model for reading in (comparison.first, comparison.second))
    page.say("")
    page.say(f"Compared with {other}, as the mean over heads, and the head that differs most:")
    page.say("")
    rows = [
        [page.text(one.measure), page.text(f"{one.mean:.3g} → {one.other_mean:.3g}"), page.text(_most(one))]
        for one in comparison.differences()
    ]
    page.rows({"measure": False, f"{own} → {other}": False, "largest difference, layer.head": False}, rows)


def _most(one: Difference) -> str:
    return "none" if one.value == one.other else f"{one.layer}.{one.head}  {one.value:.3g} → {one.other:.3g}"


def as_json(reading: Reading, comparison: Comparison | None = None) -> dict[str, Any]:
    """Everything that was measured; a number that has no meaning, or is infinite, is null."""
    compared = None if comparison is None else {
        "model": comparison.second.model,
        "differences": [{name: _number(x) for name, x in row.items()} for row in comparison.table.rows],
    }  # fmt: skip
    return ({} if compared is None else {"compared_with": compared}) | {
        "model": reading.model,
        "class": reading.kind,
        "summary": sentences(reading),
        "tokens": [*reading.texts],
        "measures": {
            m.name: {"equation": m.equation, "range": m.range, "meaning": m.meaning} for m in reading.measures
        },
        "not_watched": [*reading.scope.not_watched],
        "heads": [{name: _number(x) for name, x in row.items()} for row in reading.table.rows],
    }


def _number(x: Any) -> Any:
    return None if isinstance(x, float) and not math.isfinite(x) else x
