"""The verdict on a claim: each of its parts is compared with its threshold.

A part is decided if its whole interval lies on one side of the threshold and its p-value, after Holm's correction for
the number of parts, is at most 5 %. So the probability that a verdict has any wrong word is at most 5 %. A part on an
identity is exact: it holds if every run meets the threshold, needs no correction, and adds nothing to that of others.

supported     every part holds
refuted       every part fails
mixed         some hold and some fail: the sentence says which
inconclusive  some parts are undecided and the others agree, there are too few seeds, or the control did not fail
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from limelight.experiment.statistics import Interval, holm

Outcome = Literal["supported", "refuted", "mixed", "inconclusive"]
LEAST_SEEDS = 10
FAMILY_ERROR = 0.05  # the largest probability that any part of a claim is decided wrongly
_FEW = 5  # parts of one kind that the verdict's sentence names; of more it gives the number


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
    p: float | None = None  # the p-value of equality with the threshold, corrected for the number of parts

    @property
    def outcome(self) -> Literal["holds", "fails", "undecided"]:
        """`holds` or `fails` if the effect is on one side of the threshold beyond doubt, else `undecided`."""
        low, high = self.effect.low - self.threshold, self.effect.high - self.threshold
        if self.expects == "at most":
            low, high = -high, -low
        if self.effect.summary == "exact" and self.effect.n:
            return "holds" if low >= 0 else "fails"
        if self.p is not None and self.p > FAMILY_ERROR:
            return "undecided"
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
    is_judged: bool = True  # False if too few seeds, the control or an error forbids any conclusion

    @property
    def holding(self) -> int:
        """The number of parts that hold."""
        return sum(part.outcome == "holds" for part in self.parts)

    @classmethod
    def of(cls, parts: Sequence[Part], control: Part) -> Verdict:
        """The verdict on these parts; inconclusive if the control, which is expected to fail, does not fail."""
        corrected = _corrected(parts)
        reason = _why_not_judged(parts, control)
        if reason:
            return cls("inconclusive", reason, corrected, control, is_judged=False)
        outcome, sentence = _decide(corrected)
        return cls(outcome, sentence, corrected, control)


def _corrected(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts with their p-values after Holm's correction, which exact parts and parts without runs do not have."""
    sampled = [part.effect.summary != "exact" and part.effect.n > 0 for part in parts]
    p_values = [part.effect.p_value(part.threshold) for part, has in zip(parts, sampled, strict=True) if has]
    corrected = iter(holm(p_values))
    return tuple(replace(part, p=next(corrected)) if has else part for part, has in zip(parts, sampled, strict=True))


def _why_not_judged(parts: Sequence[Part], control: Part) -> str:
    seeds = min(part.effect.n for part in (*parts, control))
    if seeds < LEAST_SEEDS:
        return f"Too few seeds to judge: {seeds} of at least {LEAST_SEEDS}."
    if control.outcome != "fails":
        passed = "passed" if control.outcome == "holds" else "did not clearly fail"
        return f"The control {passed}, so the test cannot tell: {control.description}."
    return ""


def _decide(parts: Sequence[Part]) -> tuple[Outcome, str]:
    by = {
        kind: [part.description for part in parts if part.outcome == kind] for kind in ("holds", "fails", "undecided")
    }
    sentences = _listed(by, len(parts))
    if by["holds"] and by["fails"]:
        return "mixed", " ".join(sentences)
    if by["undecided"]:
        return "inconclusive", " ".join(sentences)
    return ("supported" if by["holds"] else "refuted"), " ".join(sentences)


def _listed(by: dict[str, list[str]], total: int) -> list[str]:
    """What holds, what does not, and what is undecided; of more than `_FEW` parts of one kind only the number."""
    return [
        f"{heading}: {'; '.join(by[kind])}."
        if len(by[kind]) <= _FEW
        else f"{heading}: {len(by[kind])} of {total} parts."
        for kind, heading in (
            ("holds", "Holds"),
            ("fails", "Does not hold"),
            ("undecided", "Undecided"),
        )
        if by[kind]
    ]
