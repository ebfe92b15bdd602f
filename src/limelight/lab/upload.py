"""A visitor's CSV file, checked: two inputs and an output in each row."""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from limelight.data.slope_bands import X_MAX
from limelight.errors import InputError
from limelight.lab.table import Table, read_table

SIZE = 2 << 20  # bytes
ROWS = (10, 20_000)
_LARGEST = 1000.0  # largest output, in standard deviations
_WIDE = 2.5  # y of the drawn data lies within ±2.5


@dataclass(frozen=True)
class Upload:
    """Scaled rows (x, y, z), and a sentence on how the file was read."""

    rows: list[list[float]]
    description: str


def upload_of(contents: str) -> Upload:
    """The scaled rows of an uploaded file, which comes as the text "data:…;base64,…".

    Inputs are scaled to the range of the drawn data, z to mean 0 and standard deviation 1. Raises `InputError` if the
    file is too large, is not a table of three columns (see `read_table`), or has a column that does not vary.
    """
    table = read_table(_bytes(contents), *ROWS)
    return Upload(_scaled(table).tolist(), f"{len(table.values)} rows, {table.description}")


def require_rows(given: Any) -> np.ndarray:
    """Scaled rows from the browser as an array (n, 3). Raises `InputError` if they are not a valid array."""
    rows: np.ndarray = np.empty(0)
    with suppress(ValueError, OverflowError):  # rows of different lengths, integers that do not fit
        rows = np.array(given)
    if (
        rows.dtype.kind not in "iuf"
        or rows.ndim != 2
        or rows.shape[1] != 3
        or not ROWS[0] <= len(rows) <= ROWS[1]
        or not bool((np.abs(rows.astype(float)) <= _LARGEST).all())
    ):
        raise InputError(f"The data must be {ROWS[0]} to {ROWS[1]:,} rows of three numbers.")
    return rows.astype(np.float32)


def _bytes(contents: str) -> bytes:
    head, _, body = contents.partition(",")
    if len(body) > 4 * SIZE // 3 + 4:
        raise InputError(f"The file is larger than {SIZE >> 20} MB; take a sample of its rows.")
    try:
        if not head.startswith("data:"):
            raise binascii.Error
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("The upload is incomplete; choose the file again.") from None


def _scaled(table: Table) -> np.ndarray:
    rows = table.values
    low, high = rows.min(0), rows.max(0)
    for name, least, most in zip(("first input", "second input", "output"), low, high, strict=True):
        if least == most:
            raise InputError(f"The {name} is {least:g} in every row; there is nothing to learn from it.")
    share = (rows - low) / (high - low)  # in units of the range, so that squares neither underflow nor overflow
    inputs = (2 * share - 1)[:, :2] * [X_MAX, _WIDE]
    z = (share[:, 2] - share[:, 2].mean()) / share[:, 2].std()
    return np.column_stack([inputs, z])
