"""How networks learn beside each other: accuracy against the images that they have seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.figures.theme import COLORS, NEUTRAL, styled

AHEAD = 10_000  # images, for which there is room from the beginning
FEW = 12  # points of a curve, up to which each is marked


def accuracies(
    seen: np.ndarray,
    tested: Mapping[str, np.ndarray],
    trained: Mapping[str, np.ndarray] | None = None,
    chance: float | None = None,
    log_x: bool = False,
) -> Figure:
    """A curve (points,) for each network: solid on unseen images, and dotted on those that it was trained on.

    Traces are those of `tested`, then those of `trained`, each in its own order, then a line at `chance`, as long as
    `reach` says. A logarithmic axis leaves out 0.
    """
    figure = Figure()
    for i, (name, values) in enumerate(tested.items()):
        figure.add_trace(
            Scatter(
                x=seen, y=values, name=name, mode=mode(seen), line={"color": COLORS[i % len(COLORS)], "width": 2.5},
                hovertemplate="%{y:.2f}", cliponaxis=False,
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
                x=reach(seen), y=[chance] * 2, text=["", "chance"], textposition="bottom left", mode="lines+text",
                line={"color": NEUTRAL, "width": 1.5, "dash": "dash"}, showlegend=False, hoverinfo="skip",
            )
        )  # fmt: skip
    if trained:
        dotted = {"color": NEUTRAL, "width": 1.5, "dash": "dot"}
        figure.add_trace(Scatter(x=[None], y=[None], name="training images", mode="lines", line=dotted))
    figure.update_xaxes(title="images seen", **({"type": "log", "dtick": 1} if log_x else {"rangemode": "tozero"}))
    figure.update_yaxes(title="accuracy", range=[0, 1.03], dtick=0.2, tickformat=".1f")
    return styled(figure, 380, hovermode="x unified")


def mode(seen: np.ndarray) -> str:
    """How a curve of so many points is drawn: few of them are marked, else a first one would not be seen."""
    return "lines+markers" if len(seen) <= FEW else "lines"


def reach(seen: np.ndarray) -> np.ndarray:
    """Where the line of chance begins and ends: with the curves, and at first some way ahead of them."""
    return np.array([min((at for at in seen if at > 0), default=10), max(float(seen[-1]), AHEAD)])
