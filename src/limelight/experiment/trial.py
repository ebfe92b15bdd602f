"""One trial: measure one arm on one seed and keep the outcome, also if it diverged or raised an error."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limelight.errors import ClusterError, DivergenceError, InputError, StoreError
from limelight.experiment.claim import Experiment
from limelight.experiment.claim_file import ClaimFile, opened
from limelight.experiment.conditions import plain, prepare
from limelight.experiment.fingerprint import circumstances, versions
from limelight.experiment.machine import commit, processor
from limelight.experiment.measure import Measurement
from limelight.experiment.results import Record, Status
from limelight.experiment.store import Store
from limelight.experiment.unfinished import Unfinished

# Seeds are set for the whole process, so the threads of one worker must take turns.
_LOCK = threading.Lock()

Call = tuple[Experiment | ClaimFile, str, int, Path, Mapping[str, Any] | None]  # the arguments of `run_trial`


def run_trials(calls: Sequence[Call]) -> list[Record]:
    """The results of several trials, one after another."""
    return [run_trial(*call) for call in calls]


def run_trial(
    claim: Experiment | ClaimFile, arm: str, seed: int, folder: Path, expected: Mapping[str, Any] | None = None
) -> Record:
    """The result of a trial: read from the folder if it has been written there, otherwise computed and saved.

    A claim in a file of one's own is given to a worker as `ClaimFile`. The result is the same on every worker: one
    thread, and torch and NumPy seeded alike. A trial whose training can be resumed goes on where an earlier run of it
    was interrupted. If the folder cannot be used, as may be on another machine, the result is returned without being
    saved. Raises `ClusterError` if the circumstances on this worker are not the `expected` ones.
    """
    with _LOCK:
        experiment = _opened(claim) if isinstance(claim, ClaimFile) else claim
        if expected is not None:
            _require_same_circumstances(experiment, expected)
        store = _store(folder)
        known = None if store is None else store.load(experiment, arm, seed)
        if known is not None and known.status != "error":
            return known
        unfinished = None if store is None else Unfinished(store.path(experiment, arm, seed))
        record = _measure(experiment, arm, seed, unfinished)
        if store is not None and unfinished is not None:
            with contextlib.suppress(StoreError):
                store.save(experiment, record)
                if record.status != "error":
                    unfinished.remove()
    return record


def _opened(file: ClaimFile) -> Experiment:
    try:
        return opened(file)
    except InputError as problem:
        raise ClusterError(
            f"a worker cannot run the claim: {problem}; the modules beside its file are sent to workers, and all other "
            "packages must be installed on them"
        ) from None


def _store(folder: Path) -> Store | None:
    try:
        return Store(folder)
    except StoreError:
        return None


def _require_same_circumstances(claim: Experiment, expected: Mapping[str, Any]) -> None:
    """Raise `ClusterError` unless this worker has the code, data and versions of the machine that started the run.

    That machine names the result by its own circumstances.
    """
    own = circumstances(claim)
    if own == expected:
        return
    different = [
        f"{name} {own['versions'].get(name)} in place of {version}"
        for name, version in expected["versions"].items()
        if own["versions"].get(name) != version
    ]
    what = ", ".join(different) or f"another version of the code or the data of {claim.name}"
    raise ClusterError(
        f"a worker has {what}; expected the same everywhere, since results would not be comparable: "
        "install on it the versions that are installed here"
    )


def _measure(claim: Experiment, arm: str, seed: int, unfinished: Unfinished | None) -> Record:
    from limelight.models.resumable import saving_to  # here, since torch takes a second

    claim.require_arm(arm)
    prepare(seed)
    started = time.perf_counter()
    try:
        with saving_to(unfinished):
            found = claim.measure(arm, seed)
        status, reason = _validate_measurement(claim, found)
    except DivergenceError as divergence:
        found, status, reason = Measurement({}), "diverged", str(divergence)
    except Exception as fault:
        found, status, reason = Measurement({}), "error", f"{type(fault).__name__}: {fault}"
    return Record(
        claim=claim.name,
        arm=arm,
        seed=seed,
        status=status,
        reason=reason,
        seconds=round(time.perf_counter() - started if unfinished is None else unfinished.seconds, 3),
        values=dict(found.values) if status == "done" else {},
        arrays=plain(found.arrays) if status == "done" else {},
        versions=versions() | ({"commit": commit()} if commit() else {}),
        machine=processor(),
    )


def _validate_measurement(claim: Experiment, found: Measurement) -> tuple[Status, str]:
    """The status of a measurement and its reason: `done` only if it has every measure, as a finite number."""
    if set(found.values) != set(claim.measures):
        return "error", f"expected the measures {sorted(claim.measures)}, got {sorted(found.values)}"
    not_finite = [name for name, value in found.values.items() if not math.isfinite(value)]
    return ("diverged", f"not finite: {', '.join(not_finite)}") if not_finite else ("done", "")
