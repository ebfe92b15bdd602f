"""Results on disk: complete or not at all, with names that depend on what computed them; damage is detected."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight import StoreError
from limelight.experiment import fingerprint, results
from limelight.experiment.fingerprint import trial_key
from limelight.experiment.results import Record
from limelight.experiment.store import Store, write_atomically
from limelight.experiment.trial import run_trial
from tests.experiment.toy import Faulty, Toy


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def test_what_is_saved_is_what_is_loaded(store):
    record = run_trial(Toy(), "one", 3, store.folder)
    assert store.load(Toy(), "one", 3) == record
    assert record.status == "done"
    assert record.arrays == {"line": [0.0, 1.0, 2.0]}
    assert record.versions["torch"]
    assert store.load(Toy(), "one", 4) is None


def test_a_cell_with_a_result_is_not_measured_again(store, monkeypatch):
    first = run_trial(Toy(), "one", 0, store.folder)
    monkeypatch.setattr(Toy, "measure", lambda *_: pytest.fail("measured again"))
    assert run_trial(Toy(), "one", 0, store.folder) == first


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"seed": 3', '"seed": 4'),
        lambda text: text.replace('"done"', '"diverged"'),
        lambda text: json.dumps({"record": json.loads(text)["record"]}),
        lambda text: json.dumps({"sha256": json.loads(text)["sha256"], "record": {"seed": 3}}),
        lambda text: "[]",
    ],
)
def test_a_damaged_file_is_noticed_set_aside_and_named(store, damage):
    run_trial(Toy(), "one", 3, store.folder)
    path = store.path(Toy(), "one", 3)
    path.write_text(damage(path.read_text()))
    assert store.load(Toy(), "one", 3) is None
    aside = store.folder / "damaged" / f"toy-{path.name}"
    assert aside.exists()
    assert store.damaged == [f"a result file was damaged; it was moved to {aside}, and its trial has to be run again"]
    assert not path.exists()
    assert run_trial(Toy(), "one", 3, store.folder).status == "done"


def test_bytes_that_are_no_text_are_damage_too(store):
    run_trial(Toy(), "one", 3, store.folder)
    store.path(Toy(), "one", 3).write_bytes(b"\xff\xfe\x00")
    assert store.load(Toy(), "one", 3) is None
    assert len(store.damaged) == 1


def test_another_cells_file_is_not_taken(store):
    run_trial(Toy(), "one", 3, store.folder)
    store.path(Toy(), "one", 3).rename(store.path(Toy(), "one", 4))
    assert store.load(Toy(), "one", 4) is None


@given(st.lists(st.floats(allow_nan=True), max_size=5), st.floats(-1e9, 1e9))
def test_any_numbers_come_back_to_six_digits(tmp_path_factory, numbers, value):
    from limelight.experiment.conditions import plain

    store = Store(tmp_path_factory.mktemp("results"))
    arrays = plain({"numbers": np.array(numbers)})
    store.save(Toy(), Record("toy", "one", 0, "done", values={"size": value}, arrays=arrays))
    loaded = store.load(Toy(), "one", 0)
    assert loaded.values["size"] == value
    back = np.array(loaded.arrays["numbers"], dtype=float)
    finite = np.where(np.isfinite(numbers), numbers, np.nan)
    np.testing.assert_allclose(back, finite, rtol=1e-5)


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def signed(**changes):
    """The text of a file whose record has other values, and the digest that belongs to them."""
    record = asdict(Record("toy", "one", 3, "done", values={"size": 1.0}, versions={"torch": "2"})) | changes
    body = json.dumps(record, sort_keys=True)
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "record": record})


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "3"}, {"seed": 3.0}, {"seed": True}, {"status": "fine"}, {"status": None}, {"reason": 1},
        {"arm": ["one"]}, {"seconds": "long"}, {"seconds": None}, {"values": {"size": "1"}}, {"values": {"size": None}},
        {"values": {}}, {"values": {"size": 1.0, "more": 2.0}}, {"values": [1.0]}, {"values": {"size": 10**400}},
        {"arrays": {"line": "0 1"}}, {"arrays": {"line": [[1, 2], [3]]}}, {"arrays": {"line": ["0"]}},
        {"arrays": {"line": 1}}, {"arrays": []}, {"arrays": {"line": [{}]}}, {"versions": {"torch": 2}},
        {"versions": None}, {"extra": 1},
    ],
)  # fmt: skip
def test_a_signed_record_with_a_value_of_another_type_is_damaged(store, changes):
    store.require_writable([Toy()])
    path = store.path(Toy(), "one", 3)
    path.write_text(signed())
    assert store.load(Toy(), "one", 3).values == {"size": 1.0}
    path.write_text(signed(**changes))
    assert store.load(Toy(), "one", 3) is None
    assert len(store.damaged) == 1
    assert not path.exists()


@pytest.mark.parametrize("field", ["reason", "seconds", "arrays", "versions", "values"])
def test_a_result_from_before_a_field_was_added_is_read_with_its_default(store, field):
    store.require_writable([Toy()])
    path = store.path(Toy(), "one", 3)
    older = json.loads(signed(status="diverged"))["record"]
    del older[field]
    body = json.dumps(older, sort_keys=True)
    path.write_text(json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "record": older}))
    default = getattr(Record("toy", "one", 3, "diverged"), field)
    assert getattr(store.load(Toy(), "one", 3), field) == default
    assert store.damaged == []
    assert [record.seed for record in store.results(Toy(), 5).records] == [3]


def test_a_field_that_is_added_later_damages_no_result(store, monkeypatch):
    run_trial(Toy(), "one", 3, store.folder)
    before = store.load(Toy(), "one", 3)

    @dataclass(frozen=True)
    class Later(Record):
        device: str = "cpu"

    monkeypatch.setattr(results, "Record", Later)
    found = store.load(Toy(), "one", 3)
    assert (found.device, found.values, store.damaged) == ("cpu", before.values, [])
    store.save(Toy(), found)
    assert store.load(Toy(), "one", 3) == found


def test_brackets_within_brackets_are_damaged(store):
    store.require_writable([Toy()])
    store.path(Toy(), "one", 3).write_text("[" * 100_000)
    assert store.load(Toy(), "one", 3) is None
    assert len(store.damaged) == 1


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def a_loop(path):
    path.symlink_to(path)


def a_file(path):
    path.write_text("")


@pytest.mark.parametrize("strange", [a_folder, a_pipe, a_loop])
def test_an_unreadable_result_is_reported_and_the_rest_is_read(store, strange):
    for seed in range(3):
        run_trial(Toy(), "one", seed, store.folder)
    path = store.path(Toy(), "one", 1)
    path.unlink()
    strange(path)
    assert [record.seed for record in store.results(Toy(), 3).records] == [0, 2]
    assert len(store.damaged) == 1
    assert str(path.name) in store.damaged[0]
    assert run_trial(Toy(), "one", 1, store.folder).status == "done"
    assert store.load(Toy(), "one", 1).status == "done"


@pytest.mark.parametrize("strange", [a_file, a_loop])
def test_an_unreadable_claim_folder_is_reported_once(store, strange):
    run_trial(Faulty(), "one", 0, store.folder)
    strange(store.folder / "toy")
    assert store.results(Toy(), 3).records == []
    assert store.results(Faulty(), 1).records != []
    (told,) = store.damaged
    assert told.startswith(f"expected a folder of results at {store.folder / 'toy'}, which ")
    with pytest.raises(StoreError, match=r"cannot write results to .*toy"):
        store.require_writable([Toy()])


def test_a_damaged_file_that_cannot_be_set_aside_is_reported(store):
    run_trial(Toy(), "one", 3, store.folder)
    store.path(Toy(), "one", 3).write_text("half of")
    a_file(store.folder / "damaged")
    assert store.load(Toy(), "one", 3) is None
    assert store.load(Toy(), "one", 3) is None
    (told,) = store.damaged
    assert "cannot be moved to" in told
    assert "(is a file)" in told
    assert run_trial(Toy(), "one", 3, store.folder) == store.load(Toy(), "one", 3)


@pytest.mark.parametrize("strange", [a_file, a_loop, a_pipe])
def test_a_path_that_is_no_folder_raises_one_sentence(tmp_path, strange):
    path = tmp_path / "results"
    strange(path)
    with pytest.raises(StoreError, match=r"expected a folder of results at .*results, which .*with --results"):
        Store(path)
    with pytest.raises(StoreError, match=r"expected a folder of results at .*below"):
        Store(path / "below")


def test_a_folder_that_cannot_be_written_is_read():
    with tempfile.TemporaryDirectory() as place:  # others may enter it, unlike the folders of pytest
        os.chmod(place, 0o755)
        read_as_another(Path(place) / "results")


def read_as_another(folder):
    run_trial(Toy(), "one", 0, folder)
    program = f"""
import os
from pathlib import Path
from limelight import StoreError
from limelight.experiment.store import Store
from tests.experiment.toy import Toy
if os.getuid() == 0:
    os.setuid(65534)  # not root
store = Store({str(folder)!r})
print(len(store.results(Toy(), 1).records))
try:
    store.require_writable([Toy()])
except StoreError as problem:
    print(str(problem).startswith("cannot write results to "))
"""
    for each in (folder / "toy", folder):
        each.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    for each in (folder, folder / "toy"):
        each.chmod(0o755)
    assert done.stdout.split() == ["1", "True"], done.stderr


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_the_umask_decides_who_may_read_a_result(store, mask):
    before = os.umask(mask)
    try:
        run_trial(Toy(), "one", 0, store.folder)
    finally:
        os.umask(before)
    assert store.path(Toy(), "one", 0).stat().st_mode & 0o777 == 0o666 & ~mask
    assert (store.folder / "toy").stat().st_mode & 0o777 == 0o777 & ~mask


def test_the_key_changes_with_everything_that_could_change_the_result(monkeypatch):
    toy, keys = Toy(), set()

    def key():
        keys.add(trial_key(toy, "one", 0))
        return len(keys)

    assert key() == 1
    assert trial_key(toy, "one", 1) not in keys
    assert trial_key(toy, "zero", 0) not in keys
    assert trial_key(Faulty(), "one", 0) not in keys
    monkeypatch.setattr(fingerprint, "versions", lambda: {"torch": "other"})
    assert key() == 2
    monkeypatch.setattr(fingerprint, "source_digest", lambda claim, method: "other")
    assert key() == 3
    monkeypatch.setattr(Toy, "data", lambda self: {"digits": "other"})
    assert key() == 4


def test_results_are_gathered_by_seed_until_one_is_missing(store):
    for seed in (0, 1, 3):
        for arm in Toy.arms:
            run_trial(Toy(), arm, seed, store.folder)
    assert store.results(Toy()).seeds() == [0, 1]
    assert store.results(Toy(), seeds=4).seeds() == [0, 1, 3]
    store.save(Toy(), replace(store.load(Toy(), "one", 1), status="error"))
    assert store.results(Toy()).seeds() == [0]
