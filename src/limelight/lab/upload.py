"""A visitor's CSV file, checked: two inputs and an output in each row."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import math
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np

from limelight.data.bands import REACH
from limelight.errors import InputError
from limelight.lab.address import shown

SIZE = 2 << 20  # bytes
ROWS = (10, 20_000)
_LARGEST = 1000.0  # deviations that an output may lie off
_WIDE = 2.5  # the reach of y in the drawn data


def rows_of(contents: str) -> list[list[float]]:
    """The rows (x, y, z) of an uploaded file, "data:…;base64,…".

    Inputs are scaled to the range of the drawn data, z to mean 0 and deviation 1.

    A first row without a number in it is taken for the names of the columns. Raises `InputError`, in one sentence that
    names the row, for what is no such file: too large, too few rows or too many, another number of columns, text, NaN,
    or a column that does not vary.
    """
    text = _text(contents)
    lines = enumerate(csv.reader(io.StringIO(text), skipinitialspace=True), 1)
    filled = [(i, row) for i, row in islice(lines, ROWS[1] + 2) if any(cell.strip() for cell in row)]
    if filled and not any(_number(cell) is not None for cell in filled[0][1]):
        filled = filled[1:]
    if len(filled) > ROWS[1]:
        raise InputError(f"The file has more than {ROWS[1]:,} rows of data; take a sample of them.")
    if len(filled) < ROWS[0]:
        one = len(filled) == 1
        raise InputError(f"The file has {len(filled)} row{'' if one else 's'} of data; {ROWS[0]} are the fewest.")
    return _scaled(np.array([_row(i, row) for i, row in filled])).tolist()


def require_rows(given: Any) -> np.ndarray:
    """Scaled rows as an array (n, 3). Raises `InputError` where they are no such thing: they come from a browser."""
    rows: np.ndarray = np.empty(0)
    with suppress(ValueError):  # rows of several lengths
        rows = np.array(given)
    if (
        rows.dtype.kind not in "iuf"
        or rows.ndim != 2
        or rows.shape[1] != 3
        or not ROWS[0] <= len(rows) <= ROWS[1]
        or not bool((np.abs(rows.astype(float)) <= _LARGEST).all())
    ):
        raise InputError(f"The data are not {ROWS[0]} to {ROWS[1]:,} rows of three numbers.")
    return rows.astype(np.float32)


def _text(contents: str) -> str:
    head, _, body = contents.partition(",")
    if not head.startswith("data:") or len(body) > 4 * SIZE // 3 + 4:
        raise InputError(f"The file is larger than {SIZE >> 20} MB; take a sample of its rows.")
    try:
        return base64.b64decode(body, validate=True).decode("utf-8-sig")
    except (binascii.Error, UnicodeDecodeError):
        raise InputError("The file is no text in UTF-8; save it as CSV.") from None


def _row(i: int, row: list[str]) -> list[float]:
    if len(row) != 3:
        raise InputError(f"Row {i} has {len(row)} columns; three are expected: two inputs and an output.")
    values = []
    for cell in row:
        value = _number(cell)
        if value is None:
            raise InputError(f"Row {i} has {shown(cell.strip())} where a number is expected.")
        if not math.isfinite(value) or abs(value) > 1e30:
            raise InputError(f"Row {i} has {shown(cell.strip())}: only finite numbers, below 1e30, can be learned.")
        values.append(value)
    return values


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _scaled(rows: np.ndarray) -> np.ndarray:
    low, high = rows.min(0), rows.max(0)
    for name, least, most in zip(("first input", "second input", "output"), low, high, strict=True):
        if least == most:
            raise InputError(f"The {name} is {least:g} in every row; there is nothing to learn from it.")
    inputs = (2 * (rows - low) / (high - low) - 1)[:, :2] * [REACH, _WIDE]
    z = (rows[:, 2] - rows[:, 2].mean()) / rows[:, 2].std()
    return np.column_stack([inputs, z])
