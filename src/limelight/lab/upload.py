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
_LARGEST = 1000.0  # deviations that an output may lie off
_WIDE = 2.5  # the reach of y in the drawn data


@dataclass(frozen=True)
class Upload:
    """Rows (x, y, z), and how the file was read."""

    rows: list[list[float]]
    told: str


def upload_of(contents: str) -> Upload:
    """The rows of an uploaded file, "data:…;base64,…".

    Inputs are scaled to the range of the drawn data, z to mean 0 and deviation 1. Raises `InputError`, in one sentence,
    for what is too large, what is no table of three columns (see `read_table`), and a column that does not vary.
    """
    table = read_table(_bytes(contents), *ROWS)
    return Upload(_scaled(table).tolist(), f"{len(table.values)} rows, {table.told}")


def require_rows(given: Any) -> np.ndarray:
    """Scaled rows as an array (n, 3). Raises `InputError` where they are no such thing: they come from a browser."""
    rows: np.ndarray = np.empty(0)
    with suppress(ValueError, OverflowError):  # rows of several lengths, numbers beyond all bounds
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


def _bytes(contents: str) -> bytes:
    head, _, body = contents.partition(",")
    if len(body) > 4 * SIZE // 3 + 4:
        raise InputError(f"The file is larger than {SIZE >> 20} MB; take a sample of its rows.")
    try:
        if not head.startswith("data:"):
            raise binascii.Error
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("The file did not arrive as a whole; choose it again.") from None


def _scaled(table: Table) -> np.ndarray:
    rows = table.values
    low, high = rows.min(0), rows.max(0)
    for name, least, most in zip(("first input", "second input", "output"), low, high, strict=True):
        if least == most:
            raise InputError(f"The {name} is {least:g} in every row; there is nothing to learn from it.")
    share = (rows - low) / (high - low)  # of the range: whatever the unit, its squares neither vanish nor overflow
    inputs = (2 * share - 1)[:, :2] * [X_MAX, _WIDE]
    z = (share[:, 2] - share[:, 2].mean()) / share[:, 2].std()
    return np.column_stack([inputs, z])
