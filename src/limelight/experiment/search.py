"""A declared search: every arm of a claim tries the same learning rates on the same seeds, and keeps the best one.

A comparison is fair only if every arm was tuned alike. So a claim whose arms are trained declares the rates that all of
them try, and the measure by which they are compared. The search runs on seeds that no verdict uses, and each of its
trials is a result like any other: it is stored and can be shown, and the rate of an arm can be checked against it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from limelight.experiment.claim import Claim, Experiment
from limelight.experiment.claim_file import ClaimFile, file_of, opened
from limelight.experiment.measure import Measurement
from limelight.experiment.results import Results
from limelight.experiment.statistics import median
from limelight.experiment.store import Store

FIRST_SEED, SEEDS = 1000, 6  # the seeds of a search; verdicts use those from 0 on, replications those from a million on


class TunedClaim(Claim):
    """A claim whose arms are trained, each with the best of the rates that all arms have tried."""

    rates: ClassVar[Sequence[float]]  # the learning rates that every arm tries
    score: ClassVar[str]  # the measure whose median over the seeds of the search chooses among them
    chosen: ClassVar[Mapping[str, float]]  # the rate of each arm

    @abstractmethod
    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        """One trial of an arm that is trained with this learning rate; a search reads only the `score` of it."""

    def measure(self, arm: str, seed: int) -> Measurement:
        return self.measure_at(arm, self.chosen[arm], seed)


class Search(Experiment):
    """The search of a tuned claim: an arm for each arm and each rate.

    Its results do not depend on `rates` and `chosen`, so that a claim may try one more rate, or choose another.
    """

    measuring = "measure_at"

    def __init__(self, claim: TunedClaim) -> None:
        self.claim = claim
        self.name = f"{claim.name}-search"
        self.measures = {claim.score: claim.measures[claim.score]}
        self._trained = {f"{arm}, rate {rate:g}": (arm, rate) for arm in claim.arms for rate in claim.rates}
        self.arms = {
            name: f"{claim.arms[arm]}, trained with the rate {rate:g}" for name, (arm, rate) in self._trained.items()
        }

    def measure(self, arm: str, seed: int) -> Measurement:
        found = self.claim.measure_at(*self._trained[arm], seed)
        return Measurement({self.claim.score: found.values[self.claim.score]})  # all that a search compares

    def shares(self, arm: str, seed: int) -> Hashable:
        return arm, self.claim.shares(self._trained[arm][0], seed)

    def data(self) -> Mapping[str, str]:
        return self.claim.data()

    def measured_by(self) -> type:
        return type(self.claim)

    def __reduce__(self) -> tuple[Callable[..., Search], tuple[TunedClaim | ClaimFile]]:
        return _search_of, (file_of(type(self.claim)) or self.claim,)  # to a worker, a file is sent as its text

    def table(self, results: Results) -> list[Found]:
        """What each arm reached with each rate, as far as there are results, and which rate was the best."""
        scores = {
            trained: median(values).estimate
            for name, trained in self._trained.items()
            if len(values := results.values(name, self.claim.score))
        }
        sign = 1 if self.measures[self.claim.score].better == "lower" else -1
        rows = []
        for arm in self.claim.arms:
            tried = {rate: scores[arm, rate] for rate in self.claim.rates if (arm, rate) in scores}
            best = min(tried, key=lambda rate: sign * tried[rate], default=None)
            rows.append(Found(arm, tried, best, self.claim.chosen[arm]))
        return rows


def _search_of(claim: TunedClaim | ClaimFile) -> Search:
    given = opened(claim) if isinstance(claim, ClaimFile) else claim
    assert isinstance(given, TunedClaim)
    return Search(given)


def searched(claim: Claim, store: Store) -> list[Found]:
    """What a claim's search found, as far as the store has results of it; empty for a claim without a search."""
    if not isinstance(claim, TunedClaim):
        return []
    search = Search(claim)
    found = search.table(store.results(search, SEEDS, FIRST_SEED))
    return found if any(each.scores for each in found) else []


@dataclass(frozen=True)
class Found:
    """The median score of an arm for each rate that was tried, the best of these rates, and the rate that it has."""

    arm: str
    scores: Mapping[float, float]
    best: float | None
    chosen: float
