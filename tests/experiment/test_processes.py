"""Processes end when the process that started them ends, for any reason, and finished results are kept."""

import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from limelight import ClusterError
from limelight.cli import INTERRUPTED
from limelight.experiment import backends, processes, runner
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from tests.experiment.toy import GATE, HARD, Dying, Toy

ROOT = Path(__file__).parents[2]
MARK = "LIMELIGHT_TEST_MARK"  # an environment variable that all processes of a test inherit
PATIENCE = 180  # seconds, on a busy machine
OTHERS = (signal.SIGINT, signal.SIGHUP)  # which are handled as SIGTERM is
PROMISED = 5  # seconds until all processes of a killed run have ended


def left_of(mark):
    """The running processes whose environment has this mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def seconds_until_nothing_is_left_of(mark, patience=PATIENCE):
    start = time.monotonic()
    while left := left_of(mark):
        assert time.monotonic() - start < patience, [process.cmdline() for process in left]
        time.sleep(0.05)
    return time.monotonic() - start


@contextmanager
def command(*arguments, **environment):
    """`limelight` as a process, and the mark of all processes that it starts; at the end they are always killed."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.experiment.command", *map(str, arguments)],
        env=os.environ | environment | {MARK: mark}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process, mark
    finally:
        for each in left_of(mark):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def gate(tmp_path):
    """The FIFO at which seeds from 5 on wait."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return str(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)])
def test_asked_to_end_it_says_what_is_kept_and_leaves_no_process(tmp_path, gate, number):
    with command("run", "toy", "--workers", 2, "--results", tmp_path / "results", **{GATE: gate}) as (process, mark):
        first = process.stderr.readline()  # printed after every tenth of the runs
        process.send_signal(number)
        _, rest = process.communicate(timeout=PATIENCE)
        seconds_until_nothing_is_left_of(mark)
    assert "3 of 30 runs" in first
    assert process.returncode == INTERRUPTED
    assert "the same command runs the others" in rest
    assert "Traceback" not in rest
    assert 3 <= len(list((tmp_path / "results" / "toy").glob("*.json"))) <= 15


def test_killed_it_leaves_no_process(tmp_path, gate):
    with command("run", "toy", "--workers", 2, "--results", tmp_path / "results", **{GATE: gate}) as (process, mark):
        process.stderr.readline()
        assert len(left_of(mark)) > 2
        process.kill()
        seconds_until_nothing_is_left_of(mark)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_acts_like_ctrl_c(number):
    before = signal.getsignal(number)
    with processes.stopping_like_ctrl_c():
        assert signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN)  # which would end the tests, or nothing
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_signal_that_was_ignored_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with processes.stopping_like_ctrl_c():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # once is enough
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number):
    reached = []
    with processes.stopping_like_ctrl_c():
        heeded = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), processes.uninterrupted():
            signal.raise_signal(number)
            signal.raise_signal(number)
            reached.append("the end")
        assert signal.getsignal(signal.SIGINT) is heeded
    assert reached


def test_ctrl_c_waits_while_a_call_is_submitted():
    class Loky:
        def submit(self, function, *arguments):
            future = Future()
            signal.raise_signal(signal.SIGINT)
            return future

    submitted = set()
    with pytest.raises(KeyboardInterrupt):
        next(backends._by_loky(Loky(), submitted, 2, abs, [(-1,), (-2,)]))
    assert len(submitted) == 1


def test_a_worker_that_dies_is_one_sentence(tmp_path):
    with pytest.raises(ClusterError, match=r"a worker process ended during a run.*--workers"):
        runner.run(runner.trials([Dying()], 1), Store(tmp_path), workers=1)


def test_a_tree_ends_with_all_that_it_has_started():
    mark = uuid.uuid4().hex
    wait = "import time; time.sleep(600)"
    child = f"print('up', flush=True); {wait}"  # not the parent, since a process that starts has no environment yet
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); {wait}"
    process = subprocess.Popen([sys.executable, "-c", parent], env=os.environ | {MARK: mark}, stdout=subprocess.PIPE)
    process.stdout.readline()
    assert len(left_of(mark)) == 2
    processes.end_tree(process.pid)
    assert left_of(mark) == []
    processes.end_tree(process.pid)  # none of them is left
    process.communicate(timeout=PATIENCE)


@pytest.mark.slow
def test_a_file_in_the_current_folder_is_not_taken_for_a_library(tmp_path):
    for name in ("torch", "numpy", "joblib", "typer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for a library')")
    script = tmp_path / "scripts" / "script.py"
    script.parent.mkdir()
    script.write_text(f"""
import sys
sys.path.append({str(ROOT)!r})
from limelight.experiment import runner
from limelight.experiment.store import Store
from tests.experiment.toy import Toy
if __name__ == "__main__":
    runner.run(runner.trials([Toy()], 1), Store("results"), workers=1)
""")
    for arguments in ([script], ["-m", "limelight", "list"]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "results" / "toy").iterdir())) == 3


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_leave_nothing(tmp_path):
    """Kills at various times: while it starts, while its workers start, and while they compute.

    A process that is just starting ends when Python has loaded what it begins with, which takes long on a busy machine.
    """
    folder, seeds, known, slowest = tmp_path / "results", 60, {}, {"starting": 0.0, "computing": 0.0}
    for kill in range(20):
        number = (signal.SIGTERM, signal.SIGKILL)[kill % 2]
        with command("run", "toy", "--seeds", seeds, "--workers", 2, "--results", folder, **{HARD: "1"}) as (
            process,
            mark,
        ):
            await_moment(kill // 2, folder, len(known), mark)
            process.send_signal(number)
            what = "starting" if kill < 6 else "computing"
            took = seconds_until_nothing_is_left_of(mark, PATIENCE if kill < 6 else PROMISED)
            slowest[what] = max(slowest[what], took)
        assert all(kept(folder).get(path) == stamp for path, stamp in known.items())
        known = kept(folder)
    print(f"{len(known)} of {3 * seeds} runs were kept; seconds until the last process ended: {slowest}")
    store = Store(folder)
    left = runner.missing(runner.trials([Toy()], seeds), store)
    assert len(left) == 3 * seeds - len(known)
    assert store.damaged == []
    for trial in left:
        run_trial(trial.claim, trial.arm, trial.seed, folder)
    for trial in runner.trials([Toy()], seeds):
        run_trial(trial.claim, trial.arm, trial.seed, tmp_path / "whole")
    assert Toy().verdict(store.results(Toy())) == Toy().verdict(Store(tmp_path / "whole").results(Toy()))


def await_moment(number, folder, known, mark):
    """Until it has started (0), has started others (1), has workers (2), or until they have computed some more."""
    end = time.monotonic() + PATIENCE
    while len(left_of(mark)) < (1, 2, 5)[min(number, 2)] or len(kept(folder)) < known + max(0, number - 2):
        assert time.monotonic() < end
        time.sleep(0.02)


def kept(folder):
    """The results on disk and when they were written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "toy").glob("[!.]*.json")}
