"""The results of a claim as a table in CSV: a row for each run, a column for each measure."""

from __future__ import annotations

import csv
import io

from limelight.experiment.results import Results

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which spreadsheets take a text for a formula


def as_csv(results: Results) -> str:
    """The table with the columns arm, seed, status, reason, seconds and the measures; a run that failed has no values.

    A text that a spreadsheet would compute as a formula is preceded by an apostrophe.
    """
    page = io.StringIO()
    table = csv.writer(page, lineterminator="\n")
    table.writerow(["arm", "seed", "status", "reason", "seconds", *map(_text, results.measures)])
    for record in results.records:
        values = [record.values.get(name, "") for name in results.measures]
        table.writerow([_text(record.arm), record.seed, record.status, _text(record.reason), record.seconds, *values])
    return page.getvalue()


def _text(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
