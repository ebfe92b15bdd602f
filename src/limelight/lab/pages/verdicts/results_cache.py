"""What the results folder holds of each claim, read once for each state that the folder is in."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limelight.errors import StoreError
from limelight.experiment import catalog
from limelight.experiment.claim import Claim
from limelight.experiment.results import Results
from limelight.experiment.store import Store
from limelight.experiment.verdict import Verdict
from limelight.report.page import Entry

_PICTURED = 3  # claims whose pictures are remembered: some have megabytes


@dataclass(frozen=True)
class ClaimStatus:
    """What is known of a claim, without the arrays that its pictures are drawn from."""

    verdict: Verdict | None = None  # None before every arm has a seed in common
    seeds: int = 0
    kept: int = 0  # runs that have a result
    others: int = 0  # files that do not count: of other code, or of other versions beneath it
    damaged: int = 0  # files that were set aside
    newest: float | None = None  # when the latest result was written, seconds since 1970
    command: str = ""
    seconds: float = 0.0  # of one core
    failures: tuple[str, ...] = ()
    wrong: str = ""  # why there is none of all this


Drawn = list[tuple[str, list[dict[str, Any]]]]  # a caption, and figures as Plotly takes them


def names() -> list[str]:
    """The names of all claims there are by now."""
    importlib.invalidate_caches()
    return catalog.names()


def claim_of(name: str) -> Claim | str:
    """A claim, or why it cannot be read: one module that does not import must not take the others with it."""
    try:
        return catalog.claim(name)
    except Exception as problem:
        sys.modules.pop(f"limelight.claims.{name}", None)  # it may be put right while the lab runs
        return f"The claim {name} cannot be read: {type(problem).__name__}: {problem}"


class ResultsCache:
    """The results of all claims in one folder, which need not be there yet. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, tuple[str, ClaimStatus]] = {}
        self._drawn: OrderedDict[str, tuple[str, Drawn]] = OrderedDict()
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def stamp(self, name: str) -> str:
        """Another one whenever a result of the claim has come or gone."""
        try:
            return str((self._folder / name).stat().st_mtime_ns)
        except OSError:
            return ""

    def found(self, claim: Claim) -> ClaimStatus:
        """What the folder holds of the claim, and what follows from it."""
        with self._locks[claim.name]:
            stamp = self.stamp(claim.name)  # before it is read: what comes meanwhile is read the next time
            known = self._found.get(claim.name)
            if known is None or known[0] != stamp:
                known = self._found[claim.name] = stamp, self._read(claim)
            return known[1]

    def drawn(self, claim: Claim) -> Drawn:
        """The claim's pictures; none before it has a verdict.

        Raises whatever the claim raises.
        """
        with self._locks[claim.name]:
            stamp = self.stamp(claim.name)
            known = self._drawn.pop(claim.name, None)
            if known is None or known[0] != stamp:
                known = stamp, self._draw(claim)
            self._drawn[claim.name] = known
            while len(self._drawn) > _PICTURED:
                self._drawn.popitem(last=False)
            return known[1]

    def _results(self, claim: Claim) -> tuple[Store, Results]:
        store = Store(self._folder)
        return store, store.results(claim)

    def _read(self, claim: Claim) -> ClaimStatus:
        if not self._folder.exists():
            return ClaimStatus()
        try:
            store, results = self._results(claim)
            verdict = claim.verdict(results)
        except StoreError as problem:
            return ClaimStatus(wrong=f"The results cannot be read: {problem}.")
        except Exception as problem:  # a judgment that raises is a fault of that claim alone
            return ClaimStatus(wrong=f"The claim cannot be judged: {type(problem).__name__}: {problem}")
        times = [store.path(claim, record.arm, record.seed).stat().st_mtime for record in results.records]
        files = sum(1 for _ in (self._folder / claim.name).glob("[!.]*.json"))
        entry = None if verdict is None else Entry(claim, results, verdict)
        return ClaimStatus(
            verdict=verdict,
            seeds=len(results.seeds()),
            kept=len(results.records),
            others=max(0, files - len(results.records)),
            damaged=sum(1 for _ in (self._folder / "damaged").glob(f"{claim.name}-*.json")),
            newest=max(times, default=None),
            command="" if entry is None else entry.command,
            seconds=0.0 if entry is None else entry.seconds,
            failures=tuple(f"{each.arm}, seed {each.seed}: {each.status}, {each.reason}" for each in results.failures),
        )

    def _draw(self, claim: Claim) -> Drawn:
        if not self._folder.exists():
            return []
        _, results = self._results(claim)
        if not results.seeds():
            return []
        return [
            (picture.caption, [json.loads(figure.to_json()) for figure in picture.figures])
            for picture in claim.figures(results)
        ]
