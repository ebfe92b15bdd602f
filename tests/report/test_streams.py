"""Output that cannot be written: a full disk, a closed pipe, a stream that the shell has closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from limelight import cli

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs the device /dev/full, which Linux has")


def code_of(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.app(list(arguments))
    return ended.value.code or 0


@needs_full
@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("--help",), ("show", "slopes"), ("--version",)])
def test_a_full_disk_is_one_sentence(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert code_of(*arguments) == cli.UNREACHABLE
    assert capsys.readouterr().err == "limelight: cannot write the output (No space left on device)\n"


@needs_full
def test_a_warning_that_cannot_be_written_does_not_stop_the_program(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert code_of("show", "slops") == cli.BAD_INPUT
        assert code_of("list") == 0
    assert "slopes" in capsys.readouterr().out


def test_a_closed_pipe_ends_it_silently(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        assert code_of("list") == 1
    assert capsys.readouterr().err == ""


def test_a_closed_stream_is_no_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", None)
    assert code_of("list") == 0
    monkeypatch.setattr(sys, "stderr", None)
    assert code_of("show", "slops") == cli.BAD_INPUT


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize("arguments", [("show", "drift_diffusion"), ("--help",), ("show", "α")])
def test_any_encoding_shows_it(arguments, encoding, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "output").open("w", encoding=encoding) as output:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", output)
        assert code_of(*arguments) in (0, cli.BAD_INPUT)
    assert len((tmp_path / "output").read_text(encoding=encoding)) > 50


@pytest.mark.slow
@needs_full
@pytest.mark.parametrize(
    ("arguments", "stream", "code"),
    [(("list",), "stdout", cli.UNREACHABLE), (("show", "slops"), "stderr", cli.BAD_INPUT), (("list",), "stderr", 0)],
)
def test_a_process_with_a_full_disk_ends_with_its_code(arguments, stream, code, tmp_path):
    with FULL.open("w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
        done = subprocess.run(
            [sys.executable, "-m", "limelight", *arguments],
            cwd=tmp_path,
            text=True,
            timeout=120,
            check=False,
            **streams,
        )
    assert done.returncode == code
    assert "Traceback" not in (done.stderr or "")
    assert "Exception" not in (done.stderr or "")
