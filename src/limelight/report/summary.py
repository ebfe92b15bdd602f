"""What `list` and `show` tell of a claim, as plain data: it can be kept, and told again without importing the claim."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from limelight.experiment.claim import Claim
from limelight.experiment.claim_file import address
from limelight.experiment.statistics import Interval
from limelight.experiment.verdict import Outcome, Part
from limelight.report.entry import Entry


@dataclass(frozen=True)
class Told:
    """The verdict on a claim, and what it rests on."""

    outcome: Outcome
    finding: str
    sentence: str
    seeds: int
    command: str
    failures: Sequence[Mapping[str, Any]]  # the trials that diverged or raised an error


@dataclass(frozen=True)
class Summary:
    """A claim, and its verdict if it has one. Without one its parts and its control have thresholds but no effects."""

    name: str
    title: str
    question: str
    source: str
    file: str
    address: str
    control: str
    arms: Mapping[str, str]
    measures: Mapping[str, tuple[str, str]]  # the description and the unit of each
    parts: Sequence[Part]
    control_part: Part
    verdict: Told | None

    @classmethod
    def of(cls, claim: Claim, entry: Entry | None) -> Summary:
        """The summary of a claim with its entry, which is None where there is no verdict."""
        judged = claim.expected() if entry is None else entry.verdict
        return cls(
            claim.name, claim.title, claim.question, claim.source, inspect.getsourcefile(type(claim)) or "",
            address(claim), claim.control, dict(claim.arms),
            {name: (measure.description, measure.unit) for name, measure in claim.measures.items()},
            list(judged.parts), judged.control, None if entry is None else _told(entry),
        )  # fmt: skip

    def as_text(self) -> str:
        """The summary as JSON, of which `of_text` is the inverse."""
        parts = [_plain(part) for part in (*self.parts, self.control_part)]
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        told = None if self.verdict is None else asdict(self.verdict)
        return json.dumps({**given, "parts": parts[:-1], "control_part": parts[-1], "verdict": told})

    @classmethod
    def of_text(cls, text: str) -> Summary:
        """The summary that was written by `as_text`."""
        given = json.loads(text)
        parts = [_part(part) for part in (*given["parts"], given["control_part"])]
        told = None if given["verdict"] is None else Told(**given["verdict"])
        measures = {name: (description, unit) for name, (description, unit) in given["measures"].items()}
        return cls(**{**given, "measures": measures, "parts": parts[:-1], "control_part": parts[-1], "verdict": told})


def _told(entry: Entry) -> Told:
    failures = [
        {"arm": record.arm, "seed": record.seed, "status": record.status, "reason": record.reason}
        for record in entry.results.failures
    ]
    verdict = entry.verdict
    return Told(verdict.outcome, entry.finding, verdict.sentence, entry.seeds, entry.command, failures)


def _plain(part: Part) -> dict[str, Any]:
    effect = part.effect
    numbers = [*map(float, (effect.estimate, effect.low, effect.high)), effect.n, effect.summary]
    return {**{field.name: getattr(part, field.name) for field in fields(part)}, "effect": numbers}


def _part(given: Mapping[str, Any]) -> Part:
    return Part(**{**given, "effect": Interval(*given["effect"])})
