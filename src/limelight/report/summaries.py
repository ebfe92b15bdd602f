"""The summaries of the claims in a folder of results, kept from one command to the next."""

from __future__ import annotations

from limelight.experiment import catalog
from limelight.experiment.claim import Claim
from limelight.experiment.store import Store
from limelight.experiment.unchanged import state
from limelight.report.entry import Entry
from limelight.report.summary import Summary


class Summaries:
    """Summaries of claims by the results in a store.

    Where nothing has changed since a summary was kept, neither the claim is imported nor its results are read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._new: dict[str, tuple[str, str]] = {}

    def of(self, name: str) -> Summary:
        """The summary of the claim with this name, or in the file at this path. Raises as `catalog.claim` does."""
        now = state(self._store.folder, name) if catalog.is_built_in(name) else None
        kept = None if now is None else self._store.summary(name, now)
        if kept is not None:
            return Summary.of_text(kept)
        told = len(self._store.damaged)
        summary = summarized(catalog.claim(name), self._store)
        if now is not None and len(self._store.damaged) == told:  # what is wrong has to be told again
            self._new[name] = (now, summary.as_text())
        return summary

    def keep(self) -> None:
        """Keep the summaries that were made."""
        self._store.keep_summaries(self._new)


def summarized(claim: Claim, store: Store) -> Summary:
    """The summary of a claim, made from its results."""
    results = store.results(claim)
    verdict = claim.verdict(results)
    return Summary.of(claim, None if verdict is None else Entry(claim, results, verdict))
