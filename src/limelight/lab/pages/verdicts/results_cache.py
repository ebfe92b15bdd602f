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
from limelight.report.entry import Entry

_PICTURED = 3  # claims whose pictures are kept in memory: those of some take megabytes


@dataclass(frozen=True)
class ClaimStatus:
    """What is known of a claim, without the arrays that its pictures are drawn from."""

    verdict: Verdict | None = None  # None before every arm has a seed in common
    finding: str = ""  # what was found, in one sentence
    seeds: int = 0
    kept: int = 0  # runs that have a result
    others: int = 0  # files that do not count, since other code or other package versions computed them
    damaged: int = 0  # files that were moved to the folder `damaged`
    newest: float | None = None  # when the latest result was written, seconds since 1970
    command: str = ""
    seconds: float = 0.0  # of computing on one core
    failures: tuple[str, ...] = ()
    wrong: str = ""  # why the results cannot be read or judged, or empty


Pictures = list[tuple[str, list[dict[str, Any]]]]  # a caption, and figures as Plotly takes them


def claim_names() -> list[str]:
    """The names of all claims, with those whose files were added while the lab runs."""
    importlib.invalidate_caches()
    return catalog.names()


def load_claim(name: str) -> Claim | str:
    """The claim of this name, or a sentence that says why its module cannot be imported.

    A sentence, not an exception: one broken module must not hide the other claims.
    """
    try:
        return catalog.claim(name)
    except Exception as problem:
        sys.modules.pop(f"limelight.claims.{name}", None)  # the file may be corrected while the lab runs
        return f"The claim {name} cannot be read: {type(problem).__name__}: {problem}"


class ResultsCache:
    """The results of all claims in one folder, which need not exist yet. Any thread may call its methods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._status: dict[str, tuple[str, ClaimStatus]] = {}
        self._pictures: OrderedDict[str, tuple[str, Pictures]] = OrderedDict()
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def stamp(self, name: str) -> str:
        """A text that changes whenever a result file of the claim is added or removed."""
        try:
            return str((self._folder / name).stat().st_mtime_ns)
        except OSError:
            return ""

    def status(self, claim: Claim) -> ClaimStatus:
        """The claim's verdict and the counts of its result files, read again only if the folder has changed."""
        with self._locks[claim.name]:
            stamp = self.stamp(claim.name)  # taken before reading: a result that is added meanwhile is read next time
            known = self._status.get(claim.name)
            if known is None or known[0] != stamp:
                known = self._status[claim.name] = stamp, self._read(claim)
            return known[1]

    def pictures(self, claim: Claim) -> Pictures:
        """The claim's pictures; an empty list before it has a verdict.

        Raises whatever the claim raises.
        """
        with self._locks[claim.name]:
            stamp = self.stamp(claim.name)
            known = self._pictures.pop(claim.name, None)
            if known is None or known[0] != stamp:
                known = stamp, self._draw(claim)
            self._pictures[claim.name] = known
            while len(self._pictures) > _PICTURED:
                self._pictures.popitem(last=False)
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
            entry = None if verdict is None else Entry(claim, results, verdict)
            finding = "" if entry is None else entry.finding
        except StoreError as problem:
            return ClaimStatus(wrong=f"The results cannot be read: {problem}.")
        except Exception as problem:  # a judgment that raises is a fault of that claim alone
            return ClaimStatus(wrong=f"The claim cannot be judged: {type(problem).__name__}: {problem}")
        files = sum(1 for _ in (self._folder / claim.name).glob("[!.]*.json"))
        return ClaimStatus(
            verdict=verdict,
            finding=finding,
            seeds=len(results.seeds()),
            kept=len(results.records),
            others=max(0, files - len(results.records)),
            damaged=sum(1 for _ in (self._folder / "damaged").glob(f"{claim.name}-*.json")),
            newest=store.newest(claim, results.records),
            command="" if entry is None else entry.command,
            seconds=0.0 if entry is None else entry.seconds,
            failures=tuple(f"{each.arm}, seed {each.seed}: {each.status}, {each.reason}" for each in results.failures),
        )

    def _draw(self, claim: Claim) -> Pictures:
        if not self._folder.exists():
            return []
        _, results = self._results(claim)
        if not results.seeds():
            return []
        return [
            (picture.caption, [json.loads(figure.to_json()) for figure in picture.figures])
            for picture in claim.figures(results)
        ]
