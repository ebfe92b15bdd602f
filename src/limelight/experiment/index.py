"""An index of a folder of results: what their files hold, without the arrays, in one SQLite file beside them.

It also keeps a summary of each claim, for as long as nothing has changed that its verdict depends on (`unchanged.py`).

To read and check the file of a result takes up to half a millisecond, so a hundred thousand would take a minute. The
files stay the truth. An entry of the index counts only while its file has the size and the times that it had when it
was read, and only if the entry's own checksum is right; otherwise the file is read again. So nothing that is wrong with
the index can change a result: not a crash within a write, not a disk that loses bits, and not a shared folder whose
locks do not work.

This is why SQLite keeps its journal in memory and waits for no disk: the journal of a database on disk protects its
content, which here can be made again. (A write-ahead log needs memory that all processes share, which a network folder
does not have. A journal file beside the database would be applied to the index that replaces a damaged one.)

A file that was changed less than two seconds ago is not entered, since file systems count time in steps: a second
change within the same step could leave size and times as they are.
"""

from __future__ import annotations

import contextlib
import json
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from limelight.experiment.result_file import StoredArrays
from limelight.experiment.results import Record

try:
    import sqlite3
except ImportError:  # some builds of Python lack it; then there is no index
    sqlite3 = None  # type: ignore[assignment]

NAME = ".index.sqlite"
SETTLED = 2_000_000_000  # nanoseconds since its last change after which a file can be entered
_LAYOUT = 2  # of the tables
_APPLICATION = 0x4C696D65  # "Lime": the application_id of SQLite files that are such an index
_PATIENCE = 2  # seconds to wait for another process that writes
_RECORD_FIELDS = ",".join(field.name for field in fields(Record))
_VERSION = zlib.crc32(f"{_LAYOUT} {_RECORD_FIELDS}".encode()) & 0x7FFFFFFF  # another one where a record has a new field
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS shared (id INTEGER PRIMARY KEY, body BLOB UNIQUE)",
    "CREATE TABLE IF NOT EXISTS results (claim BLOB, name TEXT, size INTEGER, mtime INTEGER, ctime INTEGER, body BLOB, "
    "shared INTEGER, checksum INTEGER, PRIMARY KEY (claim, name)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS summaries (claim BLOB PRIMARY KEY, state TEXT, body BLOB, checksum INTEGER) "
    "WITHOUT ROWID",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_NOT_WRITABLE = {3, 8, 14}  # SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN
_DAMAGED = {1, 11, 17, 20, 26}  # SQLITE_ERROR (no such table), _CORRUPT, _SCHEMA, _MISMATCH, _NOTADB

_PROBLEMS = (OSError,) if sqlite3 is None else (OSError, sqlite3.Error)

_DECODE = json.JSONDecoder().raw_decode
Answer = TypeVar("Answer")


# A file counts as unchanged if these are equal: its size, and when its content and its entry in the folder last
# changed. These are plain tuples, and an `Entry` is a row of the table as SQLite returns it, since they are made a
# hundred thousand times.
Stamp = tuple[int, int, int]
Entry = tuple[int, int, int, bytes, bytes, int]  # the stamp, what the result has of its own and shared, the checksum


def is_settled(stamp: Stamp) -> bool:
    """True if a change of the file from now on will change its times too."""
    return time.time_ns() - max(stamp[1:]) >= SETTLED


class Index:
    """The index of a folder of results. It is made when the first result is entered, and may be removed at any time.

    `problem` is one sentence that says why the index cannot be used, or empty. No method raises for what is wrong with
    the index: then nothing is known, and nothing is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.problem = ""
        self._is_off = sqlite3 is None

    def entries(self, claim: str) -> dict[str, Entry]:
        """What is known of the files of a claim, by their names."""
        return self._guarded(lambda: self._read(claim), {}) if self.path.exists() else {}

    def update(self, claim: str, new: Mapping[str, Entry], gone: Iterable[str] = ()) -> None:
        """Enter these files of a claim, and forget those that are gone."""
        removed = list(gone)
        if new or removed:
            self._guarded(lambda: self._write(claim, new, removed), None)

    def summary(self, claim: str, state: str) -> str | None:
        """The summary that was kept of a claim when it was in this state, or None."""
        return self._guarded(lambda: self._summary(claim, state), None) if self.path.exists() else None

    def keep(self, summaries: Mapping[str, tuple[str, str]]) -> None:
        """Keep the (state, summary) of these claims in place of what was kept. It does not make an index."""
        if summaries and self.path.exists():
            self._guarded(lambda: self._keep(summaries), None)

    def _guarded(self, action: Callable[[], Answer], otherwise: Answer) -> Answer:
        """The answer of an action. An index that is damaged is removed, and the action tried once more."""
        for _ in range(2):
            if self._is_off:
                break
            try:
                return action()
            except FileNotFoundError:  # another process, or the first try, has removed a damaged one
                break
            except _UnusableError as problem:
                self._give_up(str(problem))
            except _PROBLEMS as problem:
                self._handle(problem)
        return otherwise

    def _handle(self, problem: Exception) -> None:
        code = _code(problem)
        if code in _NOT_WRITABLE or isinstance(problem, PermissionError):
            self._is_off = True  # a folder that cannot be written is no fault
        elif code in _DAMAGED:
            try:
                self.path.unlink(missing_ok=True)
            except OSError:
                self._is_off = True
        else:
            self._give_up(str(problem))

    def _give_up(self, why: str) -> None:
        self._is_off = True
        self.problem = f"the index {self.path} cannot be used ({why}); every result is read from its file instead"

    def _read(self, claim: str) -> dict[str, Entry]:
        with self._opened("ro") as database:
            if not _is_current(database):
                return {}
            shared = dict(database.execute("SELECT id, body FROM shared"))
            rows = database.execute(
                "SELECT name, size, mtime, ctime, body, shared, checksum FROM results WHERE claim = ?", (_key(claim),)
            ).fetchall()
        return {
            name: (size, mtime, ctime, body, shared.get(common, b""), checksum)
            for name, size, mtime, ctime, body, common, checksum in rows
        }

    def _write(self, claim: str, new: Mapping[str, Entry], gone: Sequence[str]) -> None:
        self.path.touch()  # SQLite itself would let only its owner write it, whatever the umask
        with self._changed() as database:
            database.executemany(
                "DELETE FROM results WHERE claim = ? AND name = ?", [(_key(claim), name) for name in gone]
            )
            bodies = {entry[4] for entry in new.values()}
            database.executemany("INSERT OR IGNORE INTO shared (body) VALUES (?)", [(body,) for body in bodies])
            ids = {body: identity for identity, body in database.execute("SELECT id, body FROM shared")}
            if not bodies <= ids.keys():
                raise sqlite3.DatabaseError("the table has lost a row that was just inserted")
            database.executemany(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (_key(claim), name, *stamp, body, ids[shared], checksum)
                    for name, (*stamp, body, shared, checksum) in new.items()
                ],
            )

    def _summary(self, claim: str, state: str) -> str | None:
        with self._opened("ro") as database:
            if not _is_current(database):
                return None
            found = database.execute("SELECT state, body, checksum FROM summaries WHERE claim = ?", (_key(claim),))
            kept = found.fetchone()
        if kept is None or kept[0] != state or not isinstance(kept[1], bytes) or kept[2] != _checksum(state, kept[1]):
            return None
        return kept[1].decode()

    def _keep(self, summaries: Mapping[str, tuple[str, str]]) -> None:
        rows = [(_key(claim), state, body.encode()) for claim, (state, body) in summaries.items()]
        with self._changed() as database:
            database.executemany(
                "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)",
                [(claim, state, body, _checksum(state, body)) for claim, state, body in rows],
            )

    @contextlib.contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        """The database, with its tables, within a transaction."""
        with self._opened("rw") as database:
            for setting in ("journal_mode = MEMORY", "synchronous = OFF"):
                database.execute(f"PRAGMA {setting}")
            database.execute("BEGIN IMMEDIATE")
            if not _is_current(database):
                for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    database.execute(f'DROP TABLE "{table}"')
                for statement in _SCHEMA:
                    database.execute(statement)
            yield database
            database.execute("COMMIT")

    @contextlib.contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        if not stat.S_ISREG(self.path.stat().st_mode):  # opening a pipe would wait for ever
            raise _UnusableError("it is not a file")
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        with contextlib.closing(sqlite3.connect(address, _PATIENCE, isolation_level=None, uri=True)) as database:
            yield database


class _UnusableError(Exception):
    """What is at the path of the index is not Limelight's."""


def entry_of(record: Record, sha256: str, stamp: Stamp) -> Entry:
    """What the index keeps of a record that was read from a file with this stamp."""
    arrays = [list(record.arrays), sha256] if record.arrays else []
    own = [record.arm, record.seed, record.status, record.reason, record.seconds, record.values, arrays]
    body = json.dumps(own).encode()
    shared = json.dumps([record.claim, record.versions, record.machine]).encode()
    return (*stamp, body, shared, zlib.crc32(body, zlib.crc32(shared)))


def record_of(entry: Entry, path: str) -> Record | None:
    """The record of an entry, whose arrays are read from the file when they are asked for; None for a damaged entry."""
    _, _, _, body, shared, checksum = entry
    try:
        start, (claim, versions, machine) = _shared(shared)
        if zlib.crc32(body, start) != checksum:
            return None
        arm, seed, status, reason, seconds, values, arrays = _DECODE(body.decode())[0]
    except (TypeError, ValueError):
        return None
    stored = StoredArrays(path, *arrays) if arrays else {}
    return Record(claim, arm, seed, status, reason, seconds, values, stored, versions, machine)


@lru_cache(maxsize=1024)
def _shared(body: bytes) -> tuple[int, Any]:
    """What the records of one run have in common, as one object for all of them, and the checksum of its text."""
    return zlib.crc32(body), json.loads(body)


def _checksum(state: str, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(state.encode()))


def _key(claim: str) -> bytes:
    """The name of a claim as the table has it: bytes, since SQLite refuses text with half of a surrogate pair."""
    return claim.encode(errors="surrogatepass")


def _is_current(database: sqlite3.Connection) -> bool:
    """Whether the database is an index of this version. Raises `_UnusableError` for a database of another program."""
    ((application,),) = database.execute("PRAGMA application_id")
    ((version,),) = database.execute("PRAGMA user_version")
    ((tables,),) = database.execute("SELECT count(*) FROM sqlite_master")
    if tables and application != _APPLICATION:
        raise _UnusableError("it is a database of another program")
    return bool(version == _VERSION and tables)


def _code(problem: Exception) -> int:
    """SQLite's primary code of an error; that of damage for a text that cannot be decoded, which has no code."""
    return 0 if isinstance(problem, OSError) else int(getattr(problem, "sqlite_errorcode", 1)) & 0xFF
