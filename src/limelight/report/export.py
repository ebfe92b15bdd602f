"""Results as one table for other programs: a CSV file, or a Parquet file where pyarrow or polars is installed."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from limelight.errors import InputError, MissingExtraError
from limelight.experiment.results import Record
from limelight.report.csv import table_as_csv

FIELDS = ("claim", "arm", "seed", "status", "reason", "seconds", "commit", "machine")
_NUMBERS = {"seed": int, "seconds": float}  # the fields that are no texts

Columns = Mapping[str, Sequence[Any]]


def columns(records: Sequence[Record], measures: Iterable[str]) -> Columns:
    """A table with a row for each record: its `FIELDS`, then each of these measures, None where a record has no value.

    The results of several claims have the measures of all of them. A measure that is named like a field is called
    "measure …" here, so that no two columns have the same name.
    """
    found: dict[str, Sequence[Any]] = {field: [_plain(_field(record, field)) for record in records] for field in FIELDS}
    for measure in dict.fromkeys(measures):
        name = _plain(measure)
        while name in found:
            name = f"measure {name}"
        values = [record.values.get(measure) for record in records]
        found[name] = [None if value is None else float(value) for value in values]
    return found


def writer(path: Path) -> Callable[[Columns], bytes]:
    """The function that makes the content of a file with this ending from a table.

    Raises `InputError` for another ending than .csv and .parquet, and `MissingExtraError` where neither package is
    installed.
    """
    ending = path.suffix.lower()
    if ending == ".csv":
        return _csv
    if ending != ".parquet":
        raise InputError(f"--output expects a file that ends in .csv or .parquet, got {str(path)!r}")
    for package, write in (("pyarrow", _by_pyarrow), ("polars", _by_polars)):
        if importlib.util.find_spec(package) is not None:
            return write
    raise MissingExtraError(
        "a Parquet file needs pyarrow or polars, and neither is installed; run: pip install pyarrow, or write a .csv"
    )


def _csv(table: Columns) -> bytes:
    return table_as_csv(table, zip(*table.values(), strict=True)).encode()


def _by_pyarrow(table: Columns) -> bytes:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    arrays = {name: arrow.array(values, kinds[_kind(name)]) for name, values in table.items()}
    page = io.BytesIO()
    parquet.write_table(arrow.table(arrays), page)
    return page.getvalue()


def _by_polars(table: Columns) -> bytes:
    polars = importlib.import_module("polars")
    kinds = {str: polars.String, int: polars.Int64, float: polars.Float64}
    page = io.BytesIO()
    polars.DataFrame(dict(table), {name: kinds[_kind(name)] for name in table}).write_parquet(page)
    return page.getvalue()


def _kind(column: str) -> type:
    return _NUMBERS.get(column, str if column in FIELDS else float)


def _field(record: Record, name: str) -> Any:
    return record.versions.get("commit", "") if name == "commit" else getattr(record, name)


def _plain(value: Any) -> Any:
    """A text without halves of surrogate pairs, which UTF-8 cannot encode; they are shown as escapes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
