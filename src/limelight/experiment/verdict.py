"""The verdict on a claim: each of its parts is compared with its threshold.

supported     every part holds
refuted       every part fails
mixed         some hold and some fail: the sentence says which
inconclusive  some parts are undecided and the others agree, there are too few seeds, or the control did not fail
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from limelight.experiment.statistics import Interval

Outcome = Literal["supported", "refuted", "mixed", "inconclusive"]
LEAST_SEEDS = 10
_FEW = 5  # up to so many parts the verdict's sentence names each; of more parts it gives the numbers
_IN_WORDS = {"holds": "holds", "fails": "does not hold", "undecided": "is undecided"}


@dataclass(frozen=True)
class Part:
    """One part of a claim: an effect that is expected to be at least, or at most, a threshold.

    >>> from limelight.experiment.statistics import Interval
    >>> from limelight.experiment.verdict import Part
    >>> Part('the error halves', Interval(0.3, 0.2, 0.4, n=10), 'at most', 0.5).outcome
    'holds'
    """

    description: str
    effect: Interval
    expects: Literal["at least", "at most"]
    threshold: float
    unit: str = ""

    @property
    def outcome(self) -> Literal["holds", "fails", "undecided"]:
        """`holds` or `fails` if the whole interval lies on one side of the threshold, else `undecided`."""
        low, high = self.effect.low - self.threshold, self.effect.high - self.threshold
        if self.expects == "at most":
            low, high = -high, -low
        return "holds" if low >= 0 else "fails" if high < 0 else "undecided"


@dataclass(frozen=True)
class Verdict:
    """The outcome in one word and one sentence, and the parts that it follows from, the main one first.

    >>> from limelight.experiment.statistics import Interval
    >>> from limelight.experiment.verdict import Part, Verdict
    >>> part = Part('the error halves', Interval(0.3, 0.2, 0.4, n=10), 'at most', 0.5)
    >>> control = Part('guessing halves it', Interval(1.0, 0.9, 1.1, n=10), 'at most', 0.5)
    >>> Verdict.of([part], control).outcome
    'supported'
    """

    outcome: Outcome
    sentence: str
    parts: Sequence[Part]
    control: Part

    @property
    def holding(self) -> int:
        """The number of parts that hold."""
        return sum(part.outcome == "holds" for part in self.parts)

    @classmethod
    def of(cls, parts: Sequence[Part], control: Part) -> Verdict:
        """The verdict on these parts; inconclusive if the control, which is expected to fail, does not fail."""
        outcome, sentence = _decide(parts, control)
        return cls(outcome, sentence, tuple(parts), control)


def _decide(parts: Sequence[Part], control: Part) -> tuple[Outcome, str]:
    seeds = min(part.effect.n for part in (*parts, control))
    if seeds < LEAST_SEEDS:
        return "inconclusive", f"Too few seeds to judge: {seeds} of at least {LEAST_SEEDS}."
    if control.outcome != "fails":
        passed = "passed" if control.outcome == "holds" else "did not clearly fail"
        return "inconclusive", f"The control {passed}, so the test cannot tell: {control.description}."
    by = {
        kind: [part.description for part in parts if part.outcome == kind] for kind in ("holds", "fails", "undecided")
    }
    if len(parts) > _FEW:
        sentences = [
            f"Of {len(parts)} parts {len(by['holds'])} hold, {len(by['fails'])} do not, and {len(by['undecided'])} are "
            f"undecided; the main one, that {parts[0].description}, {_IN_WORDS[parts[0].outcome]}."
        ]
    else:
        sentences = _listed(by)
    if by["holds"] and by["fails"]:
        return "mixed", " ".join(sentences)
    if by["undecided"]:
        return "inconclusive", " ".join(sentences)
    return ("supported" if by["holds"] else "refuted"), " ".join(sentences)


def _listed(by: dict[str, list[str]]) -> list[str]:
    return [
        f"{heading}: {'; '.join(by[kind])}."
        for kind, heading in (
            ("holds", "It holds that"),
            ("fails", "It does not hold that"),
            ("undecided", "Undecided"),
        )
        if by[kind]
    ]
