"""An effect with its interval and its threshold as a bar drawn in SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from limelight.experiment.verdict import Part
from limelight.report.effect_text import alt_text

_WIDTH, _HEIGHT, _MARGIN = 180, 26, 10


@dataclass(frozen=True)
class BarLayout:
    """Positions along a bar, as shares of its width; `expected` is the range on the expected side of the threshold."""

    low: float
    high: float
    estimate: float | None  # None if the estimate is not defined
    threshold: float
    expected: tuple[float, float]


def bar_layout(part: Part) -> BarLayout:
    """The positions on a part's bar, which spans all finite values of the part; logarithmic if the unit is "times"."""
    effect, ratio = part.effect, part.unit.startswith("times")
    known = [x for x in (effect.estimate, effect.low, effect.high, part.threshold) if math.isfinite(x)]
    if ratio:
        known = [math.log(x) for x in known if x > 0]
    low, high = min(known), max(known)
    reach = max(high - low, 1e-9)
    low, high = low - 0.1 * reach, high + 0.1 * reach

    def place(value: float) -> float:
        if ratio:
            value = math.log(value) if value > 0 else -math.inf
        share = (min(max(value, low), high) - low) / (high - low)
        return (_MARGIN + share * (_WIDTH - 2 * _MARGIN)) / _WIDTH

    threshold = place(part.threshold)
    return BarLayout(
        place(effect.low),
        place(effect.high),
        None if math.isnan(effect.estimate) else place(effect.estimate),
        threshold,
        (threshold, 1.0) if part.expects == "at least" else (0.0, threshold),
    )


def bar(part: Part) -> Markup:
    """The interval as a line with its estimate as a dot; the side of the threshold that was expected is shaded."""
    at = bar_layout(part)
    start, end = (_WIDTH * share for share in at.expected)
    threshold, low, high = _WIDTH * at.threshold, _WIDTH * at.low, _WIDTH * at.high
    dot = "" if at.estimate is None else f'<circle cx="{_WIDTH * at.estimate:.1f}" cy="13" r="4"/>'
    return Markup(
        f'<svg class="bar {part.outcome}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{alt_text(part)}">'
        f'<rect class="expected" x="{start:.1f}" y="0" width="{end - start:.1f}" height="{_HEIGHT}"/>'
        f'<line class="threshold" x1="{threshold:.1f}" x2="{threshold:.1f}" y1="0" y2="{_HEIGHT}"/>'
        f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="13" y2="13"/>'
        f"{dot}</svg>"
    )
