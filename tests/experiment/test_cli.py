"""The command line as a user meets it: what it prints, its exit codes, and one sentence for what goes wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from limelight import cli
from limelight.experiment import catalog
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from tests.experiment.toy import GATE, Faulty, Toy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run the command line on the toy claims, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    toys = {"toy": Toy(), "faulty": Faulty()}
    monkeypatch.setattr(catalog, "names", lambda: list(toys))
    monkeypatch.setattr(catalog, "claim", lambda name: toys[name])
    runner = CliRunner()

    def run(*arguments):
        return runner.invoke(cli.app, arguments, env={"COLUMNS": "200"})

    return run


def precomputed(claim, seeds=10, folder="results"):
    for seed in range(seeds):
        for arm in claim.arms:
            run_trial(claim, arm, seed, Store(folder).folder)


def test_run_then_list_show_and_report(call, tmp_path):
    result = call("run", "toy", "--workers", "2")
    assert result.exit_code == 0
    assert "supported" in result.stdout
    assert "Holds: one is more than zero by a half." in result.stdout
    assert "30 of 30 runs" in result.stderr
    again = call("run", "toy")
    assert "all 30 runs have results already" in again.stderr
    assert again.stdout == result.stdout
    assert "supported" in call("list").stdout
    shown = call("show", "toy").stdout
    assert "Is one more than zero?" in shown
    assert "toy.py" in shown
    assert "at least 0.500" in shown
    report = call("report", "toy")
    assert report.exit_code == 0
    assert (tmp_path / "results" / "report.html").stat().st_size > 1e6
    assert "Report:" in report.stdout


def test_json_is_for_scripts(call, tmp_path):
    precomputed(Toy())
    run = json.loads(call("run", "toy", "--json").stdout)
    assert run["ran"] == 0
    (claim,) = run["claims"]
    assert (claim["name"], claim["verdict"], claim["seeds"]) == ("toy", "supported", 10)
    assert claim["parts"][0]["outcome"] == "holds"
    assert claim["control_part"]["outcome"] == "fails"
    assert claim["command"] == "limelight run toy --seeds 10"
    listed = json.loads(call("list", "--json").stdout)
    assert [(entry["name"], entry["verdict"]) for entry in listed] == [("toy", "supported"), ("faulty", None)]
    assert json.loads(call("show", "toy", "--json").stdout)["verdict"] == "supported"
    assert json.loads(call("show", "faulty", "--json").stdout)["verdict"] is None
    written = json.loads(call("report", "--output", "page.html", "--json").stdout)
    assert written["claims"] == ["toy"]
    assert (tmp_path / "page.html").stat().st_size == written["bytes"]


def test_a_replication_runs_on_other_seeds_and_shows_both(call):
    refused = call("replicate", "toy")
    assert refused.exit_code == cli.BAD_INPUT
    assert "toy has no verdict in results to replicate; run `limelight run toy` first" in refused.stderr
    precomputed(Toy())
    before = call("show", "toy").stdout
    shown = call("replicate", "toy", "--workers", "1")
    assert shown.exit_code == 0
    assert "30 of 30 runs" in shown.stderr
    assert "replication, seeds 1000000 to 1000009" in shown.stdout
    assert "seeds 0 to 9" in shown.stdout
    assert "1 of 1 parts have the same word in both." in shown.stdout
    assert call("show", "toy").stdout == before  # the replication adds nothing to the verdict
    found = json.loads(call("replicate", "toy", "--seeds", "12", "--workers", "1", "--json").stdout)
    assert (found["original"]["seeds"], found["replication"]["seeds"]) == (10, 12)
    assert found["parts with the same outcome"] == 1
    effects = [found[which]["parts"][0]["estimate"] for which in ("original", "replication")]
    assert effects[0] != effects[1]


def test_a_fault_gives_exit_code_1_and_its_reason(call):
    result = call("run", "faulty", "--seeds", "1", "--workers", "1")
    assert result.exit_code == cli.FAULTS
    assert "faulty, raises, seed 0: error: RuntimeError: as it does" in result.stderr
    assert "diverged: the loss became inf" in result.stderr


def test_a_damaged_file_is_named_and_its_run_done_again(call):
    precomputed(Toy(), seeds=1)
    path = Store("results").path(Toy(), "one", 0)
    path.write_text(path.read_text()[:-20])
    result = call("run", "toy", "--seeds", "1", "--workers", "1")
    assert result.exit_code == 0
    assert "a result file was damaged" in result.stderr
    assert path.name in result.stderr
    assert "1 of 3 runs" not in result.stdout
    assert path.exists()


def test_some_arms_only_give_no_verdict(call):
    for seed in range(2):
        run_trial(Toy(), "one", seed, Store("results").folder)
    result = call("run", "toy", "--arm", "one", "--seeds", "2", "--workers", "1")
    assert result.exit_code == 0
    assert "no verdict yet" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "--seeds", "0"], cli.BAD_INPUT, "--seeds expects a whole number ≥ 1 and ≤ 10000, got 0"),
        (["run", "--seeds", "many"], cli.BAD_INPUT, "valid integer"),
        (["run", "--quick", "--full"], cli.BAD_INPUT, "exclude each other"),
        (["run", "toy", "--arm", "two"], cli.BAD_INPUT, "unknown arm of toy 'two'"),
        (["run", "toy", "--workers", "0"], cli.BAD_INPUT, "--workers expects"),
        (["run", "toy", "--backend", "slurm"], cli.BAD_INPUT, "unknown backend 'slurm'"),
        (["run", "toy", "--results", "file/results"], cli.UNREACHABLE, "at file/results, which lies below a file"),
        (["report"], cli.BAD_INPUT, "run `limelight run` first"),
        (["report", "--output", "file/page.html"], cli.BAD_INPUT, "no results"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(call, tmp_path, arguments, code, says):
    (tmp_path / "file").write_text("")
    result = call(*arguments)
    assert result.exit_code == code
    assert says in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_a_report_that_cannot_be_written_is_one_sentence(call, tmp_path):
    precomputed(Toy())
    (tmp_path / "file").write_text("")
    result = call("report", "--output", "file/page.html")
    assert result.exit_code == cli.UNREACHABLE
    assert "cannot write file/page.html" in result.stderr


def limelight(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "limelight", *arguments],
        capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def test_the_real_command_line(tmp_path):
    unknown = limelight("run", "slope", cwd=tmp_path)
    assert unknown.returncode == cli.BAD_INPUT
    assert "unknown claim 'slope'; did you mean 'slopes'?" in unknown.stderr
    assert unknown.stderr.count("\n") == 1
    listed = json.loads(limelight("list", "--json", cwd=tmp_path).stdout)
    assert [entry["name"] for entry in listed][:2] == ["slopes", "dynamic_weights"]
    assert not list(tmp_path.iterdir())
    assert "Usage:" in CliRunner().invoke(cli.app, ["--help"]).stdout
    for name in ("run", "report", "show", "list", "lab"):
        assert "Usage:" in CliRunner().invoke(cli.app, [name, "--help"]).stdout
    assert limelight("--version").stdout.startswith("limelight 0.")


def test_without_the_extra_it_says_what_to_install():
    hidden = "import sys; sys.modules['typer'] = None; from limelight.__main__ import main; main()"
    result = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert result.stderr.strip() == (
        "limelight: the command line needs typer, which is not installed; "
        "in a clone of Limelight, run: pip install -e '.[claims]'"
    )


TOYS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from limelight.experiment import catalog
from tests.experiment.toy import Toy
catalog.claim = lambda name: Toy()
from limelight.__main__ import main
main()
"""


def test_interrupted_it_says_what_is_kept(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)  # a process that waits there can be interrupted at any time
    process = subprocess.Popen(
        [sys.executable, "-c", TOYS, "run", "toy", "--workers", "1"], env=os.environ | {GATE: str(gate)}, cwd=tmp_path,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    first = process.stderr.readline()  # printed after every tenth of the runs
    os.killpg(process.pid, signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert "3 of 30 runs" in first
    assert process.returncode == cli.INTERRUPTED
    assert "interrupted; " in rest
    assert "Traceback" not in rest
    kept = list((tmp_path / "results" / "toy").glob("*.json"))
    assert 3 <= len(kept) <= 15


def test_the_library_alone_needs_no_extra_and_a_part_without_its_extra_says_what_to_install():
    extras = ["scipy", "sklearn", "joblib", "plotly", "jinja2", "typer", "rich", "psutil", "safetensors"]
    program = (
        f"""
import sys
extras = {extras}
sys.modules |= dict.fromkeys(extras)
import limelight
limelight.Attention
for extra in extras:
    del sys.modules[extra]
"""
        + """
for part, module in (
    ("figures", "plotly"), ("claims.slopes", "joblib"), ("experiment", "joblib"), ("experiment", "safetensors"),
    ("classical", "sklearn"),
):
    hidden = sys.modules.pop(module, None)
    sys.modules[module] = None
    try:
        __import__(f"limelight.{part}")
    except limelight.MissingExtraError as missing:
        print(module, missing)
    sys.modules.pop(module)
"""
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    reporting_errors = done.stdout.splitlines()
    assert len(reporting_errors) == 5
    for line in reporting_errors:
        module = line.split()[0]
        assert f"needs {module}, which is not installed; in a clone of Limelight, run: pip install -e '.[cla" in line
