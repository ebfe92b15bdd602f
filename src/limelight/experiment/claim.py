"""What is a claim? A statement, who competes over it, what is measured, and how that is judged.

A claim is one file in `limelight/claims` that reads as a page: question, competitors, measurement,
judgment. Its thresholds stand in `judge`, written before any result is seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from plotly.graph_objects import Figure

from limelight.errors import UnknownNameError
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Verdict


class Picture:
    """One figure or several side by side, and the sentence that says what they show."""

    def __init__(self, caption: str, *figures: Figure) -> None:
        self.caption, self.figures = caption, figures


class Claim(ABC):
    """A statement put to the test.

    >>> from limelight.experiment.catalog import claim
    >>> slopes = claim('slopes')
    >>> list(slopes.arms)
    ['gate', 'relu, equal', 'relu, ten times', 'one line']
    >>> [(part.expects, part.threshold) for part in slopes.expected().parts]
    [('at most', 0.5), ('at most', 1.0), ('at most', 0.5), ('at most', 0.2)]
    """

    name: ClassVar[str]  # as on the command line: the name of its module
    title: ClassVar[str]  # the statement
    question: ClassVar[str]  # what a reader wants to know, in a paragraph
    source: ClassVar[str]  # who says so
    arms: ClassVar[Mapping[str, str]]  # who competes: name → in a few words
    control: ClassVar[str]  # the arm that ought to fail
    measures: ClassVar[Mapping[str, Measure]]

    @abstractmethod
    def measure(self, arm: str, seed: int) -> Measurement:
        """One trial: train and measure `arm` on the data of `seed`. Arms of one seed share their data."""

    @abstractmethod
    def judge(self, results: Results) -> Verdict:
        """The verdict, by thresholds that stand here. It must also work on no results, as `expected` needs it."""

    @abstractmethod
    def figures(self, results: Results) -> Sequence[Picture]:
        """What to look at."""

    def data(self) -> Mapping[str, str]:
        """Fingerprints of the data sets that are loaded rather than drawn: they are part of a result's name."""
        return {}

    def verdict(self, results: Results) -> Verdict | None:
        """The verdict on what there is; None before every arm has a seed in common. A fault anywhere: inconclusive."""
        if not results.seeds():
            return None
        faults = [record for record in results.records if record.status == "error"]
        found = self.judge(results)
        if not faults:
            return found
        first = faults[0]
        reason = (
            f"{len(faults)} trials raised an error, so nothing is concluded; first {first.arm}, seed {first.seed}: "
        )
        return Verdict("inconclusive", reason + first.reason, found.parts, found.control)

    def expected(self) -> Verdict:
        """The judgment on no results at all: its parts and its control hold the thresholds, and no effect."""
        return self.judge(Results(self.arms, self.measures, ()))

    def require_arm(self, arm: str) -> None:
        """Raise `UnknownNameError` for an arm that does not compete."""
        if arm not in self.arms:
            raise UnknownNameError(f"arm of {self.name}", arm, self.arms)
