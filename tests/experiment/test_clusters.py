"""Dask and Ray on clusters of processes of this machine, whose workers die, cannot write, or are of another version."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from limelight.cli import UNREACHABLE
from limelight.experiment.runner import trials
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from tests.experiment.test_processes import MARK, PATIENCE, left_of
from tests.experiment.toy import HARD, Toy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SEEDS = 10
NOBODY = 65534


class Dask:
    """A scheduler and two workers, each a process."""

    extra = "dask"

    def __init__(self, start, worker=True, **options):
        self._start = start
        scheduler = start("-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard")
        self.address = re.search(r"tcp://\S+", said(scheduler, "Scheduler at:"))[0]
        for _ in range(2 * worker):
            process = start(
                "-m", "dask", "worker", self.address, "--no-dashboard", "--nthreads", 1, "--no-nanny", **options
            )
            said(process, "Registered to:")
            self._worker = process

    def kill_a_worker(self):
        self._worker.kill()


class Ray:
    """A head that starts two workers."""

    extra = "ray"

    def __init__(self, start, **options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        head = start(
            "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block", "--num-cpus", 2,
            "--node-ip-address", "127.0.0.1", "--port", self.address.split(":")[1], "--include-dashboard", "false",
            "--disable-usage-stats", **options,
        )  # fmt: skip
        said(head, "Ray runtime started")
        self._mark = start.mark

    def kill_a_worker(self):
        next(each for each in left_of(self._mark) if each.name().startswith("ray::run_trial")).kill()


def said(process, words):
    """The output of a process up to the line with these words."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return line
    raise AssertionError("".join(lines))


@pytest.fixture
def start(tmp_path):
    """Start Python as a process of a cluster; all of them are killed when the test ends."""
    mark, begun = uuid.uuid4().hex, []
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="c", dir="/tmp")))  # Ray needs a short path
        place.chmod(0o777)

        def begin(*arguments, path=(), before=()):
            environment = os.environ | {
                MARK: mark,
                "HOME": str(place),
                "RAY_TMPDIR": str(place),
                "PYTHONUNBUFFERED": "1",
            }
            environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), str(ROOT), os.environ.get("PYTHONPATH", "")])
            process = subprocess.Popen(
                [*before, sys.executable, *map(str, arguments)], env=environment | {HARD: "1"}, cwd=place, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            begun.append(process)
            return process

        begin.mark = mark
        yield begin
        for process in left_of(mark):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in begun:
            process.communicate(timeout=PATIENCE)


@pytest.fixture(params=[Dask, Ray])
def kind(request):
    pytest.importorskip({"dask": "distributed"}.get(request.param.extra, request.param.extra))
    return request.param


@contextmanager
def running(kind, address, folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.experiment.command", "run", "toy", "--seeds", str(SEEDS),
         "--results", str(folder), "--backend", kind.extra, "--address", address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def until_some_are_done(process, folder):
    end = time.monotonic() + PATIENCE
    while len(list(folder.glob("toy/[!.]*.json"))) < 4:
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def as_here(folder, tmp_path):
    """True if the results equal those of one process."""
    for trial in trials([Toy()], SEEDS):
        run_trial(trial.claim, trial.arm, trial.seed, tmp_path / "here")
    found, here = (Store(each).results(Toy(), SEEDS).records for each in (folder, tmp_path / "here"))
    return [record.values for record in found] == [record.values for record in here]


def test_a_worker_that_is_killed_loses_nothing(kind, start, tmp_path):
    cluster, folder = kind(start), tmp_path / "results"
    with running(kind, cluster.address, folder) as process:
        until_some_are_done(process, folder)
        cluster.kill_a_worker()
        _, wrong = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, wrong
    assert "Traceback" not in wrong
    assert as_here(folder, tmp_path)


@pytest.mark.skipif(
    not shutil.which("setpriv") or os.getuid() != 0,
    reason="needs root, who alone can start a process with fewer rights",
)
def test_from_workers_that_cannot_use_the_folder_results_come_back(kind, start, tmp_path):
    folder = tmp_path / "results"
    cluster = kind(start, before=["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"])
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    with running(kind, cluster.address, folder) as process:
        _, wrong = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, wrong
    assert as_here(folder, tmp_path)


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        (Dask, "tcp://127.0.0.1:9"),
        (Dask, "tcp://127.0.0.1:99999"),
        (Ray, "127.0.0.1:9"),
        (Ray, "ray://127.0.0.1:9"),
        (Ray, "ray://127.0.0.1:99999"),
    ],
    indirect=["kind"],
)
def test_without_an_answer_it_raises_one_sentence(kind, address, tmp_path):
    with running(kind, address, tmp_path / "results") as process:
        _, wrong = process.communicate(timeout=PATIENCE)
    assert process.returncode == UNREACHABLE, wrong
    assert re.fullmatch(rf"limelight: no (Dask scheduler|Ray cluster) answers at {address} .*\n", wrong)


def test_workers_of_another_version_are_refused(kind, start, tmp_path):
    other = tmp_path / "other" / "torch-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n")
    cluster = kind(start, path=[other.parent])
    with running(kind, cluster.address, tmp_path / "results") as process:
        _, wrong = process.communicate(timeout=PATIENCE)
    assert process.returncode == UNREACHABLE, wrong
    assert re.fullmatch(r"limelight: a worker has torch 9\.9 in place of .*\n", wrong)
    assert not list((tmp_path / "results").glob("toy/[!.]*.json"))


def test_a_scheduler_without_workers_is_one_sentence(start, tmp_path):
    pytest.importorskip("distributed")
    cluster = Dask(start, worker=False)
    with running(Dask, cluster.address, tmp_path / "results") as process:
        _, wrong = process.communicate(timeout=PATIENCE)
    assert process.returncode == UNREACHABLE, wrong
    assert re.fullmatch(r"limelight: the Dask scheduler at tcp://\S+ has no workers; .*\n", wrong)


STAND_INS = {
    "srun": 'for _ in 1 2; do "$@" & done; wait',
    "hostname": "echo 127.0.0.1",
    "dask": f'exec {sys.executable} -m dask "$@"',
    "limelight": f'exec {sys.executable} -m tests.experiment.command "$@"',
}


def test_the_script_for_slurm(start, tmp_path):
    """The script in the documents, where `srun` starts two processes on this machine."""
    pytest.importorskip("distributed")
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").partition("## Slurm")[2]
    script, folder, tools = tmp_path / "script.sh", tmp_path / "results", tmp_path / "tools"
    tools.mkdir()
    for name, command in STAND_INS.items():
        (tools / name).write_text(f"#!/bin/bash\n{command}\n")
        (tools / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    changes = {"8786": port, "/shared/results": str(folder), "run --full": f"run toy --seeds {SEEDS}"}
    script.write_text(text.partition("```sh\n")[2].partition("```")[0])
    for old, new in changes.items():
        assert old in script.read_text()
        script.write_text(script.read_text().replace(old, new))
    batch = f"import subprocess, sys; sys.exit(subprocess.call(['bash', {str(script)!r}]))"
    process = start("-c", batch, before=["env", f"PATH={tools}:{os.environ['PATH']}"])
    assert process.wait(timeout=PATIENCE) == 0
    assert as_here(folder, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_cluster_that_was_started_for_a_run_ends_with_it(kind, start, tmp_path, number):
    folder = tmp_path / "results"
    process = start(
        "-m", "tests.experiment.command", "run", "toy", "--seeds", 60, "--results", folder, "--backend", kind.extra,
        "--workers", 2,
    )  # fmt: skip
    until_some_are_done(process, folder)
    assert len(left_of(start.mark)) > 2
    process.send_signal(number)
    end = time.monotonic() + PATIENCE
    while left := left_of(start.mark):
        assert time.monotonic() < end, [each.cmdline() for each in left]
        time.sleep(0.05)
    assert "Traceback" not in process.communicate(timeout=PATIENCE)[0]
