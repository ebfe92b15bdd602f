"""Claims that run in the background, each in its own `limelight run` process, with their progress.

A run belongs to the lab, not to a page: it goes on when its page is closed, and every page shows its progress. It ends
when the lab ends. Its finished results are kept, since the command writes each result as soon as it is computed.
"""

from __future__ import annotations

import atexit
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limelight.errors import InputError
from limelight.experiment import backends, processes, runner
from limelight.experiment.claim import Claim
from limelight.experiment.store import Store

MOST = 2  # runs at the same time
SEEDS = (1, 200)
_GRACE = 8.0  # seconds between the request to stop and the kill
_FAULTS, _INTERRUPTED = 1, 130  # exit codes

State = Literal["running", "stopping", "done", "canceled", "failed"]
Command = Callable[[str, int, Path], Sequence[str]]


@dataclass(frozen=True)
class Progress:
    """The progress of a run: how many trials had a result before it, and how many it has finished."""

    state: State
    seeds: int
    total: int
    known: int
    done: int
    left: float | None  # estimated seconds until the run is done
    reason: str = ""  # why the run failed

    @property
    def kept(self) -> int:
        return self.known + self.done

    @property
    def goes_on(self) -> bool:
        return self.state in ("running", "stopping")


def command(name: str, seeds: int, folder: Path) -> list[str]:
    """The command that runs a claim on all cores but one, which is left for the browser."""
    workers = max(1, backends.cores() - 1)
    return [
        sys.executable, "-P", "-m", "limelight.lab.stop_with_stdin", "run", name, "--seeds", str(seeds),
        "--workers", str(workers), "--results", str(folder),
    ]  # fmt: skip


class Run:
    """One run: its process, and the result files that it will write."""

    def __init__(self, seeds: int, total: int, missing: Sequence[Path], arguments: Sequence[str]) -> None:
        self.seeds, self.total, self._missing = seeds, total, {path: _stamp(path) for path in missing}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (read when the process has ended)
        self._asked_to_end = False
        self._began = time.monotonic()
        self._process = subprocess.Popen(  # in its own session: Ctrl-C in the terminal must reach the lab only
            arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors, start_new_session=True
        )

    @property
    def progress(self) -> Progress:
        code = self._process.poll()  # before the files are counted: a process that has ended writes no more
        done = sum(_stamp(path) != before for path, before in self._missing.items())
        known, seconds = self.total - len(self._missing), time.monotonic() - self._began
        left = seconds / done * (len(self._missing) - done) if done else None
        state, reason = self._state(code, done)
        return Progress(state, self.seeds, self.total, known, done, left, reason)

    def _state(self, code: int | None, done: int) -> tuple[State, str]:
        if code is None:
            return ("stopping" if self._asked_to_end else "running"), ""
        if self._asked_to_end or code == _INTERRUPTED:
            return "canceled", ""
        complete = done == len(self._missing)
        if code != 0 and not (code == _FAULTS and complete):  # the verdict lists trials that raised
            return "failed", self._last_line(code)
        if not complete:
            return "failed", "its results come from code that differs from this lab's; start the lab again"
        return "done", ""

    def _last_line(self, code: int) -> str:
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        if code < 0:
            return f"it was ended by signal {-code}, {signal.strsignal(-code)}"
        return lines[-1].removeprefix("limelight: ")[:300] if lines else f"exit code {code}"

    def cancel(self) -> None:
        """Ask the process to end by closing its input. Kill it after a grace period.

        See `limelight.lab.stop_with_stdin`.
        """
        if self._process.poll() is None and not self._asked_to_end:
            self._asked_to_end = True
            assert self._process.stdin is not None
            self._process.stdin.close()
            timer = threading.Timer(_GRACE, self._end)
            timer.daemon = True
            timer.start()

    def wait(self, seconds: float) -> None:
        """Wait until the process has ended. Kill it after this many seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._end()
            self._process.wait()

    def _end(self) -> None:
        """Kill the process and its workers, unless it has ended: its id may then belong to another process."""
        if self._process.poll() is None:
            processes.end_tree(self._process.pid)


class Runs:
    """The runs of one lab: at most one for each claim, and at most `most` at the same time."""

    def __init__(self, folder: Path, most: int = MOST, command: Command = command) -> None:
        self._folder, self._most, self._command = folder, most, command
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()
        atexit.register(self.end_all)

    def start(self, claim: Claim, seeds: int) -> None:
        """Start a run of the trials of these seeds that have no result yet.

        Raises `InputError` if the claim is running already, too many claims are, no trial is missing, or the number of
        seeds is out of range; `StoreError` if the results folder cannot be written.
        """
        if not SEEDS[0] <= seeds <= SEEDS[1]:
            raise InputError(f"The number of seeds must be an integer from {SEEDS[0]} to {SEEDS[1]}, got {seeds}.")
        with self._lock:
            self._require_free(claim.name)
            store, wanted = Store(self._folder), runner.trials([claim], seeds)
            missing = [store.path(claim, trial.arm, trial.seed) for trial in runner.missing(wanted, store)]
            if not missing:
                which = "The seed 0 has" if seeds == 1 else f"The seeds 0 to {seeds - 1} have"
                raise InputError(f"{which} all their results already; choose more seeds.")
            store.require_writable([claim])
            self._runs[claim.name] = Run(
                seeds, len(wanted), missing, self._command(claim.name, seeds, store.folder.resolve())
            )

    def _require_free(self, name: str) -> None:
        running = [each for each, run in self._runs.items() if run.progress.goes_on]
        if name in running:
            raise InputError("This claim is running already.")
        if len(running) >= self._most:
            raise InputError(
                f"No more than {self._most} claims are run at once, and {' and '.join(running)} are running; "
                "wait, or cancel one."
            )

    def progress(self, name: str) -> Progress | None:
        """The progress of the latest run of a claim, or None if it was never run."""
        run = self._runs.get(name)
        return None if run is None else run.progress

    def cancel(self, name: str) -> None:
        """Stop a run. The results that it has computed are kept."""
        run = self._runs.get(name)
        if run is not None:
            run.cancel()

    def end_all(self) -> None:
        """Stop all runs, as the lab does when it ends."""
        with self._lock:
            for run in self._runs.values():
                run.cancel()
            for run in self._runs.values():
                run.wait(_GRACE / 2)


def _stamp(path: Path) -> int | None:
    """A value that changes whenever the file is rewritten, or None if the file cannot be read."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
