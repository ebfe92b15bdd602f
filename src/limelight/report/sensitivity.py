"""What each arm of a claim reached with each learning rate that all arms tried, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plotly.graph_objects import Figure, Scatter

from limelight.experiment.search import Found, TunedClaim
from limelight.figures.theme import decades, strokes, styled


def sensitivity(claim: TunedClaim, found: Sequence[Found]) -> Figure:
    """The score of each arm by rate; the rate that it has is marked by a larger dot."""
    figure, stroke, score = Figure(), strokes([each.arm for each in found]), claim.measures[claim.score]
    for each in found:
        tried, line = sorted(each.scores), stroke[each.arm]
        figure.add_trace(
            Scatter(
                x=tried, y=[each.scores[rate] for rate in tried], name=each.arm, mode="lines+markers",
                line=line,
                marker={"size": [13 if rate == each.chosen else 7 for rate in tried], "color": line["color"]},
            )
        )  # fmt: skip
    figure.update_xaxes(
        title="learning rate", type="log", tickvals=list(claim.rates), ticktext=[f"{r:g}" for r in claim.rates]
    )
    reached = [value for each in found for value in each.scores.values()]
    figure.update_yaxes(title=score.unit, **(_scale(reached) if score.better == "lower" else {}))
    return styled(figure, 320 + 20 * math.ceil(len(found) / 3), score.description)


def _scale(scores: Sequence[float]) -> dict[str, object]:
    """A logarithmic axis for losses that are positive and span more than two powers of ten."""
    finite = [score for score in scores if math.isfinite(score)]
    wide = bool(finite) and min(finite) > 0 and max(finite) > 100 * min(finite)
    return decades(min(finite), max(finite)) if wide else {}
