"""`limelight new-claim NAME` writes a claim that runs as it is, and refuses what could not be one."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from limelight import InputError, StoreError, cli
from limelight.experiment import catalog, new_claim, runner
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from tests.experiment.claim_files import forgetting


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with forgetting(monkeypatch):
        yield


def call(*arguments):
    return CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"})


def test_what_it_writes_runs_and_ends_with_a_verdict():
    written = call("new-claim", "long_keys")
    assert (written.exit_code, written.stdout) == (
        0, "Wrote long_keys.py, which runs as it is: limelight run ./long_keys.py --quick\n",
    )  # fmt: skip
    claim = catalog.claim("./long_keys.py")
    for trial in runner.trials([claim], runner.QUICK):
        run_trial(claim, trial.arm, trial.seed, Store("results").folder)
    done = call("run", "./long_keys.py", "--quick", "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["claims"]
    assert (found["name"], found["verdict"], found["control_part"]["outcome"]) == ("long_keys", "supported", "fails")
    assert claim.figures(Store("results").results(claim))


def test_json_has_the_file_and_the_command(tmp_path):
    assert json.loads(call("new-claim", "own", "--json").stdout) == {
        "file": str(tmp_path / "own.py"), "command": "limelight run ./own.py --quick",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-claim", "of letters, digits and underscores, such as long_keys; got 'my-claim'"),
        ("3keys", "got '3keys'"),
        ("a/b", "got 'a/b'"),
        ("über", "got 'über'"),
        ("class", "got 'class'"),
        ("damaged", "got 'damaged'"),
        ("slopes", "there is a claim named 'slopes' already"),
        ("statistics", "Python has another module of that name"),
        ("__main__", "Python has another module of that name"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_in_a_sentence(tmp_path, name, says):
    done = call("new-claim", name)
    assert done.exit_code == cli.BAD_INPUT
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    Path("own.py").write_text("mine")
    with pytest.raises(InputError, match=r"there is a file .*own\.py already, which is left as it is"):
        new_claim.write("own", tmp_path)
    assert Path("own.py").read_text() == "mine"
    Path("link.py").symlink_to("nowhere.py")
    with pytest.raises(StoreError, match=r"cannot write .*link\.py"):
        new_claim.write("link", tmp_path)
    with pytest.raises(StoreError, match=r"cannot write .*nowhere"):
        new_claim.write("own", tmp_path / "nowhere")
    assert not os.path.lexists("nowhere.py")
