"""What each arm of a claim reached with each learning rate that all arms tried, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from plotly.graph_objects import Figure, Scatter

from limelight.experiment.search import Found, TunedClaim
from limelight.figures.theme import colors, styled


def sensitivity(claim: TunedClaim, found: Sequence[Found]) -> Figure:
    """The score of each arm by rate; the rate that it has is marked by a larger dot."""
    figure, color, score = Figure(), colors([each.arm for each in found]), claim.measures[claim.score]
    for each in found:
        tried = sorted(each.scores)
        figure.add_trace(
            Scatter(
                x=tried, y=[each.scores[rate] for rate in tried], name=each.arm, mode="lines+markers",
                line={"color": color[each.arm]},
                marker={"size": [13 if rate == each.chosen else 7 for rate in tried], "color": color[each.arm]},
            )
        )  # fmt: skip
    figure.update_xaxes(
        title="learning rate", type="log", tickvals=list(claim.rates), ticktext=[f"{r:g}" for r in claim.rates]
    )
    figure.update_yaxes(title=score.unit)
    return styled(figure, 380, score.description)
