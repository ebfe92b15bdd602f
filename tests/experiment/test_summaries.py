"""Summaries of claims are kept: as long as nothing has changed they are told without the claim, and never longer."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limelight.experiment import catalog, index, unchanged
from limelight.experiment.index import NAME
from limelight.experiment.statistics import Interval
from limelight.experiment.store import Store
from limelight.experiment.verdict import Part
from limelight.report import terminal
from limelight.report.summaries import Summaries, summarized
from limelight.report.summary import Summary, Told
from tests.experiment.large import write_results
from tests.experiment.test_index import again, truncated
from tests.experiment.toy import Toy

SEEDS = 12


@pytest.fixture(autouse=True)
def toy_comes_with_limelight(monkeypatch):
    """The toy claim is one of Limelight's, and all files may be entered at once."""
    monkeypatch.setattr(catalog, "is_built_in", lambda name: name == "toy")
    monkeypatch.setattr(index, "SETTLED", -(10**18))
    monkeypatch.setattr(unchanged, "_code", lambda: "code")


@pytest.fixture
def loads(monkeypatch):
    """The names of the claims that are loaded from here on."""
    found = []

    def load(name):
        found.append(name)
        return Toy()

    monkeypatch.setattr(catalog, "claim", load)
    return found


@pytest.fixture
def folder(tmp_path, loads):
    """Results of the toy claim, of which a summary is kept."""
    folder = tmp_path / "results"
    write_results(folder, Toy(), range(SEEDS))
    assert f'"seeds": {SEEDS}' in told(folder)[0]
    loads.clear()
    return folder


def told(folder):
    """(the summary of the toy claim, as text, since NaN is not equal to itself; what was wrong)."""
    store = Store(folder)
    summaries = Summaries(store)
    found = summaries.of("toy")
    summaries.keep()
    return found.as_text(), store.damaged


def fresh(folder):
    return summarized(Toy(), Store(folder)).as_text()


def test_a_kept_summary_is_told_without_the_claim_and_its_results(folder, loads, monkeypatch):
    expected = fresh(folder)
    monkeypatch.setattr(Store, "results", None)
    assert told(folder) == (expected, [])
    assert loads == []


def test_a_summary_survives_its_text():
    odd = Part("as “µ”", Interval(np.nan, -np.inf, np.inf, 7, "exact"), "at most", 0.1 + 0.2, "of it", p=None)
    parts = [odd, replace(odd, p=0.04)]
    verdict = Told("mixed", "Found.", "Said.", 7, "limelight run toy", [{"arm": "one", "seed": 3}])
    found = replace(Summary.of(Toy(), None), parts=parts, control_part=odd, verdict=verdict)
    again = Summary.of_text(found.as_text())
    assert repr(again) == repr(found)
    assert terminal.as_json(again) == terminal.as_json(found)


def add(folder):
    write_results(folder, Toy(), [SEEDS])


def remove(folder):
    Store(folder).path(Toy(), "one", 2).unlink()


def edit(folder):
    again(Store(folder).path(Toy(), "one", 2), 9.0)


def add_another_file(folder):
    (folder / "toy" / "notes.txt").write_text("")


def remove_all(folder):
    shutil.rmtree(folder / "toy")


@pytest.mark.parametrize("change", [add, remove, edit, add_another_file, remove_all])
def test_a_change_of_the_files_is_seen(folder, loads, change):
    change(folder)
    expected = fresh(folder)
    assert told(folder) == (expected, [])
    assert loads == ["toy"]
    assert told(folder) == (expected, [])
    assert loads == ["toy"]


def test_a_change_of_the_code_is_seen(folder, loads, monkeypatch):
    monkeypatch.setattr(unchanged, "_code", lambda: "other code")
    told(folder)
    assert loads == ["toy"]


def test_the_state_of_the_code_is_that_of_every_file_of_limelight(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(unchanged, "_SETTLED_CODE", -(10**9))
    package = tmp_path / "limelight"
    (package / "inner").mkdir(parents=True)
    (package / "__pycache__").mkdir()
    first, second, compiled = package / "a.py", package / "inner" / "b.css", package / "__pycache__" / "a.pyc"
    states = []
    for path in (first, second, compiled):
        path.write_text("x = 1")
    monkeypatch.setattr("limelight.__file__", str(package / "__init__.py"))
    for change in (lambda: None, lambda: compiled.write_text(""), lambda: first.write_text("x = 2"), second.unlink):
        change()
        states.append(unchanged._code.__wrapped__())
    assert states[0] == states[1]
    assert len(set(states)) == 3
    (tmp_path / "torch-9.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert unchanged._code.__wrapped__() not in states


def test_code_that_has_just_changed_has_no_state(tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "a.py").write_text("")
    monkeypatch.setattr("limelight.__file__", str(tmp_path / "__init__.py"))
    assert unchanged._code.__wrapped__() is None


def test_a_file_that_has_just_changed_has_no_state(folder, loads, monkeypatch):
    monkeypatch.setattr(index, "SETTLED", 10**18)
    assert unchanged.state(folder, "toy") is None
    for _ in range(2):
        assert told(folder)[0] == fresh(folder)
    assert loads == ["toy", "toy"]


def test_a_claim_that_does_not_come_with_limelight_is_summarized_each_time(folder, loads, monkeypatch):
    monkeypatch.setattr(catalog, "is_built_in", lambda name: False)
    told(folder)
    assert loads == ["toy"]


def test_what_is_wrong_is_told_each_time(folder, loads, monkeypatch):
    path = Store(folder).path(Toy(), "one", 2)
    path.write_text("{}")

    def refuse(self, target):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    for _ in range(2):
        found, (sentence,) = told(folder)
        assert "is not a valid result, and cannot be moved" in sentence
        assert f'"seeds": {SEEDS - 1}' in found
    assert loads == ["toy", "toy"]


@pytest.mark.parametrize("damage", [truncated, Path.unlink, lambda path: path.write_bytes(b"")])
def test_an_index_that_is_damaged_is_made_anew(folder, loads, damage):
    expected = fresh(folder)
    damage(folder / NAME)
    for _ in range(2):
        assert told(folder) == (expected, [])
    assert loads == ["toy"]


@pytest.mark.parametrize("column", ["state", "body", "checksum"])
@pytest.mark.parametrize("value", [None, "text", b"{}", 5])
def test_an_entry_of_another_type_is_not_told(folder, column, value):
    expected = fresh(folder)
    with closing(sqlite3.connect(folder / NAME)) as database, database:
        database.execute(f"UPDATE summaries SET {column} = ?", (value,))
    assert told(folder) == (expected, [])


def test_no_bit_of_the_index_can_change_a_summary(folder):
    path, expected = folder / NAME, fresh(folder)
    content = path.read_bytes()
    start = content.find(b'{"name": "toy"')
    for place in range(start, start + 400, 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert told(folder)[0] == expected


def test_a_locked_index_is_told_of_once(folder, loads, monkeypatch):
    monkeypatch.setattr(index, "_PATIENCE", 0)
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        found, (sentence,) = told(folder)
    assert "cannot be used (database is locked)" in sentence
    assert found == fresh(folder)


def test_nothing_is_kept_where_there_is_no_index(tmp_path, loads):
    assert '"verdict": null' in told(tmp_path)[0]
    assert list(tmp_path.iterdir()) == []


COMMAND = """
import sys
from limelight.experiment import index, unchanged
index.SETTLED = -(10**18)
unchanged._SETTLED_CODE = -(10**9)
from limelight import cli
cli.app(["show", "lipschitz", "--results", sys.argv[1]], standalone_mode=False)
print(sorted({"torch", "scipy.stats", "sklearn", "plotly", "joblib"} & {*sys.modules}))
"""


@pytest.mark.slow
def test_a_command_that_tells_a_kept_summary_imports_nothing_large(tmp_path):
    write_results(tmp_path, Toy(), [0])
    Store(tmp_path).results(Toy())
    assert (tmp_path / NAME).exists()
    seen = [
        subprocess.run(
            [sys.executable, "-c", COMMAND, str(tmp_path)], capture_output=True, text=True, check=True,
            env=os.environ | {"COLUMNS": "100"},
        ).stdout.splitlines() for _ in range(2)
    ]  # fmt: skip
    assert seen[0][:-1] == seen[1][:-1]
    assert "torch" in seen[0][-1]
    assert seen[1][-1] == "[]"
