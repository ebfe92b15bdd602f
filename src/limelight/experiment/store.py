"""A folder of results with one file for each trial, named by a hash of everything that could change its result.

    results/<claim>/<sha-256>.json        {"sha256": hash of the record, "record": {...}}
    results/damaged/<claim>-<sha-256>…    files that were truncated or edited, and were moved here
    results/.index.sqlite                 what the files hold, for fast reading; it is made anew where it is missing

A file is written completely or not at all. Any number of runners may share a folder: a trial that two of them compute
is written twice, completely each time. A runner that is killed loses the trials that it was computing and nothing else.
A file that is not a valid result is reported in one sentence, and the other results are read, also from a folder that
cannot be written.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from limelight.errors import StoreError
from limelight.experiment.claim import Experiment
from limelight.experiment.fingerprint import trial_key, trial_keys, without_garbage_collection
from limelight.experiment.index import Index
from limelight.experiment.indexed_reading import IndexedReading, stamps_in
from limelight.experiment.result_file import is_result_of, parsed, text_of
from limelight.experiment.results import Record, Results


class Store:
    """The results in a folder, which is made when the first result is written.

    `damaged` lists, in one sentence each, the files that were not valid results. Raises `StoreError` if the path is
    something other than a folder, or cannot be read.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.damaged: list[str] = []
        self._index = Index(self.folder)
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
        """The result of a trial, read from its file, or None if there is none.

        A damaged file is moved to the folder `damaged` and reported in `self.damaged`.
        """
        if not os.path.lexists(self.folder / claim.name):  # then `path`, which takes a second, need not be computed
            return None
        found = self._read(self.path(claim, arm, seed), claim, arm, seed)
        return None if found is None else found[0]

    def save(self, claim: Experiment, record: Record) -> None:
        """Write the result of a trial, completely or not at all. Raises `StoreError` where it cannot be written."""
        write_atomically(self.path(claim, record.arm, record.seed), text_of(record))

    def results(self, claim: Experiment, seeds: int | None = None, first: int = 0) -> Results:
        """The results of a claim for `seeds` seeds from `first` on; for None, up to the first seed without a result.

        Arrays are read from their files when they are asked for.
        """
        return Results(claim.arms, claim.measures, self.records(claim, (first,), seeds))

    def records(self, claim: Experiment, firsts: Sequence[int], seeds: int | None = None) -> list[Record]:
        """The results of a claim, as in `results`, for the seeds from each of `firsts` on."""
        records: list[Record] = []
        with without_garbage_collection(), self.reading(claim) as find:
            for first in firsts:
                for seed in itertools.count(first) if seeds is None else range(first, first + seeds):
                    found = [record for arm in claim.arms if (record := find(arm, seed)) is not None]
                    if seeds is None and not found:
                        break
                    records += found
        return records

    def summary(self, claim: str, state: str) -> str | None:
        """The summary of a claim that was kept when everything that it depends on was in this state, or None."""
        kept = self._index.summary(claim, state)
        self._tell_of_index()
        return kept

    def keep_summaries(self, summaries: Mapping[str, tuple[str, str]]) -> None:
        """Keep the (state, summary) of these claims, if the folder has an index."""
        self._index.keep(summaries)
        self._tell_of_index()

    def _tell_of_index(self) -> None:
        if self._index.problem and self._index.problem not in self.damaged:
            self.damaged.append(self._index.problem)

    def newest(self, claim: Experiment, records: Sequence[Record]) -> float | None:
        """When the newest of these results was written, in seconds since 1970; None if the folder has none of them."""
        if not records:  # then the keys, which take a second, need not be computed
            return None
        stamps, key = stamps_in(self.folder / claim.name) or {}, trial_keys(claim)
        found = [stamps.get(f"{key(record.arm, record.seed)}.json") for record in records]
        return max((stamp[1] / 1e9 for stamp in found if stamp), default=None)

    @contextlib.contextmanager
    def reading(self, claim: Experiment) -> Iterator[Callable[[str, int], Record | None]]:
        """Yields the function (arm, seed) ↦ the result of that trial, or None, for reading many results of a claim.

        It returns what `load` returns, except that results which are written after the block began may be missing. The
        folder is listed once, and a file that has not changed since it was last read is not read again: what it holds
        is kept in an index (`limelight.experiment.index`).
        """
        folder = self.folder / claim.name
        if not os.path.lexists(folder):
            yield lambda arm, seed: None
            return
        stamps = stamps_in(folder)
        if stamps is None:  # then every file is reported as unreadable
            yield lambda arm, seed: self.load(claim, arm, seed)
            return
        reading = IndexedReading(folder, claim, stamps, self._index, self._read)
        try:
            yield reading.find
        finally:
            reading.close()
            self._tell_of_index()

    def _read(self, path: Path, claim: Experiment, arm: str, seed: int) -> tuple[Record, str] | None:
        """The record in a file and its SHA-256, or None if it is no result of this trial, which is then reported."""
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
        found = parsed(content)
        if found is None or not is_result_of(found[0], claim, arm, seed):
            self._move_to_damaged(path)
            return None
        return found

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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that any reader sees the old content or the new content, and never a part of it.

    Text is written in UTF-8. The file's permissions follow the umask. Raises `StoreError` where the file cannot be
    written.
    """
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
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
