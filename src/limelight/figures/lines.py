"""Lines: a quantity against steps, sizes or a coordinate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.figures.theme import COLORS, decades, strokes, styled, translucent


def curves(
    series: Mapping[str, np.ndarray],
    at: int | Sequence[float],
    x: str,
    y: str,
    log: bool = False,
    log_x: bool = False,
) -> Figure:
    """For each arm, the median over seeds and a band from the lower to the upper quartile.

    series: arm → values (seeds, points); at: the x of each point, or, if an integer, the distance between two points.
    """
    figure, stroke = Figure(), strokes(series)
    shown: list[float] = []
    for arm, values in series.items():
        if values.size == 0:
            continue
        across = np.arange(values.shape[1]) * at if isinstance(at, int) else np.asarray(at, dtype=float)
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        shown += [*low[low > 0], *high[high > 0]]
        figure.add_trace(
            Scatter(
                x=np.concatenate([across, across[::-1]]),
                y=np.concatenate([high, low[::-1]]),
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=translucent(stroke[arm]["color"], 0.18),
                hoverinfo="skip",
                showlegend=False,
                legendgroup=arm,
            )
        )
        mode = "lines" if len(across) > 10 else "lines+markers"
        figure.add_trace(
            Scatter(x=across, y=middle, name=arm, mode=mode, line={"width": 2, **stroke[arm]}, legendgroup=arm)
        )
    figure.update_xaxes(title=x, type="log" if log_x else "linear")
    if log_x:
        figure.update_xaxes(tickvals=list(across), tickformat="d")
    scale = decades(min(shown, default=1.0), max(shown, default=1.0)) if log else {}
    figure.update_yaxes(title=y, **{"exponentformat": "power", **scale})
    return styled(figure, 380, hovermode="x unified")


def stacked_area(at: np.ndarray, weights: np.ndarray | None, part: str, x: str, y: str) -> Figure:
    """Weights (points, parts) that sum to one at each point, as areas stacked on each other."""
    figure = Figure()
    for i, column in enumerate(() if weights is None else np.asarray(weights).T):
        color = COLORS[i % len(COLORS)]
        figure.add_trace(
            Scatter(
                x=at, y=column, name=f"{part} {i + 1}", stackgroup="one", line={"width": 0.5, "color": color},
                fillcolor=translucent(color, 0.75),
            )
        )  # fmt: skip
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y, range=[0, 1])
    figure.layout.legend.traceorder = "normal"  # for stacked areas Plotly's default is the reversed order
    return styled(figure, 320, hovermode="x unified")
