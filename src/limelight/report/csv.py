"""The results of a claim as a table in CSV: a row for each run, a column for each measure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from limelight.experiment.results import Results

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which spreadsheets take a text for a formula


def as_csv(results: Results) -> str:
    """The table with the columns arm, seed, status, reason, seconds and the measures; a run that failed has no values.

    A text that a spreadsheet would compute as a formula is preceded by an apostrophe.
    """
    return table_as_csv(
        ["arm", "seed", "status", "reason", "seconds", *results.measures],
        (
            [each.arm, each.seed, each.status, each.reason, each.seconds, *map(each.values.get, results.measures)]
            for each in results.records
        ),
    )


def table_as_csv(headings: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of texts and numbers; None is an empty cell, and no text in it is a formula."""
    page = io.StringIO()
    table = csv.writer(page, lineterminator="\n")
    table.writerow(map(_cell, headings))
    table.writerows(map(_cell, row) for row in rows)
    return page.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
