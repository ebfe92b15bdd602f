"""Claims that run in the background: their progress, what is kept, and that no process outlives the lab."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from limelight.errors import InputError
from limelight.experiment.runner import missing, trials
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from limelight.lab.runs import Runs, command
from tests.experiment.toy import GATE, Diverging, Toy

PATIENCE = 180  # seconds, on a busy machine
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("up", file=sys.stderr, flush=True)
time.sleep(600)
"""


def drive(name, seeds, folder):
    attended = (
        "import limelight.lab.stop_with_stdin as a; a.interrupt_at_end_of_stdin(); "
        "import runpy; runpy.run_module('tests.experiment.drive', run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", attended, str(folder), str(seeds)]


def a_stubborn_family(name, seeds, folder):
    """A process and its child, which both ignore every signal that can be ignored."""
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])"
    return [sys.executable, "-c", parent + STUBBORN]


def writes_nothing(name, seeds, folder):
    return [sys.executable, "-c", ""]


def stubborn(name, seeds, folder):
    return [sys.executable, "-c", STUBBORN]


@pytest.fixture
def begin(tmp_path):
    """Runs in a folder of their own, which end with the test."""
    begun = []

    def make(command=drive, **options):
        begun.append(Runs(tmp_path, command=command, **options))
        return begun[-1]

    yield make
    for runs in begun:
        runs.end_all()


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """Seeds from 5 on wait."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    monkeypatch.setenv(GATE, str(path))


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(runs, name="toy"):
    until(lambda: not runs.progress(name).goes_on)
    return runs.progress(name)


@pytest.mark.slow
def test_a_run_computes_what_is_missing(begin, tmp_path):
    for seed in range(2):
        run_trial(Toy(), "one", seed, tmp_path)
    runs = begin()
    assert runs.progress("toy") is None
    runs.start(Toy(), 4)
    found = ended(runs)
    assert (found.state, found.total, found.known, found.done, found.kept) == ("done", 12, 2, 10, 12)
    assert not missing(trials([Toy()], 4), Store(tmp_path))
    with pytest.raises(InputError, match="seeds 0 to 3 have all their results already"):
        runs.start(Toy(), 4)


def test_what_was_computed_before_it_was_canceled_is_kept(begin, gate, tmp_path, monkeypatch):
    monkeypatch.setattr("limelight.lab.runs._GRACE", 2 * PATIENCE)  # so that it ends by the request and not by the kill
    runs = begin()
    runs.start(Toy(), 8)
    until(lambda: runs.progress("toy").done == 15)
    assert runs.progress("toy").left > 0
    family = family_of(runs)
    assert len(family) > 1
    runs.cancel("toy")
    assert runs.progress("toy").state in ("stopping", "canceled")
    found = ended(runs)
    assert (found.state, found.kept, found.total) == ("canceled", 15, 24)
    until(lambda: not any(_lives(each) for each in family))
    assert len(missing(trials([Toy()], 8), Store(tmp_path))) == 9


def test_a_process_that_does_not_stop_is_killed(begin, monkeypatch):
    monkeypatch.setattr("limelight.lab.runs._GRACE", 0.1)
    runs = begin(stubborn)
    runs.start(Toy(), 1)
    run = runs._runs["toy"]
    until(lambda: os.fstat(run._errors.fileno()).st_size)  # it ignores signals from now on
    runs.cancel("toy")
    assert ended(runs).state == "canceled"


def test_every_process_ends_with_the_lab(begin):
    runs = begin(a_stubborn_family)
    runs.start(Toy(), 8)
    said = runs._runs["toy"]._errors
    until(lambda: os.fstat(said.fileno()).st_size == len("up\n") * 2)
    family = family_of(runs)
    assert len(family) == 2
    runs.end_all()
    until(lambda: not any(_lives(each) for each in family))


@pytest.mark.slow
def test_a_run_ends_with_a_lab_that_is_killed(tmp_path, gate):
    program = f"""
import sys, time
from pathlib import Path
from limelight.lab.runs import Runs
from tests.experiment.toy import Toy
from tests.lab.test_runs import drive, family_of, until
runs = Runs(Path({str(tmp_path)!r}), command=drive)
runs.start(Toy(), 8)
until(lambda: runs.progress("toy").done == 15)
print(*[each.pid for each in family_of(runs)], flush=True)
time.sleep(600)
"""
    lab = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    family = [psutil.Process(int(number)) for number in lab.stdout.readline().split()]
    assert len(family) > 1
    lab.kill()
    lab.communicate(timeout=PATIENCE)
    until(lambda: not any(_lives(each) for each in family))


def family_of(runs, name="toy"):
    """Its process, and all that it has started."""
    process = psutil.Process(runs._runs[name]._process.pid)
    return [process, *process.children(recursive=True)]


def _lives(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_each_claim_once_and_few_at_a_time(begin):
    runs = begin(stubborn, most=1)
    runs.start(Toy(), 1)
    with pytest.raises(InputError, match="is running already"):
        runs.start(Toy(), 2)
    with pytest.raises(InputError, match="No more than 1 claims are run at once, and toy"):
        runs.start(Diverging(), 1)
    os.kill(runs._runs["toy"]._process.pid, signal.SIGKILL)
    assert ended(runs).state == "failed"
    assert "signal 9" in ended(runs).reason
    runs.start(Diverging(), 1)
    assert runs.progress("diverging").state == "running"


@pytest.mark.parametrize("seeds", [0, -1, 201, 10**30])
def test_seeds_are_bounded(begin, seeds):
    with pytest.raises(InputError, match="an integer from 1 to 200"):
        begin().start(Toy(), seeds)


def test_the_last_message_of_a_run_is_shown(begin):
    def fails(name, seeds, folder):
        return [sys.executable, "-c", "import sys; sys.exit('limelight: cannot write results')"]

    def refuses(name, seeds, folder):
        return [sys.executable, "-c", "import sys; print('limelight: no room left', file=sys.stderr); sys.exit(3)"]

    runs = begin(refuses)
    runs.start(Toy(), 1)
    assert (ended(runs).state, ended(runs).reason) == ("failed", "no room left")
    runs = begin(fails)  # exits with 1, as a run does of which a cell raised, but has written nothing
    runs.start(Toy(), 1)
    assert (ended(runs).state, ended(runs).reason) == ("failed", "cannot write results")
    runs = begin(writes_nothing)
    runs.start(Toy(), 1)
    assert (ended(runs).state, ended(runs).kept) == ("failed", 0)
    assert "start the lab again" in ended(runs).reason


def test_what_runs_is_the_command_of_this_python(tmp_path):
    told = command("slopes", 10, tmp_path)
    assert told[:6] == [sys.executable, "-P", "-m", "limelight.lab.stop_with_stdin", "run", "slopes"]
    assert int(told[told.index("--workers") + 1]) >= 1
    assert told[told.index("--results") + 1] == str(tmp_path)
