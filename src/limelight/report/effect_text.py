"""An effect in words: what was estimated, its interval, and what was expected."""

from __future__ import annotations

import math

from limelight.experiment.statistics import CONFIDENCE
from limelight.experiment.verdict import Part

MARKS = {"holds": "✓", "fails": "✗", "undecided": "?"}
_CONTROL_FAILED = {"holds": "does not", "fails": "does", "undecided": "does not clearly"}


def expectation(part: Part) -> str:
    """The range that was expected of the effect before any result was seen, such as "at least 0.500"."""
    return f"{part.expects} {number(part.threshold)}"


def describe_control(part: Part) -> str:
    """The description of a control, and whether it failed, as it ought to."""
    return f"{part.description}: this ought to fail, and {_CONTROL_FAILED[part.outcome]}"


def number(value: float) -> str:
    """The value with three significant digits and a true minus sign: 0.0123, 12.3, 1.23e5 for 1.23 × 10⁵, −∞."""
    if math.isnan(value):
        return "not defined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{digits}f}".replace("-", "−")


HEADING = f"effect [{CONFIDENCE:.0%} interval]"


def estimate_text(part: Part) -> str:
    """The estimate: "0.290", "median 0.290", or "28 of 30 runs"."""
    effect = part.effect
    if effect.summary == "share" and effect.n:
        return f"{round(effect.estimate * effect.n)} of {effect.n} runs"
    return f"median {number(effect.estimate)}" if effect.summary == "median" else number(effect.estimate)


def interval_text(part: Part) -> str:
    """The interval in brackets; for an exact part the smallest and the largest of all values."""
    low, high = number(part.effect.low), number(part.effect.high)
    return f"(exact: {low} to {high} in {part.effect.n} runs)" if part.effect.summary == "exact" else f"[{low}, {high}]"


def effect_text(part: Part) -> str:
    """The estimate, its interval and its unit."""
    unit = "" if part.effect.summary == "share" else part.unit
    return f"{estimate_text(part)} {interval_text(part)} {unit}".rstrip()


def doubt_text(part: Part) -> str:
    """Why a part is undecided though its interval lies on one side of the threshold; empty for any other part."""
    clear = not part.effect.low <= part.threshold <= part.effect.high
    if part.outcome != "undecided" or not clear or part.p is None:
        return ""
    return f"p = {number(part.p)} after correction for the number of parts"


def alt_text(part: Part) -> str:
    """The effect and its interval, for screen readers."""
    effect = part.effect
    return f"{estimate_text(part)}, interval {number(effect.low)} to {number(effect.high)}"
