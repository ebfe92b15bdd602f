"""What could change a result? The code that made it, its arm and seed, its data, and the versions beneath.

The code is every function, class and constant that the claim's measuring reaches, directly or not, and how a trial is
prepared and its numbers rounded. Comments, docstrings, annotations, texts of errors, pictures and the judgment change
no measurement, so they change no name, and neither does code that the measuring does not reach. (A judgment is made
anew from the results each time.)
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import platform
import threading
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import Any

from limelight.experiment import conditions
from limelight.experiment.claim import Claim
from limelight.experiment.measure import Measurement
from limelight.experiment.provenance.definitions import measuring
from limelight.experiment.provenance.reach import Reach
from limelight.experiment.provenance.sources import EVERYTHING, Definition, Sources

_PACKAGE = "limelight"
_LOOK_AT_RESULTS = ("limelight.experiment", "limelight.figures", "limelight.report")
_HOLD_RESULTS = (Claim.__module__, Measurement.__module__)  # what is added to them later leaves old results as they are
_CONDITIONS = [Definition(conditions.__name__, name) for name in conditions.__all__]
_ONE_AT_A_TIME = threading.Lock()  # reading the same sources twice would only take longer


def trial_key(claim: Claim, arm: str, seed: int) -> str:
    """The SHA-256 that names the result of one trial."""
    identity = {"claim": claim.name, "arm": arm, "seed": seed, **circumstances(claim)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def circumstances(claim: Claim) -> dict[str, Any]:
    """What all trials of a claim have in common: its code, its data, and the versions beneath."""
    return {"source": source_digest(type(claim)), "data": dict(claim.data()), "versions": versions()}


@cache
def versions() -> dict[str, str]:
    """What a result was computed with."""
    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn")}
    return {"python": platform.python_version(), "machine": platform.machine(), **packages}


@cache
def source_digest(claim: type[Claim]) -> str:
    """SHA-256 over all definitions of Limelight, and of the claim's own package, that its measuring reaches."""
    with _ONE_AT_A_TIME, _no_collection():
        return digest_in(_reach(claim.__module__.partition(".")[0]), claim.__module__, claim.__qualname__)


def digest_in(reach: Reach, module: str, claim: str) -> str:
    """The same for a class that is given by its name, in the given sources."""
    is_plain = claim in reach.sources[module].bound  # and not made within a function or another class
    return reach.digest([measuring(module, claim) if is_plain else Definition(module, EVERYTHING), *_CONDITIONS])


def sources_reach(sources: Sources) -> Reach:
    """What can be reached in these sources, where modules that only look at results touch nothing."""
    return Reach(sources, _LOOK_AT_RESULTS)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Syntax is many small objects, all of which are kept: looking for garbage among them took a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def _reach(package: str) -> Reach:
    return sources_reach(Sources({_PACKAGE, package}, _HOLD_RESULTS))
