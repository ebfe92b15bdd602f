"""A table of numbers from the bytes of a CSV file, whatever program wrote it.

A CSV file does not say how it was written, so four properties are inferred from its content.

Encoding: that of a byte order mark; without one UTF-16 if every second byte is zero, else UTF-8, else Windows-1252.
Separator: that of a first line `sep=;`; without one, the separator that gives most numeric cells in rows of one length.
Decimal mark: a comma if some cell is a number only with a decimal comma, else a point.
Index: if there are four columns and the first has no name or counts rows, it is an index and is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from limelight.errors import InputError
from limelight.lab.address import shown
from limelight.lab.csv_text import COLUMNS, SEPARATORS, Row, decoded, is_number, plain, rows_of, separator_of


@dataclass(frozen=True)
class Table:
    """Three columns of numbers, and how the file was read."""

    values: np.ndarray  # (rows, 3)
    encoding: str
    separator: str
    mark: str  # the decimal mark; "" if no number has decimals
    names: tuple[str, ...]  # of the three columns; () if the file has no header
    index: str | None  # why the first column was left out; None if it was not

    @property
    def description(self) -> str:
        """One sentence on how the file was read, so that a user can check it."""
        marks = {"": "without decimals", ".": "with decimal points", ",": "with decimal commas"}
        parts = [f"separated by {SEPARATORS.get(self.separator, shown(self.separator))}", marks[self.mark],
                 f"in {self.encoding}"]  # fmt: skip
        one, two, out = map(shown, self.names) if self.names else ("column 1", "column 2", "column 3")
        if self.index is not None and not self.names:
            one, two, out = "column 2", "column 3", "column 4"
        row = ", ".join(f"{value:g}" for value in self.values[0]).replace("-", "−")
        left = "" if self.index is None else f" {self.index}"
        return f"{', '.join(parts)}. Inputs: {one} and {two}; output: {out}.{left} The first row is read as {row}."


def read_table(data: bytes, fewest: int, most: int) -> Table:
    """The table in a file that has `fewest` to `most` rows.

    A first row without any number is the header. Raises `InputError`, in one sentence that names the row, if the file
    is not text, has too few or too many rows or another number of columns, has a cell that is not a finite number below
    1e30, or mixes decimal points and decimal commas.
    """
    text, encoding = decoded(data)
    separator, begin = separator_of(text)
    # Read one row more than allowed, besides the header and some blank rows, to detect that there are too many.
    rows = list(islice(rows_of(text, separator, begin), most + 2))
    names = rows.pop(0)[1] if rows and not any(map(is_number, rows[0][1])) else []
    if len(rows) > most:
        raise InputError(f"The file has more than {most:,} rows of data; take a sample of them.")
    if len(rows) < fewest:
        raise InputError(
            f"The file has {len(rows)} row{'' if len(rows) == 1 else 's'} of data; at least {fewest} are needed."
        )
    names, rows = _without_empty_ends(names, rows)
    names, rows, index = _without_index(names, rows)
    mark = _mark(rows)
    values = np.array([_numbers(row, mark, separator) for row in rows])
    return Table(values, encoding, separator, mark, tuple(names) if len(names) == COLUMNS else (), index)


def _without_empty_ends(names: list[str], rows: list[Row]) -> tuple[list[str], list[Row]]:
    """The table without empty columns at the end, which a separator after each row or a spreadsheet's margin leaves."""
    width = max(len(cells) for _, cells in rows)
    while width > COLUMNS and not any(cells[width - 1 : width] not in ([], [""]) for _, cells in rows):
        width -= 1
    keep = max(width, COLUMNS)
    return names[:keep], [(line, cells[:keep]) for line, cells in rows]


def _without_index(names: list[str], rows: list[Row]) -> tuple[list[str], list[Row], str | None]:
    """The table without an index, which is the first of four columns, and why it was left out: a sentence or None."""
    if any(len(cells) != COLUMNS + 1 for _, cells in rows):
        return names, rows, None
    nameless = len(names) == COLUMNS or (len(names) == COLUMNS + 1 and not names[0])
    if not nameless and not _counts([cells[0] for _, cells in rows]):
        return names, rows, None
    why = "has no name" if nameless else "counts the rows"
    shorter = [(line, cells[1:]) for line, cells in rows]
    return names[-COLUMNS:], shorter, f"The first column {why} and is left out."


def _counts(cells: Sequence[str]) -> bool:
    """True if each number is the previous one plus 1."""
    if not all(re.fullmatch("[0-9]{1,9}", cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _mark(rows: Sequence[Row]) -> str:
    """The decimal mark of a table. Raises `InputError` if some cells have a point and others a comma."""
    first: dict[str, tuple[int, str]] = {}
    for line, cells in rows:
        for cell in filter(is_number, cells):
            for mark in ".,":
                if mark in cell:
                    first.setdefault(mark, (line, cell))
    if len(first) == 2:
        (one, point), (other, comma) = first["."], first[","]
        raise InputError(
            f"Row {one} has {shown(point)} and row {other} has {shown(comma)}: one decimal mark is expected in the "
            "whole file, and no mark for thousands."
        )
    return next(iter(first), "")


def _numbers(row: Row, mark: str, separator: str) -> list[float]:
    line, cells = row
    if len(cells) != COLUMNS:
        some = f"{len(cells)} column{'' if len(cells) == 1 else 's'}"
        hint = " If the commas are decimal marks, separate columns by semicolons." if _halved(cells, separator) else ""
        raise InputError(f"Row {line} has {some}; three are expected: two inputs and an output.{hint}")
    return [_value(line, cell, mark) for cell in cells]


def _halved(cells: Sequence[str], separator: str) -> bool:
    """True if commas may be both decimal commas and separators."""
    return separator == "," and len(cells) == 2 * COLUMNS


def _value(line: int, cell: str, mark: str) -> float:
    if not is_number(cell):
        raise InputError(f"Row {line} has {shown(cell) if cell else 'an empty cell'} where a number is expected.")
    value = float(plain(cell).replace(mark or ".", "."))
    if not math.isfinite(value) or abs(value) > 1e30:
        raise InputError(f"Row {line} has {shown(cell)}: only finite numbers, below 1e30, can be learned.")
    return value
