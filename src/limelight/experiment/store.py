"""A folder of results, one file a trial, named by what could change it. No file is ever half written.

    results/<claim>/<sha-256>.json        {"sha256": of the record, "record": {...}}
    results/damaged/<claim>-<sha-256>…    files that were truncated or edited, set aside

Any number of runners may share a folder: a trial that two of them compute is written twice, whole
each time. A killed runner loses the trials that were being computed and nothing else. A file that is not a valid
result is reported in one sentence, and the other results are read, also from a folder that cannot be written.
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
from limelight.experiment.claim import Claim
from limelight.experiment.fingerprint import trial_key
from limelight.experiment.results import Record, Results, as_record


class Store:
    """Results under a folder, which is made when the first is written.

    Raises `StoreError` where something other than a folder lies there.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.damaged: list[str] = []
        problem = _no_folder(self.folder)
        if problem:
            raise StoreError(
                f"expected a folder of results at {self.folder}, which {problem}; name another folder with --results"
            )

    def require_writable(self, claims: Iterable[Claim]) -> None:
        """Make the folders of these claims. Raises `StoreError` where results cannot be written."""
        for folder in (self.folder, *(self.folder / claim.name for claim in claims)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as problem:
                raise StoreError(
                    f"cannot write results to {folder} ({_no_folder(folder) or problem.strerror}); "
                    "name another folder with --results"
                ) from None

    def path(self, claim: Claim, arm: str, seed: int) -> Path:
        """Where the result of a trial is, or would be."""
        return self.folder / claim.name / f"{trial_key(claim, arm, seed)}.json"

    def load(self, claim: Claim, arm: str, seed: int) -> Record | None:
        """The result of a trial, or None if there is none. A damaged file is moved away and listed in `damaged`."""
        if not os.path.lexists(self.folder / claim.name):  # the sources need not be read, which takes a second
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
            self._tell(path.parent, path, problem)
            return None
        record = _checked(content)
        if record is None or not _belongs(record, claim, arm, seed):
            self._set_aside(path)
            return None
        return record

    def save(self, claim: Claim, record: Record) -> None:
        """Write the result of a trial: all of it, or nothing."""
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

    def _tell(self, folder: Path, path: Path, problem: OSError) -> None:
        wrong = _no_folder(folder)
        sentence = (
            f"expected a folder of results at {folder}, which {wrong}; it is left out, and nothing can be written there"
            if wrong
            else f"cannot read {path} ({problem.strerror}); it is left out"
        )
        if sentence not in self.damaged:  # once for all the trials of a claim
            self.damaged.append(sentence)

    def _set_aside(self, path: Path) -> None:
        aside = self.folder / "damaged"
        target = aside / f"{path.parent.name}-{path.name}"
        try:
            aside.mkdir(exist_ok=True)
            if target.is_dir() and not target.is_symlink():
                target = target.with_name(f"{target.name}-{uuid.uuid4().hex}")
            path.replace(target)
        except OSError as problem:
            reason = _no_folder(aside) or problem.strerror
            sentence = f"{path} holds no result as it was written, and cannot be set aside ({reason}); it is left out"
        else:
            sentence = f"a result file was damaged; it is set aside as {target} and its run is done again"
        if sentence not in self.damaged:
            self.damaged.append(sentence)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that whoever looks sees the old one or the new one, and never a part.

    Who may read it, the umask says. Raises `StoreError` where it cannot be written.
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


def _no_folder(path: Path) -> str:
    """What stands in place of a folder, as half a sentence; nothing where there is a folder, or nothing yet."""
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


def _belongs(record: Record, claim: Claim, arm: str, seed: int) -> bool:
    """True if the record is the result of this trial and has every measure."""
    complete = record.status != "done" or record.values.keys() == claim.measures.keys()
    return complete and (record.claim, record.arm, record.seed) == (claim.name, arm, seed)


def _checked(content: str) -> Record | None:
    """The record in a file's content, or None if it is not what was written."""
    try:
        outer = json.loads(content)
        record = outer["record"]
        if outer["sha256"] != _digest(_canonical(record)):
            return None
        return as_record(record)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # the last of brackets within brackets
        return None


def _canonical(record: dict) -> str:  # type: ignore[type-arg]
    return json.dumps(record, sort_keys=True, allow_nan=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
