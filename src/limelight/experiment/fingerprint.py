"""The name of a result: a hash of everything that could change it.

These are its code, its arm and seed, its data, and the versions of Python and of the packages that compute it. The code
is every function, class and constant that the claim's measurement reaches, directly or through others, and how a trial
is prepared and its numbers are rounded. Comments, docstrings, annotations, error messages, pictures and the judgment
change no measurement, so they do not change the name. Neither does code that the measurement does not reach. (The
judgment is computed from the results each time that it is needed.)
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
from limelight.experiment.claim import Experiment
from limelight.experiment.measure import Measurement
from limelight.experiment.provenance.definitions import measuring
from limelight.experiment.provenance.reach import Reach
from limelight.experiment.provenance.sources import EVERYTHING, Definition, Sources

_PACKAGE = "limelight"
_RESULT_READERS = ("limelight.experiment", "limelight.figures", "limelight.report")
_UNREAD = (Experiment.__module__, Measurement.__module__)  # not read, so that a new field in them keeps the old names
_CONDITIONS = [Definition(conditions.__name__, name) for name in conditions.__all__]
_LOCK = threading.Lock()  # two threads that read the same sources at once would only take longer


def trial_key(claim: Experiment, arm: str, seed: int) -> str:
    """The SHA-256 that names the result of one trial."""
    identity = {"claim": claim.name, "arm": arm, "seed": seed, **circumstances(claim)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def circumstances(claim: Experiment) -> dict[str, Any]:
    """What all trials of a claim have in common: the digest of its code, its data, and the package versions."""
    return {"source": source_digest(claim.measured_by()), "data": dict(claim.data()), "versions": versions()}


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that compute a result, and the machine's architecture."""
    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn")}
    return {"python": platform.python_version(), "machine": platform.machine(), **packages}


@cache
def source_digest(claim: type) -> str:
    """SHA-256 of all definitions in Limelight, and in the claim's own package, that its measurement reaches."""
    with _LOCK, _without_garbage_collection():
        return digest_in(_reach(claim.__module__.partition(".")[0]), claim.__module__, claim.__qualname__)


def digest_in(reach: Reach, module: str, claim: str) -> str:
    """The `source_digest` of the claim class with this name in this module, computed in the sources of `reach`."""
    is_plain = claim in reach.sources[module].bound  # False for a class made inside a function or another class
    return reach.digest([measuring(module, claim) if is_plain else Definition(module, EVERYTHING), *_CONDITIONS])


def sources_reach(sources: Sources) -> Reach:
    """The `Reach` of these sources, in which importing a module that only reads results has no side effects."""
    return Reach(sources, _RESULT_READERS)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Within the block, Python's garbage collector does not run.

    A syntax tree is many small objects, all of which are kept. Searching them for garbage took a third of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def _reach(package: str) -> Reach:
    return sources_reach(Sources({_PACKAGE, package}, _UNREAD))
