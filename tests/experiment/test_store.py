"""Results on disk: whole or not at all, named by what could change them, and noticed when they are damaged."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight import StoreError
from limelight.experiment import fingerprint
from limelight.experiment.cell import run_cell
from limelight.experiment.fingerprint import cell_key, source_digest
from limelight.experiment.results import Record
from limelight.experiment.store import Store, write_atomically
from tests.experiment.toy import Faulty, Toy


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def test_what_is_saved_is_what_is_loaded(store):
    record = run_cell(Toy(), "one", 3, store.folder)
    assert store.load(Toy(), "one", 3) == record
    assert record.status == "done"
    assert record.arrays == {"line": [0.0, 1.0, 2.0]}
    assert record.versions["torch"]
    assert store.load(Toy(), "one", 4) is None


def test_a_cell_with_a_result_is_not_measured_again(store, monkeypatch):
    first = run_cell(Toy(), "one", 0, store.folder)
    monkeypatch.setattr(Toy, "measure", lambda *_: pytest.fail("measured again"))
    assert run_cell(Toy(), "one", 0, store.folder) == first


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
    run_cell(Toy(), "one", 3, store.folder)
    path = store.path(Toy(), "one", 3)
    path.write_text(damage(path.read_text()))
    assert store.load(Toy(), "one", 3) is None
    (aside,) = store.damaged
    assert aside.exists()
    assert path.name in aside.name
    assert not path.exists()
    assert run_cell(Toy(), "one", 3, store.folder).status == "done"


def test_bytes_that_are_no_text_are_damage_too(store):
    run_cell(Toy(), "one", 3, store.folder)
    store.path(Toy(), "one", 3).write_bytes(b"\xff\xfe\x00")
    assert store.load(Toy(), "one", 3) is None
    assert len(store.damaged) == 1


def test_another_cells_file_is_not_taken(store):
    run_cell(Toy(), "one", 3, store.folder)
    store.path(Toy(), "one", 3).rename(store.path(Toy(), "one", 4))
    assert store.load(Toy(), "one", 4) is None


@given(st.lists(st.floats(allow_nan=True), max_size=5), st.floats(-1e9, 1e9))
def test_any_numbers_come_back_to_six_digits(tmp_path_factory, numbers, value):
    from limelight.experiment.cell import _plain

    store = Store(tmp_path_factory.mktemp("results"))
    arrays = _plain({"numbers": np.array(numbers)})
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


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write results to .*file.*another folder with --results"):
        Store(tmp_path / "file" / "results")


def test_the_key_changes_with_everything_that_could_change_the_result(monkeypatch):
    toy, keys = Toy(), set()

    def key():
        keys.add(cell_key(toy, "one", 0))
        return len(keys)

    assert key() == 1
    assert cell_key(toy, "one", 1) not in keys
    assert cell_key(toy, "zero", 0) not in keys
    assert cell_key(Faulty(), "one", 0) not in keys
    monkeypatch.setattr(fingerprint, "versions", lambda: {"torch": "other"})
    assert key() == 2
    monkeypatch.setattr(fingerprint, "source_digest", lambda module: "other")
    assert key() == 3
    monkeypatch.setattr(Toy, "data", lambda self: {"digits": "other"})
    assert key() == 4


def forget():
    """As if the sources had not been read yet."""
    source_digest.cache_clear()
    fingerprint._read.cache_clear()


def digest_of(tmp_path, monkeypatch, text, name):
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return source_digest(name)


def test_code_that_measures_counts_and_what_only_tells_does_not(tmp_path, monkeypatch):
    body = "class C:\n    {doc}\n    def measure(self): return {value}\n    def judge(self): return {threshold}\n"

    def digest(name, doc="'''a'''", value=1, threshold=2, comment=""):
        return digest_of(tmp_path, monkeypatch, body.format(doc=doc, value=value, threshold=threshold) + comment, name)

    first = digest("one")
    forget()
    same = [digest("one", doc="'''b'''"), forget(), digest("one", threshold=3)]
    forget()
    assert {same[0], same[2], digest("one", comment="# why")} == {first}
    forget()
    assert digest("one", value=2) != first


def test_imported_modules_count_and_those_that_measure_nothing_do_not():
    tree = fingerprint._syntax("limelight.claims.slopes")
    found = set(fingerprint._imports(tree))
    assert {"limelight.nn.gate", "limelight.data.slopes", "limelight.experiment.claim", "limelight.figures"} <= found
    assert "limelight.data.slopes.slopes" not in found


def test_a_change_deep_in_the_operator_renames_the_results(monkeypatch):
    before = source_digest("limelight.claims.slopes")
    whole = fingerprint._syntax

    def changed(module):
        tree = whole(module)
        if module == "limelight.kernels.flash":
            tree.body.append(__import__("ast").parse("x = 1").body[0])
        return tree

    forget()
    monkeypatch.setattr(fingerprint, "_syntax", changed)
    assert source_digest("limelight.claims.slopes") != before
    forget()


def test_results_are_gathered_by_seed_until_one_is_missing(store):
    for seed in (0, 1, 3):
        for arm in Toy.arms:
            run_cell(Toy(), arm, seed, store.folder)
    assert store.results(Toy()).seeds() == [0, 1]
    assert store.results(Toy(), seeds=4).seeds() == [0, 1, 3]
    store.save(Toy(), replace(store.load(Toy(), "one", 1), status="error"))
    assert store.results(Toy()).seeds() == [0]


def test_one_source_is_read_at_a_time(monkeypatch):
    """Python 3.11 fails now and then where two threads do."""
    alone = []
    parse = fingerprint.ast.parse
    with monkeypatch.context() as watched:
        watched.setattr(
            fingerprint.ast, "parse", lambda text: alone.append(fingerprint._PARSING.locked()) or parse(text)
        )
        fingerprint._syntax("limelight.errors")
    assert alone == [True]
