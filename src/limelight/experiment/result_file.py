"""The file of one result, {"sha256": hash of the record, "record": {...}}; its arrays can be left in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from limelight.errors import StoreError
from limelight.experiment.claim import Experiment
from limelight.experiment.results import Record, as_record


def text_of(record: Record) -> str:
    """The text of the file of a result."""
    body = _canonical(asdict(replace(record, arrays=dict(record.arrays))))
    return json.dumps({"sha256": _digest(body), "record": json.loads(body)})


def parsed(content: str) -> tuple[Record, str] | None:
    """The record in a file's text and its SHA-256, or None if the text is damaged."""
    try:
        outer = json.loads(content)
        record, digest = outer["record"], outer["sha256"]
        if digest != _digest(_canonical(record)):
            return None
        return as_record(record), digest
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # the last for deeply nested brackets
        return None


def is_result_of(record: Record, claim: Experiment, arm: str, seed: int) -> bool:
    """True if the record is the result of this trial and has every measure."""
    complete = record.status != "done" or record.values.keys() == claim.measures.keys()
    return complete and (record.claim, record.arm, record.seed) == (claim.name, arm, seed)


class StoredArrays(Mapping[str, Any]):
    """The arrays of a result that stay in its file: their names are known, and the file is read for the first array.

    Raises `StoreError` for an array if the file is gone by then, or holds another result than the one with `sha256`.
    """

    def __init__(self, path: str, names: Sequence[str], sha256: str) -> None:
        self._path, self._names, self._sha256 = path, tuple(names), sha256
        self._arrays: Mapping[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if self._arrays is None:
            self._arrays = self._read()
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"StoredArrays({self._path!r}, {list(self._names)})"

    def _read(self) -> Mapping[str, Any]:
        try:
            found = parsed(Path(self._path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            found = None
        if found is None or found[1] != self._sha256:
            raise StoreError(
                f"expected the arrays of a result in {self._path}, which was removed or changed while the results were "
                "in use; start the command again"
            )
        return found[0].arrays


def _canonical(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, allow_nan=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
