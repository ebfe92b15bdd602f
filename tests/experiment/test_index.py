"""The index of a folder of results: what is read by it is what the files hold, whatever happens to files or index."""

import hashlib
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from limelight import StoreError
from limelight.experiment import index
from limelight.experiment.fingerprint import circumstances, trial_key, trial_keys
from limelight.experiment.index import NAME, Index
from limelight.experiment.result_file import StoredArrays, parsed, text_of
from limelight.experiment.results import Record
from limelight.experiment.runner import missing, trials
from limelight.experiment.store import Store
from tests.experiment.large import write_results
from tests.experiment.toy import Faulty, Toy

SEEDS = 4
COUNT = SEEDS * len(Toy.arms)


@pytest.fixture(autouse=True)
def files_are_settled(monkeypatch):
    """Files may be entered at once, as if they had been written long ago."""
    monkeypatch.setattr(index, "SETTLED", -(10**18))


@pytest.fixture
def folder(tmp_path):
    """Results of the toy claim, and their index."""
    folder = tmp_path / "results"
    write_results(folder, Toy(), range(SEEDS))
    assert len(Store(folder).results(Toy()).records) == COUNT
    assert (folder / NAME).exists()
    return folder


@pytest.fixture
def reads(monkeypatch):
    """The files that are read from here on."""
    found, read = [], Store._read

    def noted(self, path, *trial):
        found.append(path)
        return read(self, path, *trial)

    monkeypatch.setattr(Store, "_read", noted)
    return found


def from_files(folder):
    plain = Store(folder)
    return [plain.load(Toy(), arm, seed) for arm in Toy.arms for seed in range(SEEDS)]


def test_results_are_equal_with_and_without_the_index(folder, reads):
    found = Store(folder).results(Toy())
    assert reads == []
    expected = from_files(folder)
    assert found.records == expected
    assert [type(record.values["size"]) for record in found.records] == [float] * COUNT
    assert found.stack("one", "line").tolist() == [[0.0, 1.0, 2.0]] * SEEDS
    assert Toy().verdict(found) == Toy().verdict(type(found)(Toy.arms, Toy.measures, expected))


def test_every_field_of_a_record_is_kept():
    given = {
        "claim": "toy", "arm": "one", "seed": 7, "status": "diverged", "reason": "as \ud800 does", "seconds": 0.1,
        "values": {"size": 0.1 + 0.2, "count": 10**20, "zero": -0.0}, "arrays": {}, "versions": {"torch": "2"},
        "machine": "a computer",
    }  # fmt: skip
    assert given.keys() == {field.name for field in fields(Record)}
    defaults = Record("", "", 0, "done")
    assert all(given[field.name] != getattr(defaults, field.name) for field in fields(Record) if field.name != "arrays")
    record = Record(**given)
    found = index.record_of(index.entry_of(record, "0" * 64, (1, 2, 3)), "file")
    assert repr(found) == repr(record)


def test_the_names_are_those_of_the_plain_formula():
    toy = Toy()
    key = trial_keys(toy)
    for arm, seed in (("one", 0), ('µ "quoted" \'\\', 10**9), ("zero", -1)):
        identity = {"claim": "toy", "arm": arm, "seed": seed, **circumstances(toy)}
        plain = json.dumps(identity, sort_keys=True).encode()
        assert key(arm, seed) == trial_key(toy, arm, seed) == hashlib.sha256(plain).hexdigest()


def test_arrays_are_read_when_they_are_asked_for(folder, reads):
    record = Store(folder).results(Toy()).records[0]
    assert isinstance(record.arrays, StoredArrays)
    assert list(record.arrays) == ["line"]
    assert "line" in record.arrays
    assert "other" not in record.arrays
    assert pickle.loads(pickle.dumps(record)) == record
    with pytest.raises(KeyError):
        record.arrays["other"]
    assert record.arrays["line"] == [0.0, 1.0, 2.0]
    assert parsed(text_of(record))[0] == record


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("{}"), lambda path: again(path, 9.0)])
def test_arrays_of_a_file_that_has_changed_meanwhile_are_refused(folder, change):
    found = Store(folder).results(Toy())
    change(Store(folder).path(Toy(), "one", 2))
    with pytest.raises(StoreError, match="was removed or changed while the results were in use"):
        found.stack("one", "line")


def again(path, size):
    """Write another valid result of the same length to a file, at the same time of its last change."""
    before, text = path.stat(), path.read_text()
    record = parsed(text)[0]
    changed = text_of(replace(record, values={"size": size}))
    path.write_text(changed + " " * (len(text) - len(changed)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_a_file_edited_by_hand_is_read_again(folder, reads):
    path = Store(folder).path(Toy(), "one", 2)
    again(path, 9.0)
    assert Store(folder).results(Toy()).values("one", "size")[2] == 9.0
    assert reads == [path]
    assert Store(folder).results(Toy()).values("one", "size")[2] == 9.0
    assert reads == [path]


def test_a_file_edited_wrongly_is_set_aside(folder):
    path = Store(folder).path(Toy(), "one", 2)
    path.write_text(path.read_text().replace('"seed": 2', '"seed": 3'))
    reader = Store(folder)
    assert len(reader.results(Toy()).records) == COUNT - 1
    assert len(reader.damaged) == 1
    assert not path.exists()
    assert (folder / "damaged" / f"toy-{path.name}").exists()


def test_a_file_that_is_removed_is_gone(folder, reads):
    path = Store(folder).path(Toy(), "one", 2)
    text = path.read_text()
    path.unlink()
    assert Store(folder).results(Toy()).seeds("one") == [0, 1, 3]
    assert path.name not in Index(folder).entries("toy")
    assert reads == []
    path.write_text(text)
    assert Store(folder).results(Toy()).seeds("one") == [0, 1, 2, 3]
    assert reads == [path]


def test_a_file_that_is_added_is_read(folder, reads):
    write_results(folder, Toy(), [SEEDS])
    assert Store(folder).results(Toy()).seeds() == [*range(SEEDS + 1)]
    assert len(reads) == len(Toy.arms)


def test_a_renamed_file_is_not_the_result_of_another_trial(folder):
    first, second = (Store(folder).path(Toy(), "one", seed) for seed in (2, 3))
    first.replace(second)
    assert Store(folder).results(Toy()).seeds("one") == [0, 1]
    assert Store(folder).load(Toy(), "one", 3) is None


def test_a_claim_with_another_measure_reads_its_files(folder, monkeypatch):
    monkeypatch.setattr(Toy, "measures", Toy.measures | {"more": Toy.measures["size"]})
    assert Store(folder).results(Toy()).records == []


def test_a_file_that_has_just_changed_is_not_entered(folder, monkeypatch, reads):
    monkeypatch.setattr(index, "SETTLED", 10**18)
    write_results(folder, Toy(), [SEEDS])
    for _ in range(2):
        assert len(Store(folder).results(Toy()).records) == COUNT + 3
    assert len(reads) == 6
    monkeypatch.undo()
    assert index.is_settled((1, time.time_ns() - 3 * 10**9, 0))
    assert not index.is_settled((1, 0, time.time_ns() - 10**9))


def test_what_has_a_result_is_found_by_the_index(folder, reads):
    toy = Toy()
    wanted = trials([toy], SEEDS + 1)
    assert missing(wanted, Store(folder)) == wanted[-3:]
    assert reads == []


def test_results_of_other_code_are_not_mixed_with_those_of_this(folder, monkeypatch):
    from limelight.experiment import fingerprint

    monkeypatch.setattr(fingerprint, "source_digest", lambda *given: "other")
    assert Store(folder).results(Toy()).records == []
    write_results(folder, Toy(), [0])
    assert Store(folder).results(Toy()).seeds() == [0]
    monkeypatch.undo()
    assert Store(folder).results(Toy()).seeds() == [*range(SEEDS)]


def truncated(path):
    path.write_bytes(path.read_bytes()[:5000])


def garbage(path):
    path.write_bytes(b"no database at all " * 1000)


def empty(path):
    path.write_bytes(b"")


def without_tables(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE results")


def of_another_version(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1")


def missing_file(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncated, garbage, empty, without_tables, of_another_version, missing_file])
def test_an_index_that_is_damaged_is_made_anew(folder, damage, reads):
    damage(folder / NAME)
    reader = Store(folder)
    found = reader.results(Toy()).records
    assert len(reads) == COUNT
    assert reader.damaged == []
    assert found == from_files(folder)
    reads.clear()
    assert len(Store(folder).results(Toy()).records) == COUNT
    assert reads == []


def test_no_bit_of_the_index_can_change_a_result(folder):
    path = folder / NAME
    content, expected = path.read_bytes(), from_files(folder)
    choices = np.random.default_rng(0)
    for place in (*choices.integers(0, len(content), 150), *(content.find(b"0.25") + n for n in range(4))):
        changed = bytearray(content)
        changed[place] ^= 1 << int(choices.integers(0, 8))
        path.write_bytes(changed)
        assert Store(folder).results(Toy()).records == expected


@pytest.mark.parametrize("column", ["body", "shared", "checksum", "size", "mtime"])
@pytest.mark.parametrize("value", [None, "text", b"[]", 5])
def test_an_entry_of_another_type_is_read_from_its_file(folder, column, value):
    with closing(sqlite3.connect(folder / NAME)) as database, database:
        database.execute(f"UPDATE results SET {column} = ?", (value,))
    assert Store(folder).results(Toy()).records == from_files(folder)


def test_a_locked_index_is_reported_once_and_the_files_are_read(folder, monkeypatch):
    monkeypatch.setattr(index, "_PATIENCE", 0)
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        reader = Store(folder)
        for _ in range(2):
            assert reader.results(Toy()).records == from_files(folder)
    (told,) = reader.damaged
    assert told.startswith(f"the index {folder / NAME} cannot be used (database is locked); every result is read from")


def test_a_folder_on_which_sqlite_cannot_lock(folder, monkeypatch):
    connect = sqlite3.connect

    class Unlockable(sqlite3.Connection):
        def execute(self, *arguments):
            problem = sqlite3.OperationalError("locking protocol")
            problem.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
            raise problem

    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Unlockable))
    reader = Store(folder)
    assert reader.results(Toy()).records == from_files(folder)
    assert len(reader.damaged) == 1
    assert "(locking protocol)" in reader.damaged[0]


def test_a_python_without_sqlite_reads_the_files(folder, monkeypatch, reads):
    monkeypatch.setattr(index, "sqlite3", None)
    reader = Store(folder)
    assert reader.results(Toy()).records == from_files(folder)
    assert reader.damaged == []


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def a_loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("strange", [a_folder, a_pipe, a_loop])
def test_something_else_in_the_place_of_the_index_is_left_there(folder, strange):
    (folder / NAME).unlink()
    strange(folder / NAME)
    reader = Store(folder)
    assert reader.results(Toy()).records == from_files(folder)
    assert os.path.lexists(folder / NAME)
    assert len(reader.damaged) <= 1


def test_a_database_of_another_program_is_left_as_it_is(folder):
    path = folder / NAME
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE mine (value)")
    before = path.read_bytes()
    reader = Store(folder)
    assert reader.results(Toy()).records == from_files(folder)
    assert path.read_bytes() == before
    assert "(it is a database of another program)" in reader.damaged[0]


def test_the_umask_decides_who_may_write_the_index(folder):
    (folder / NAME).unlink()
    before = os.umask(0o002)
    try:
        Store(folder).results(Toy())
    finally:
        os.umask(before)
    assert (folder / NAME).stat().st_mode & 0o777 == 0o664


def test_no_index_is_made_where_there_are_no_results(tmp_path):
    Store(tmp_path / "none").results(Toy())
    (tmp_path / "results" / "toy").mkdir(parents=True)
    Store(tmp_path / "results").results(Toy())
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "results" / NAME).exists()


READ_ONLY = """
import os, sys
from limelight.experiment import index
from limelight.experiment.store import Store
from tests.experiment.toy import Toy
index.SETTLED = -(10**18)
if os.getuid() == 0:
    os.setuid(65534)  # not root
store = Store(sys.argv[1])
print(len(store.results(Toy()).records), store.damaged)
"""


@pytest.mark.parametrize("kept", ["index", pytest.param("half of it", marks=pytest.mark.slow), "nothing"])
def test_a_folder_that_cannot_be_written_is_read_without_a_word(tmp_path_factory, kept):
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)  # others may enter it, unlike the folders of pytest
        folder = Path(place) / "results"
        write_results(folder, Toy(), range(SEEDS))
        if kept != "nothing":
            Store(folder).results(Toy())
        if kept == "half of it":
            truncated(folder / NAME)
        for each in (folder / "toy", folder):
            each.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(folder)], capture_output=True, text=True, timeout=120, check=False
        )
        for each in (folder, folder / "toy"):
            each.chmod(0o755)
        assert done.stdout == f"{COUNT} []\n", done.stderr
        assert (folder / NAME).exists() == (kept != "nothing")


WRITER = """
import sys
from limelight.experiment import index
from limelight.experiment.store import Store
from tests.experiment.large import write_results
from tests.experiment.toy import Toy
index.SETTLED = -(10**18)
for seed in range(int(sys.argv[2]), int(sys.argv[2]) + 20):
    write_results(sys.argv[1], Toy(), [seed])
    assert len(Store(sys.argv[1]).records(Toy(), (int(sys.argv[2]),))) % 3 == 0
print(Store(sys.argv[1]).damaged)
"""


def test_two_processes_write_while_one_reads(folder):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(first)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for first in (100, 200)
    ]  # fmt: skip
    seen = 0
    try:
        while any(writer.poll() is None for writer in writers):
            reader = Store(folder)
            records = reader.records(Toy(), (0, 100, 200))
            assert len(records) >= seen
            assert reader.damaged == []
            seen = len(records)
    except AssertionError:
        for writer in writers:
            writer.kill()
            writer.communicate()
        raise
    assert [writer.communicate() for writer in writers] == [("[]\n", "")] * 2
    reader = Store(folder)
    found = reader.records(Toy(), (0, 100, 200))
    assert len(found) == COUNT + 2 * 20 * 3
    assert found == [reader.load(Toy(), record.arm, record.seed) for record in found]


def test_the_name_of_a_claim_may_be_any_text(folder, reads, monkeypatch):
    monkeypatch.setattr(Toy, "name", "a name \udce9 '\x07")
    write_results(folder, Toy(), [0])
    for _ in range(2):
        assert Store(folder).results(Toy()).seeds() == [0]
    assert len(reads) == len(Toy.arms)


def test_results_of_several_claims_share_one_index(folder):
    write_results(folder, Faulty(), [0])
    Store(folder).results(Faulty())
    assert len(Index(folder).entries("toy")) == COUNT
    assert len(Index(folder).entries("faulty")) == len(Faulty.arms)
