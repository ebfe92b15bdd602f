"""A claim: a statement, the arms that are compared, what is measured, and how the results are judged.

A claim is one file in `limelight/claims` that can be read from top to bottom: question, arms, measurement,
judgment. Its thresholds are in `judge`, and were written before any result was seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from limelight.errors import UnknownNameError
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Verdict

if TYPE_CHECKING:  # Plotly takes as long to import as all that the command line needs
    from plotly.graph_objects import Figure


class Picture:
    """One figure or several side by side, and the sentence that says what they show."""

    def __init__(self, caption: str, *figures: Figure) -> None:
        self.caption, self.figures = caption, figures


class Experiment(ABC):
    """Trials of several arms, each of which is measured on many seeds."""

    name: str  # of a claim, the name of its module; also the name on the command line and of the folder of results
    arms: Mapping[str, str]  # what is compared: the name of each arm, and a short description
    measures: Mapping[str, Measure]
    measuring: ClassVar[str] = "measure"  # the method whose code measures, in the class that `measured_by` returns

    @abstractmethod
    def measure(self, arm: str, seed: int) -> Measurement:
        """One trial: train and measure `arm` on the data of `seed`. Arms of one seed share their data."""

    def shares(self, arm: str, seed: int) -> Hashable:
        """A value that is the same for trials that share what they compute, such as the training of one network.

        One worker measures these one after another, so that what it keeps for the first serves the others. By default
        no two trials share anything.
        """
        return arm, seed

    def data(self) -> Mapping[str, str]:
        """Fingerprints of the data sets that are loaded from files. They are part of a result's name."""
        return {}

    def missing(self) -> str:
        """What the measurement needs and is not installed, and how to install it; empty if it can run."""
        return ""

    def measured_by(self) -> type:
        """The class whose code measures, which is part of a result's name."""
        return type(self)

    def require_arm(self, arm: str) -> None:
        """Raise `UnknownNameError` for an arm that the experiment does not have."""
        if arm not in self.arms:
            raise UnknownNameError(f"arm of {self.name}", arm, self.arms)


class Claim(Experiment):
    """A statement put to the test.

    >>> from limelight.experiment.catalog import claim
    >>> slopes = claim('slopes')
    >>> list(slopes.arms)[:2], slopes.control
    (['gate of five', 'gate of ten'], 'one line')
    >>> [(part.expects, part.threshold) for part in slopes.expected().parts][:3]
    [('at least', 0.6), ('at most', 0.5), ('at most', 0.5)]
    """

    title: ClassVar[str]  # the statement
    question: ClassVar[str]  # the question that the claim answers, in a paragraph
    source: ClassVar[str]  # the publication that makes the statement
    control: ClassVar[str]  # the arm that is expected to fail

    @abstractmethod
    def judge(self, results: Results) -> Verdict:
        """The verdict, by thresholds that are written here. It must also work without results, for `expected`."""

    def finding(self, results: Results) -> str:
        """What was found, in one plain sentence with its numbers; if empty, the verdict's own sentence is shown."""
        return ""

    @abstractmethod
    def figures(self, results: Results) -> Sequence[Picture]:
        """The pictures of the results, each with its caption. The first one shows the finding."""

    def verdict(self, results: Results) -> Verdict | None:
        """The verdict on these results, or None if there is no seed for which every arm has a result.

        It is inconclusive if any trial raised an error.
        """
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
        return Verdict("inconclusive", reason + first.reason, found.parts, found.control, is_judged=False)

    def expected(self) -> Verdict:
        """The judgment without any results: its parts and its control have their thresholds, but no effects."""
        return self.judge(Results(self.arms, self.measures, ()))
