"""A table of numbers from the bytes of a text file: CSV as the world's programs write it.

No program says how it wrote a CSV file, so four things are found in the file itself.

Encoding: a byte order mark says it; else it is UTF-16 where every second byte is zero, else UTF-8, else Windows-1252.
Separator: a first line `sep=;` says it; else it is the one under which most cells are numbers, in rows of one length.
Decimal mark: a comma where any cell needs one to be a number, else a point.
Index: of four columns the first is one where it has no name or counts by ones, and it is left out.
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
    """Three columns of numbers, and how they were read."""

    values: np.ndarray  # (rows, 3)
    encoding: str
    separator: str
    mark: str  # between a number and its decimals; "" where no number has any
    names: tuple[str, ...]  # of the three columns; () without a line of names
    index: str | None  # why the first column was left out, if it was

    @property
    def told(self) -> str:
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
    """The table in a file of from `fewest` to `most` rows.

    A first row without a number in it is taken for the names of the columns. Raises `InputError`, in one sentence that
    names the row, for what is no such table: no text, too few rows or too many, another number of columns, a cell that
    is no finite number below 1e30, or decimal points beside decimal commas.
    """
    text, encoding = decoded(data)
    separator, begin = separator_of(text)
    # One more than may be, the names and some blanks apart, so that too many are told from just enough.
    rows = list(islice(rows_of(text, separator, begin), most + 2))
    names = rows.pop(0)[1] if rows and not any(map(is_number, rows[0][1])) else []
    if len(rows) > most:
        raise InputError(f"The file has more than {most:,} rows of data; take a sample of them.")
    if len(rows) < fewest:
        raise InputError(
            f"The file has {len(rows)} row{'' if len(rows) == 1 else 's'} of data; {fewest} are the fewest."
        )
    names, rows = _without_empty_ends(names, rows)
    names, rows, index = _without_index(names, rows)
    mark = _mark(rows)
    values = np.array([_numbers(row, mark, separator) for row in rows])
    return Table(values, encoding, separator, mark, tuple(names) if len(names) == COLUMNS else (), index)


def _without_empty_ends(names: list[str], rows: list[Row]) -> tuple[list[str], list[Row]]:
    """Without empty columns at the end: of a separator after each row, or a spreadsheet's margin."""
    width = max(len(cells) for _, cells in rows)
    while width > COLUMNS and not any(cells[width - 1 : width] not in ([], [""]) for _, cells in rows):
        width -= 1
    keep = max(width, COLUMNS)
    return names[:keep], [(line, cells[:keep]) for line, cells in rows]


def _without_index(names: list[str], rows: list[Row]) -> tuple[list[str], list[Row], str | None]:
    """Without a first of four columns that only counts the rows or names them, and what is to be said of it."""
    if any(len(cells) != COLUMNS + 1 for _, cells in rows):
        return names, rows, None
    nameless = len(names) == COLUMNS or (len(names) == COLUMNS + 1 and not names[0])
    if not nameless and not _counts([cells[0] for _, cells in rows]):
        return names, rows, None
    why = "has no name" if nameless else "counts the rows"
    shorter = [(line, cells[1:]) for line, cells in rows]
    return names[-COLUMNS:], shorter, f"The first column {why} and is left out."


def _counts(cells: Sequence[str]) -> bool:
    """True if each number is one more than the one before."""
    if not all(re.fullmatch("[0-9]{1,9}", cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _mark(rows: Sequence[Row]) -> str:
    """The decimal mark of a table. Raises `InputError` where cells have both."""
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
