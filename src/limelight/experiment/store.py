"""A folder of results with one file for each trial, named by a hash of everything that could change its result.

    results/<claim>/<sha-256>.json        {"sha256": hash of the record, "record": {...}}
    results/damaged/<claim>-<sha-256>…    files that were truncated or edited, and were moved here

A file is written completely or not at all. Any number of runners may share a folder: a trial that two of them compute
is written twice, completely each time. A runner that is killed loses the trials that it was computing and nothing else.
A file that is not a valid result is reported in one sentence, and the other results are read, also from a folder that
cannot be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from limelight.errors import StoreError
from limelight.experiment.claim import Experiment
from limelight.experiment.fingerprint import trial_key
from limelight.experiment.results import Record, Results, as_record


class Store:
    """The results in a folder, which is made when the first result is written.

    `damaged` lists, in one sentence each, the files that were not valid results. Raises `StoreError` if the path is
    something other than a folder, or cannot be read.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.damaged: list[str] = []
        problem = _folder_problem(self.folder)
        if problem:
            raise StoreError(
                f"expected a folder of results at {self.folder}, which {problem}; name another folder with --results"
            )

    def require_writable(self, claims: Iterable[Experiment]) -> None:
        """Make the folders of these claims. Raises `StoreError` where results cannot be written."""
        for folder in (self.folder, *(self.folder / claim.name for claim in claims)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as problem:
                raise StoreError(
                    f"cannot write results to {folder} ({_folder_problem(folder) or problem.strerror}); "
                    "name another folder with --results"
                ) from None

    def path(self, claim: Experiment, arm: str, seed: int) -> Path:
        """The path of a trial's result file, whether or not the file exists."""
        return self.folder / claim.name / f"{trial_key(claim, arm, seed)}.json"

    def load(self, claim: Experiment, arm: str, seed: int) -> Record | None:
        """The result of a trial, or None if there is none.

        A damaged file is moved to the folder `damaged` and reported in `self.damaged`.
        """
        if not os.path.lexists(self.folder / claim.name):  # then `path`, which takes a second, need not be computed
            return None
        path = self.path(claim, arm, seed)
        try:
            mode = path.stat().st_mode
            content = path.read_text(encoding="utf-8") if stat.S_ISREG(mode) else ""
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            content = ""
        except OSError as problem:
            self._report_unreadable(path, problem)
            return None
        record = _parse(content)
        if record is None or not _is_result_of(record, claim, arm, seed):
            self._move_to_damaged(path)
            return None
        return record

    def save(self, claim: Experiment, record: Record) -> None:
        """Write the result of a trial, completely or not at all. Raises `StoreError` where it cannot be written."""
        body = _canonical(asdict(record))
        write_atomically(
            self.path(claim, record.arm, record.seed), json.dumps({"sha256": _digest(body), "record": json.loads(body)})
        )

    def results(self, claim: Experiment, seeds: int | None = None, first: int = 0) -> Results:
        """The results of a claim for `seeds` seeds from `first` on; for None, up to the first seed without a result."""
        records: list[Record] = []
        seed = first
        while seeds is None or seed < first + seeds:
            found = [record for arm in claim.arms if (record := self.load(claim, arm, seed)) is not None]
            if seeds is None and not found:
                break
            records += found
            seed += 1
        return Results(claim.arms, claim.measures, records)

    def _report_unreadable(self, path: Path, problem: OSError) -> None:
        folder = path.parent
        wrong = _folder_problem(folder)
        sentence = (
            f"expected a folder of results at {folder}, which {wrong}; it is ignored, and nothing can be written there"
            if wrong
            else f"cannot read {path} ({problem.strerror}); it is ignored"
        )
        if sentence not in self.damaged:  # one sentence is enough for all trials of a claim
            self.damaged.append(sentence)

    def _move_to_damaged(self, path: Path) -> None:
        folder = self.folder / "damaged"
        target = folder / f"{path.parent.name}-{path.name}"
        try:
            folder.mkdir(exist_ok=True)
            if target.is_dir() and not target.is_symlink():
                target = target.with_name(f"{target.name}-{uuid.uuid4().hex}")
            path.replace(target)
        except OSError as problem:
            reason = _folder_problem(folder) or problem.strerror
            sentence = f"{path} is not a valid result, and cannot be moved to {folder} ({reason}); it is ignored"
        else:
            sentence = f"a result file was damaged; it was moved to {target}, and its trial has to be run again"
        if sentence not in self.damaged:
            self.damaged.append(sentence)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that any reader sees the old content or the new content, and never a part of it.

    The file's permissions follow the umask. Raises `StoreError` where the file cannot be written.
    """
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(f"cannot write {path} ({problem.strerror})") from None


def _folder_problem(path: Path) -> str:
    """Why the path is no folder of results, as the end of a sentence; empty if it is one, or does not exist yet."""
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return "is a file"
        return "" if os.access(path, os.R_OK | os.X_OK) else "cannot be read (permission denied)"
    except FileNotFoundError:
        return "is a link that leads nowhere" if path.is_symlink() else ""
    except NotADirectoryError:
        return "lies below a file"
    except OSError as problem:
        return f"cannot be read ({problem.strerror})"


def _is_result_of(record: Record, claim: Experiment, arm: str, seed: int) -> bool:
    """True if the record is the result of this trial and has every measure."""
    complete = record.status != "done" or record.values.keys() == claim.measures.keys()
    return complete and (record.claim, record.arm, record.seed) == (claim.name, arm, seed)


def _parse(content: str) -> Record | None:
    """The record in a file's content, or None if the content is damaged."""
    try:
        outer = json.loads(content)
        record = outer["record"]
        if outer["sha256"] != _digest(_canonical(record)):
            return None
        return as_record(record)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # the last for deeply nested brackets
        return None


def _canonical(record: dict) -> str:  # type: ignore[type-arg]
    return json.dumps(record, sort_keys=True, allow_nan=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
