"""Many results of one claim: from the index where a file has not changed since it was read, otherwise from the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from limelight.experiment.claim import Experiment
from limelight.experiment.fingerprint import trial_keys
from limelight.experiment.index import Entry, Index, Stamp, entry_of, is_settled, record_of
from limelight.experiment.result_file import is_result_of
from limelight.experiment.results import Record

_ENTERED_AT_ONCE = 2000  # files, in one short transaction of the index; a command that is killed loses no more

Stamps = Mapping[str, Stamp | None]
Read = Callable[[Path, Experiment, str, int], tuple[Record, str] | None]


class IndexedReading:
    """The files of a claim as they are listed in `stamps`; `read` reads one of them, and reports what is wrong."""

    def __init__(self, folder: Path, claim: Experiment, stamps: Stamps, index: Index, read: Read) -> None:
        self._folder, self._claim, self._stamps, self._index, self._read = folder, claim, stamps, index, read
        self._key = trial_keys(claim)
        self._known = index.entries(claim.name)
        self._new: dict[str, Entry] = {}

    def find(self, arm: str, seed: int) -> Record | None:
        """The result of a trial, or None if there was none when the folder was listed."""
        name = f"{self._key(arm, seed)}.json"
        if name not in self._stamps:
            return None
        return self._indexed(name, arm, seed) or self._from_file(name, arm, seed)

    def close(self) -> None:
        """Enter what was read in the index, and take from it the files that are gone."""
        self._index.update(self._claim.name, self._new, self._known.keys() - self._stamps.keys())

    def _indexed(self, name: str, arm: str, seed: int) -> Record | None:
        entry = self._known.get(name)
        if entry is None or entry[:3] != self._stamps[name]:
            return None
        record = record_of(entry, f"{self._folder}{os.sep}{name}")
        return record if record is not None and is_result_of(record, self._claim, arm, seed) else None

    def _from_file(self, name: str, arm: str, seed: int) -> Record | None:
        stamp = self._stamps[name]  # taken before the file is read, so that a change while it is read is noticed
        found = self._read(self._folder / name, self._claim, arm, seed)
        if found is None:
            return None
        if stamp is not None and is_settled(stamp):
            self._enter(name, entry_of(*found, stamp))
        return found[0]

    def _enter(self, name: str, entry: Entry) -> None:
        self._new[name] = entry
        if len(self._new) >= _ENTERED_AT_ONCE:
            self._index.update(self._claim.name, self._new)
            self._new = {}


def stamps_in(folder: Path) -> Stamps | None:
    """The stamp of each file in a folder, None for what is no file or cannot be read; None if it cannot be listed."""
    try:
        with os.scandir(folder) as files:
            return {file.name: _stamp(file) for file in files}
    except OSError:
        return None


def _stamp(file: os.DirEntry[str]) -> Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns) if stat.S_ISREG(found.st_mode) else None
