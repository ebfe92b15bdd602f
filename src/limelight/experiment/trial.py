"""One trial: measure one arm on one seed, and keep what became of it, whatever that is."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limelight.errors import ClusterError, DivergenceError, StoreError
from limelight.experiment.claim import Claim
from limelight.experiment.conditions import plain, prepare
from limelight.experiment.fingerprint import circumstances, versions
from limelight.experiment.measure import Measurement
from limelight.experiment.results import Record, Status
from limelight.experiment.store import Store

# Seeds are set for the whole process, so threads of one worker must take turns.
_ONE_AT_A_TIME = threading.Lock()


def run_trial(claim: Claim, arm: str, seed: int, folder: Path, expected: Mapping[str, Any] | None = None) -> Record:
    """The result of a trial, from the folder if it is there by now, else computed and saved there.

    The same on any worker: one thread, and torch and NumPy seeded alike. Where the folder cannot be used, as on another
    machine, the result is given all the same. Raises `ClusterError` where the circumstances are not those expected.
    """
    if expected is not None:
        _require_same(claim, expected)
    with _ONE_AT_A_TIME:
        store = _store(folder)
        known = None if store is None else store.load(claim, arm, seed)
        if known is not None and known.status != "error":
            return known
        record = _measured(claim, arm, seed)
        if store is not None:
            with contextlib.suppress(StoreError):
                store.save(claim, record)
    return record


def _store(folder: Path) -> Store | None:
    try:
        return Store(folder)
    except StoreError:
        return None


def _require_same(claim: Claim, expected: Mapping[str, Any]) -> None:
    """A result is kept under the name of what it was computed with here, so a worker must have the same."""
    own = circumstances(claim)
    if own == expected:
        return
    different = [
        f"{name} {own['versions'].get(name)} in place of {version}"
        for name, version in expected["versions"].items()
        if own["versions"].get(name) != version
    ]
    what = ", ".join(different) or "another version of the code or the data of Limelight"
    raise ClusterError(
        f"a worker has {what}; expected the same everywhere, since results would not be comparable: "
        "install there what is installed here"
    )


def _measured(claim: Claim, arm: str, seed: int) -> Record:
    claim.require_arm(arm)
    prepare(seed)
    started = time.perf_counter()
    try:
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
        seconds=round(time.perf_counter() - started, 3),
        values=dict(found.values) if status == "done" else {},
        arrays=plain(found.arrays) if status == "done" else {},
        versions=versions(),
    )


def _validate_measurement(claim: Claim, found: Measurement) -> tuple[Status, str]:
    """A measurement counts if it has every measure, as a finite number."""
    if set(found.values) != set(claim.measures):
        return "error", f"expected the measures {sorted(claim.measures)}, got {sorted(found.values)}"
    strange = [name for name, value in found.values.items() if not math.isfinite(value)]
    return ("diverged", f"not finite: {', '.join(strange)}") if strange else ("done", "")
