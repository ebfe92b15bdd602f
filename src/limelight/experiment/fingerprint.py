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
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from limelight.errors import InputError
from limelight.experiment import conditions
from limelight.experiment.claim import Experiment
from limelight.experiment.claim_file import file_of
from limelight.experiment.measure import Measurement
from limelight.experiment.provenance.definitions import measuring
from limelight.experiment.provenance.reach import Reach
from limelight.experiment.provenance.sources import EVERYTHING, Definition, Sources, Text, is_installed, top_of

_PACKAGE = "limelight"
_RESULT_READERS = ("limelight.experiment", "limelight.figures", "limelight.report")
_UNREAD = (Experiment.__module__, Measurement.__module__)  # not read, so that a new field in them keeps the old names
_CONDITIONS = [Definition(conditions.__name__, name) for name in conditions.__all__]
_VERSIONED = {"torch", "numpy", "sklearn"}  # count by their versions, wherever their code is
_LOCK = threading.Lock()  # two threads that read the same sources at once would only take longer


def trial_key(claim: Experiment, arm: str, seed: int) -> str:
    """The SHA-256 that names the result of one trial."""
    return trial_keys(claim)(arm, seed)


def trial_keys(claim: Experiment) -> Callable[[str, int], str]:
    """The function (arm, seed) ↦ `trial_key` of a claim, whose circumstances are computed once.

    A key is the hash of a JSON object with sorted names. All before the seed is the same for all trials of an arm, and
    is hashed once; what comes after the seed is the same for all trials.
    """
    identity = {"claim": claim.name, **circumstances(claim)}
    after = ", " + _json({name: value for name, value in identity.items() if name > "seed"})[1:]

    @cache
    def begun(arm: str) -> Any:
        before = {name: value for name, value in {**identity, "arm": arm}.items() if name < "seed"}
        return hashlib.sha256(f'{_json(before)[:-1]}, "seed": '.encode())

    def key(arm: str, seed: int) -> str:
        digest = begun(arm).copy()
        digest.update((str(seed) + after).encode())
        return digest.hexdigest()

    return key


def _json(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)


def circumstances(claim: Experiment) -> dict[str, Any]:
    """What all trials of a claim have in common: the digest of its code, its data, and the package versions."""
    return {
        "source": source_digest(claim.measured_by(), claim.measuring),
        "data": dict(claim.data()),
        "versions": versions(),
    }


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that compute a result, and the machine's architecture."""
    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn")}
    return {"python": platform.python_version(), "machine": platform.machine(), **packages}


@cache
def source_digest(claim: type, method: str = "measure") -> str:
    """SHA-256 of all definitions in Limelight, and in the claim's own code, that its measurement reaches.

    `method` is the method of the class that measures. The claim's own code is its package or its file, and what these
    import, directly or not, that is not installed. Raises `InputError` if the claim's source cannot be read, as that of
    a notebook.
    """
    module, file = claim.__module__, file_of(claim)
    with _LOCK, without_garbage_collection():
        if file is None:
            _require_readable(claim)
            return digest_in(_reach(_own_packages(module)), module, claim.__qualname__, method)
        return _digest_of_texts(module, claim.__qualname__, method, tuple(sorted(file.texts.items())))


@cache
def _digest_of_texts(module: str, claim: str, method: str, texts: tuple[tuple[str, Text], ...]) -> str:
    """The `source_digest` of a claim in a file, which is loaded anew, as another class, more often than it changes."""
    given = dict(texts)
    return digest_in(sources_reach(Sources(_own_packages(module, given), _UNREAD, given)), module, claim, method)


def _require_readable(claim: type) -> None:
    module = claim.__module__
    if module == "__main__" or module not in Sources({top_of(module)}):
        raise InputError(
            f"the claim {claim.__qualname__} is written in a notebook or in the program that runs ({module}), which "
            "workers cannot import; write it to a file of its own, such as my_claim.py, and run "
            "`limelight run ./my_claim.py`, or load it with limelight.experiment.catalog.claim"
        )


def _own_packages(module: str, texts: Mapping[str, Text] | None = None) -> frozenset[str]:
    """Limelight, the module's own package, and what these modules import, directly or not, that is not installed."""
    packages = {_PACKAGE, top_of(module), *map(top_of, texts or ())}
    while True:
        sources = Sources(packages, (), texts)
        modules = [module] if top_of(module) != _PACKAGE else []
        for one in modules:
            reached = sources.imported_by(one)
            modules += sorted(name for name in reached if name not in modules and top_of(name) != _PACKAGE)
        tops = {top_of(name) for one in modules for name, _ in sources[one].imports} - packages - _VERSIONED
        more = {top for top in tops if not is_installed(top)}
        if not more:
            return frozenset(packages)
        packages |= more


def digest_in(reach: Reach, module: str, claim: str, method: str = "measure") -> str:
    """The `source_digest` of the claim class with this name in this module, computed in the sources of `reach`."""
    is_plain = claim in reach.sources[module].bound  # False for a class made inside a function or another class
    return reach.digest(
        [measuring(module, claim, method) if is_plain else Definition(module, EVERYTHING), *_CONDITIONS]
    )


def sources_reach(sources: Sources) -> Reach:
    """The `Reach` of these sources, in which importing a module that only reads results has no side effects."""
    return Reach(sources, _RESULT_READERS)


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Within the block, Python's garbage collector does not run.

    Syntax trees and results are many small objects, all of which are kept. Searching them for garbage took a third of
    the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def _reach(packages: frozenset[str]) -> Reach:
    return sources_reach(Sources(packages, _UNREAD))
