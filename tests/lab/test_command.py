"""The command `limelight lab`: its options, its errors, and what it loads."""

import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from limelight.cli import app
from limelight.lab import server


def test_a_port_in_use_is_one_sentence_and_bad_input():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = CliRunner().invoke(app, ["lab", "--no-browser", "--port", str(port)])
    assert found.exit_code == 2
    assert f"port {port} of 127.0.0.1 is in use" in found.stderr
    assert found.stderr.count("\n") == 1


def test_without_its_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "limelight.lab.server", None)
    found = CliRunner().invoke(app, ["lab"])
    assert found.exit_code == 2
    assert "in a clone of Limelight, run: pip install -e '.[lab]'" in found.stderr


def test_it_is_bound_to_this_machine_by_default(monkeypatch):
    given = []
    monkeypatch.setattr(server, "serve", lambda *values: given.append(values))
    assert CliRunner().invoke(app, ["lab"]).exit_code == 0
    assert given[0][:4] == ("127.0.0.1", 8765, True, 32)


@pytest.mark.parametrize("sessions", ["0", "1000"])
def test_a_number_of_sessions_out_of_range_is_refused(sessions):
    assert CliRunner().invoke(app, ["lab", "--sessions", sessions]).exit_code == 2


def of_a_new_python(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_it_answers_without_torch_which_its_workers_load():
    program = """
import sys, pathlib
import limelight.cli
from limelight.lab.app import build, content
from limelight.lab.pages import PAGES
from limelight.lab.address import read
from limelight.lab.sessions import Sessions
build(Sessions(1), pathlib.Path("nowhere"))
for page in PAGES:
    if page.simulation:
        content(page, read(page.fields, {})[0], [])
print(*{"torch", "scipy.stats", "sklearn", "pandas"} & sys.modules.keys())
"""
    assert of_a_new_python(program) == []


@pytest.mark.slow
def test_what_workers_need_later_is_loaded_where_they_are_forked_from():
    program = """
import importlib, signal, sys
import limelight.lab.preload
signal.setitimer(signal.ITIMER_REAL, 0)  # the test raises it itself
from limelight.lab.pages.operator import simulation as operator
imported, drawn, really = [], [], importlib.import_module
importlib.import_module = lambda name, *rest: imported.append(name) if name == "torch._dynamo" else really(name, *rest)
operator.SIMULATION.figures = lambda self: drawn.append(self) or {}
print("torch._dynamo" in sys.modules)
signal.raise_signal(signal.SIGALRM)
print(imported == ["torch._dynamo"] and len(drawn) == 1)
"""
    assert of_a_new_python(program) == ["False", "True"]
