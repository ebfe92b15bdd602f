"""`limelight lab` at its front door."""

import socket
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
    assert "pip install 'limelight[lab]'" in found.stderr


def test_it_is_bound_to_this_machine_unless_told(monkeypatch):
    given = []
    monkeypatch.setattr(server, "serve", lambda *values: given.append(values))
    assert CliRunner().invoke(app, ["lab"]).exit_code == 0
    assert given[0][:4] == ("127.0.0.1", 8765, True, 16)


@pytest.mark.parametrize("sessions", ["0", "1000"])
def test_a_number_of_sessions_out_of_range_is_refused(sessions):
    assert CliRunner().invoke(app, ["lab", "--sessions", sessions]).exit_code == 2
