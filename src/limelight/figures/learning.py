"""Learning curves of several networks: accuracy against the number of images that they have seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.figures.theme import COLORS, NEUTRAL, styled

AHEAD = 10_000  # the least number of images to which the line of chance extends
FEW = 12  # a curve of at most so many points is drawn with markers


def accuracies(
    seen: np.ndarray,
    tested: Mapping[str, np.ndarray],
    trained: Mapping[str, np.ndarray] | None = None,
    chance: float | None = None,
    log_x: bool = False,
) -> Figure:
    """A curve (points,) for each network: solid for unseen images, dotted for images that it was trained on.

    The traces are those of `tested`, then those of `trained`, each in its own order, then a line at `chance` with the
    ends that `chance_line` gives. A logarithmic axis leaves out 0.
    """
    figure = Figure()
    for i, (name, values) in enumerate(tested.items()):
        figure.add_trace(
            Scatter(
                x=seen, y=values, name=name, mode=line_mode(seen), hovertemplate="%{y:.2f}", cliponaxis=False,
                line={"color": COLORS[i % len(COLORS)], "width": 2.5},
            )
        )  # fmt: skip
    for i, (name, values) in enumerate((trained or {}).items()):
        figure.add_trace(
            Scatter(
                x=seen, y=values, name=f"{name}, training", mode="lines", showlegend=False, hovertemplate="%{y:.2f}",
                line={"color": COLORS[i % len(COLORS)], "width": 1.5, "dash": "dot"},
            )
        )  # fmt: skip
    if chance is not None:
        figure.add_trace(
            Scatter(
                x=chance_line(seen), y=[chance] * 2, text=["", "chance"], textposition="bottom left", mode="lines+text",
                line={"color": NEUTRAL, "width": 1.5, "dash": "dash"}, showlegend=False, hoverinfo="skip",
            )
        )  # fmt: skip
    if trained:
        dotted = {"color": NEUTRAL, "width": 1.5, "dash": "dot"}
        figure.add_trace(Scatter(x=[None], y=[None], name="training images", mode="lines", line=dotted))
    figure.update_xaxes(title="images seen", **({"type": "log", "dtick": 1} if log_x else {"rangemode": "tozero"}))
    figure.update_yaxes(title="accuracy", range=[0, 1.03], dtick=0.2, tickformat=".1f")
    return styled(figure, 380, hovermode="x unified")


def line_mode(seen: np.ndarray) -> str:
    """The mode of a curve's trace: with markers for few points, since a line of one point cannot be seen."""
    return "lines+markers" if len(seen) <= FEW else "lines"


def chance_line(seen: np.ndarray) -> np.ndarray:
    """The ends of the line of chance: the first positive point, and the last point or `AHEAD` if that is larger."""
    return np.array([min((at for at in seen if at > 0), default=10), max(float(seen[-1]), AHEAD)])
