"""A claim with its results and the verdict on them, which the report and the terminal show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limelight.experiment.claim import Claim
from limelight.experiment.claim_file import address
from limelight.experiment.results import Results
from limelight.experiment.search import Found
from limelight.experiment.verdict import Verdict


@dataclass(frozen=True)
class Entry:
    """A claim with its results and the verdict on them."""

    claim: Claim
    results: Results
    verdict: Verdict
    search: Sequence[Found] = ()  # what every arm reached with each learning rate, if that was searched

    @property
    def seeds(self) -> int:
        return len(self.results.seeds())

    @property
    def finding(self) -> str:
        """What was found, in one plain sentence."""
        return (self.claim.finding(self.results) if self.verdict.is_judged else "") or self.verdict.sentence

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        return f"limelight run {address(self.claim)} --seeds {self.seeds}"

    @property
    def machines(self) -> str:
        """The processors that computed the results."""
        return " and ".join(sorted({record.machine for record in self.results.records} - {""}))

    @property
    def seconds(self) -> float:
        return sum(record.seconds for record in self.results.records)
