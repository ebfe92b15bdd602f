"""What was measured inside a model, on the terminal and as JSON."""

from __future__ import annotations

import math
from typing import Any

from limelight.experiment.statistics import CONFIDENCE
from limelight.microscope.comparing import Comparison, Difference
from limelight.microscope.reading import Reading
from limelight.report.microscope.summary import name_of, sentences
from limelight.report.plain_text import visible
from limelight.report.terminal import Page
from limelight.what_if.over_texts import OverTexts, Spread

_HEADS = 4  # the most heads that a row of the table names


def show(reading: Reading, over: OverTexts | None = None) -> None:
    """Print the sentences, and a table of the strongest heads for each measure; over texts with intervals."""
    page = Page()
    for sentence in sentences(reading, over):
        page.say(sentence)
    page.say("")
    rows = []
    for measure in reading.measures:
        best = reading.table.strongest(measure.name, _HEADS)
        if best and best[0][measure.name] != 0:
            named = "  ".join(f"{name_of(row):>5} {row[measure.name]:<7.3g}" for row in best)
            rows.append([page.text(measure.name), page.text(named.rstrip())])
    page.rows({"measure": False, "strongest heads, as layer.head": False}, rows)
    if over is not None:
        _show_texts(page, reading, over)


def _show_texts(page: Page, reading: Reading, over: OverTexts) -> None:
    """A row for each measure: the interval of its strongest head, and the texts where that has least and most."""
    page.say("")
    page.say(f"The strongest head of each measure over {len(over.texts)} texts, with {CONFIDENCE:.0%} intervals:")
    page.say("")
    rows, named, places = [], set(), _places(reading)
    for measure in reading.measures:
        best = reading.table.strongest(measure.name, 1)
        one = over.spread(measure.name)[places[name_of(best[0])]] if best else None
        if one is None or one.mean == 0:
            continue
        named |= {one.least_in, one.most_in}
        cells = [measure.name, f"{name_of(best[0])}  {interval(one)}", *ends(one)]
        rows.append([page.text(cell) for cell in cells])
    page.rows({"measure": False, "head, mean [interval]": False, "least in text": False, "most in text": False}, rows)
    page.say("")
    for text in sorted(named):
        page.say(f"text {text + 1}: {visible(over.texts[text])}")


def _places(reading: Reading) -> dict[str, int]:
    """The row of each head in the table."""
    return {name_of(row): i for i, row in enumerate(reading.table.rows)}


def interval(one: Spread) -> str:
    """The mean over texts, with its interval if there is one."""
    bounds = f" [{one.low:.3g}, {one.high:.3g}]" if math.isfinite(one.low) else ""
    return f"{one.mean:.3g}{bounds}"


def ends(one: Spread) -> list[str]:
    """The texts in which the measure is least and most, counted from 1, with its values."""
    return [f"{one.least_in + 1}  ({one.least:.3g})", f"{one.most_in + 1}  ({one.most:.3g})"]


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


def as_json(reading: Reading, comparison: Comparison | None = None, over: OverTexts | None = None) -> dict[str, Any]:
    """Everything that was measured; a number that has no meaning, or is infinite, is null."""
    compared = None if comparison is None else {
        "model": comparison.second.model,
        "differences": [{name: _number(x) for name, x in row.items()} for row in comparison.table.rows],
    }  # fmt: skip
    return ({} if compared is None else {"compared_with": compared}) | {
        "model": reading.model,
        "class": reading.kind,
        "summary": sentences(reading, over),
        "tokens": [*reading.texts],
        "measures": {
            m.name: {"equation": m.equation, "range": m.range, "meaning": m.meaning} for m in reading.measures
        },
        "not_watched": [*reading.scope.not_watched],
        "heads": [{name: _number(x) for name, x in row.items()} for row in reading.table.rows],
    } | ({} if over is None else _texts_json(over))  # fmt: skip


def _texts_json(over: OverTexts) -> dict[str, Any]:
    """The texts, and for each head the interval of each measure and the texts in which it is least and most, from 0."""
    spreads = [over.spread(name) for name in over.measures]
    return {
        "texts": [*over.texts],
        "over_texts": [
            {
                name: None if one is None else {key: _number(x) for key, x in vars(one).items()}
                for name, one in zip(over.measures, of_head, strict=True)
            }
            for of_head in zip(*spreads, strict=True)
        ],
    }


def _number(x: Any) -> Any:
    return None if isinstance(x, float) and not math.isfinite(x) else x
