"""What each arm of a claim reached with each learning rate that all arms tried, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from limelight.experiment.search import Found, TunedClaim
from limelight.report import terminal
from limelight.report.effect_text import number


def rows(claim: TunedClaim, found: Sequence[Found]) -> list[list[str]]:
    """A row for each arm: its name, its score with each rate (the best marked by a star), and the rate that it has."""
    return [
        [
            each.arm,
            *(f"{_score(each, rate)}{' *' if rate == each.best else ''}" for rate in claim.rates),
            f"{each.chosen:g}",
        ]
        for each in found
    ]


def headings(claim: TunedClaim) -> list[str]:
    return ["arm", *(f"rate {rate:g}" for rate in claim.rates), "chosen"]


def show(claim: TunedClaim, found: Sequence[Found]) -> None:
    """Print the table, and the arms whose rate is not the best that was tried."""
    page = terminal.Page()
    page.say((f"{claim.measures[claim.score].description}, the median over the seeds of the search\n", "bold"))
    page.rows(dict.fromkeys(headings(claim), False), [[page.text(cell) for cell in row] for row in rows(claim, found)])
    others = [each.arm for each in found if each.best is not None and each.best != each.chosen]
    page.say(
        "\n* the best rate of an arm. ", f"These arms have another: {', '.join(others)}." if others else "All have it."
    )


def as_json(claim: TunedClaim, found: Sequence[Found]) -> dict[str, Any]:
    """The table as plain data."""
    return {
        "claim": claim.name,
        "score": claim.score,
        "arms": {
            each.arm: {"scores": {f"{rate:g}": each.scores.get(rate) for rate in claim.rates}, "chosen": each.chosen}
            for each in found
        },
    }


def _score(found: Found, rate: float) -> str:
    return number(found.scores[rate]) if rate in found.scores else "not run"
