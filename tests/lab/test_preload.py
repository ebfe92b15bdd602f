"""Workers share memory: all modules are imported once, in the process that they are forked from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from limelight.lab.pages import PAGES

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds, on a busy machine
PLAYED = [page.name for page in PAGES if page.simulation is not None]
PRIVATE_MB = 60  # the largest unshared memory of a worker
TRIFLES = 5  # modules

SCRIPT = """
import json
from multiprocessing import forkserver

from limelight.lab import sessions
from limelight.lab.address import read
from limelight.lab.pages import PAGES
from tests.lab.worker_probe import main

def play(page):
    session = sessions.Session(page.simulation, read(page.fields, {})[0])
    frames = [json.loads(session.frame(-1))]
    session.send("play")
    for _ in range(6):
        frames.append(json.loads(session.frame(frames[-1]["n"])))
    session.send("step")
    probe = json.loads(session.frame(frames[-1]["n"]))["probe"]
    session.end()
    return probe

if __name__ == "__main__":
    sessions._CONTEXT.set_forkserver_preload(["limelight.lab.preload", "tests.lab.worker_probe"])
    forkserver.ensure_running()
    sessions.main = main
    pages = [page for page in PAGES if page.simulation is not None]
    first = play(pages[0])
    print(json.dumps({"first": first, **{page.name: play(page) for page in pages}}))
"""


def probes(folder):
    """The reports of the first worker, which does not wait for all modules, and of a later one for each page."""
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in threads}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs /proc, which only Linux has")
@pytest.mark.slow
def test_workers_share_what_they_import(tmp_path):
    """One test, because to start the lab's processes takes most of its time."""
    found = probes(tmp_path)
    assert "torch._dynamo" in found["first"]["imported"]  # which the first visitor does not wait for
    for page in PLAYED:  # the others import a module or two that multiprocessing and torch load lazily
        imported = found[page]["imported"]
        assert {name.partition(".")[0] for name in imported} <= {"multiprocessing", "torch"}, page
        assert len(imported) <= TRIFLES, page
        assert found[page]["private_mb"] <= PRIVATE_MB, page
    for page in ("first", *PLAYED):
        assert found[page]["server_threads"] == 1, page
        assert found[page]["torch_threads"] == 1, page
        assert found[page]["frozen"] > 100_000, page  # objects that a collection of garbage leaves alone
