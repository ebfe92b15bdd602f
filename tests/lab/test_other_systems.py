"""The lab and a run where processes can only be spawned, and no POSIX signal has a name, as on Windows."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from limelight.experiment.store import Store
from tests.experiment.toy import Toy

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds, on a busy machine: each worker loads torch anew


@pytest.fixture
def environment():
    path = [str(ROOT / "tests" / "without_posix"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


def python(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=environment, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_the_names_are_gone(environment):
    program = """
from limelight.experiment import processes
from limelight.lab import sessions
print(hasattr(processes.signal, "SIGHUP"), hasattr(processes.signal, "SIGTERM"), sessions._FORKS)
"""
    said, wrong = python(environment, "-c", program).communicate(timeout=PATIENCE)
    assert said.split() == ["False", "True", "False"], wrong


@pytest.mark.slow
def test_a_run(environment, tmp_path):
    process = python(environment, "-m", "tests.experiment.command", "run", "toy", "--workers", 2, "--results", tmp_path)
    said, wrong = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, wrong
    assert "supported" in said
    assert Store(tmp_path).results(Toy()).seeds() == list(range(10))


@pytest.mark.slow
def test_the_lab_plays(environment, tmp_path):
    lab = python(environment, "-m", "limelight", "lab", "--no-browser", "--port", 0, "--results", tmp_path)
    try:
        address = urlsplit(next(word for word in lab.stderr.readline().split() if word.startswith("http"))).netloc
        key = "00000000-0000-4000-8000-000000000000"
        with connect(f"ws://{address}/frames?page=slopes&key={key}", origin=f"http://{address}") as socket:
            socket.send(json.dumps({"after": -1}))
            first = json.loads(socket.recv(timeout=PATIENCE))
            socket.send(json.dumps({"press": "step"}))
            socket.send(json.dumps({"after": first["n"]}))
            second = json.loads(socket.recv(timeout=PATIENCE))
        assert (first["words"]["slopes-step"], second["words"]["slopes-step"]) == ("step 0", "step 1")
    finally:
        lab.send_signal(signal.SIGINT)
        _, wrong = lab.communicate(timeout=PATIENCE)
    assert "Traceback" not in wrong


@pytest.mark.slow
def test_a_run_of_the_lab_ends_when_it_is_asked_to(environment, tmp_path):
    program = f"""
import sys, time
from pathlib import Path
from limelight.lab.runs import Runs
from tests.experiment.toy import Toy

def command(name, seeds, folder):
    attended = "import limelight.lab.stop_with_stdin as a, runpy; a.interrupt_at_end_of_stdin(); "
    run = "runpy.run_module('tests.experiment.command', run_name='__main__')"
    options = ["--seeds", str(seeds), "--workers", "1", "--results", str(folder)]
    return [sys.executable, "-c", attended + run, "run", name, *options]

runs = Runs(Path({str(tmp_path)!r}), command=command)
runs.start(Toy(), 200)
while not runs.progress("toy").done:
    time.sleep(0.05)
runs.cancel("toy")
while runs.progress("toy").goes_on:
    time.sleep(0.05)
code = runs._runs["toy"]._process.returncode
print(runs.progress("toy").state, code, 0 < runs.progress("toy").kept < 600)
"""
    environment["LIMELIGHT_TOY_HARD"] = "1"
    said, wrong = python(environment, "-c", program).communicate(timeout=PATIENCE)
    assert said.split() == ["canceled", "130", "True"], wrong
