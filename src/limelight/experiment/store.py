"""A folder of results, one file a cell, named by what could change it. No file is ever half written.

    results/<claim>/<sha-256>.json        {"sha256": of the record, "record": {...}}
    results/damaged/<claim>-<sha-256>…    files that were truncated or edited, set aside

Any number of runners may share a folder: a cell that two of them compute is written twice, whole
each time. A killed runner loses the cells that were being computed and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from limelight.errors import StoreError
from limelight.experiment.claim import Claim
from limelight.experiment.fingerprint import cell_key
from limelight.experiment.results import Record, Results


class Store:
    """Results under a folder, which is made if need be.

    Raises `StoreError` where the folder cannot be written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.damaged: list[Path] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as problem:
            raise StoreError(
                f"cannot write results to {self.folder} ({problem.strerror}); name another folder with --results"
            ) from None

    def path(self, claim: Claim, arm: str, seed: int) -> Path:
        """Where the result of a cell is, or would be."""
        return self.folder / claim.name / f"{cell_key(claim, arm, seed)}.json"

    def load(self, claim: Claim, arm: str, seed: int) -> Record | None:
        """The result of a cell, or None if there is none. A damaged file is set aside, and named in `damaged`."""
        path = self.path(claim, arm, seed)
        try:
            content = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            self._set_aside(path)
            return None
        record = _checked(content)
        if record is None or (record.claim, record.arm, record.seed) != (claim.name, arm, seed):
            self._set_aside(path)
            return None
        return record

    def save(self, claim: Claim, record: Record) -> None:
        """Write the result of a cell: all of it, or nothing."""
        body = _canonical(asdict(record))
        write_atomically(
            self.path(claim, record.arm, record.seed), json.dumps({"sha256": _digest(body), "record": json.loads(body)})
        )

    def results(self, claim: Claim, seeds: int | None = None) -> Results:
        """All results of a claim for seeds 0, 1, …; without a number, up to the first seed that has none."""
        records: list[Record] = []
        seed = 0
        while seeds is None or seed < seeds:
            found = [record for arm in claim.arms if (record := self.load(claim, arm, seed)) is not None]
            if seeds is None and not found:
                break
            records += found
            seed += 1
        return Results(claim.arms, claim.measures, records)

    def _set_aside(self, path: Path) -> None:
        aside = self.folder / "damaged"
        aside.mkdir(exist_ok=True)
        target = aside / f"{path.parent.name}-{path.name}"
        path.replace(target)
        self.damaged.append(target)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that whoever looks sees the old one or the new one, and never a part.

    Raises `StoreError` where it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".", suffix=".tmp", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as problem:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path} ({problem.strerror})") from None


def _checked(content: str) -> Record | None:
    """The record in a file's content, or None if it is not what was written."""
    try:
        outer = json.loads(content)
        record = outer["record"]
        if outer["sha256"] != _digest(_canonical(record)):
            return None
        return Record(**record)
    except (ValueError, KeyError, TypeError):
        return None


def _canonical(record: dict) -> str:  # type: ignore[type-arg]
    return json.dumps(record, sort_keys=True, allow_nan=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
