"""Numbers of the same texts before and after a change, and dots in rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.figures.theme import COLORS, NEUTRAL, styled


def before_and_after(before: np.ndarray, after: np.ndarray, y: str, change: str) -> Figure:
    """A thin line for each text from its number before to that after a change, and a thick one between the means."""
    figure = Figure()
    for number, ends in enumerate(zip(before, after, strict=True)):
        figure.add_trace(
            Scatter(x=[0, 1], y=ends, mode="lines+markers", line={"color": NEUTRAL, "width": 1}, marker={"size": 5},
                    opacity=0.6, name="one text", legendgroup="text", showlegend=number == 0,
                    hovertemplate=f"text {number}: %{{y:.3g}}<extra></extra>")
        )  # fmt: skip
    figure.add_trace(
        Scatter(x=[0, 1], y=[before.mean(), after.mean()], mode="lines+markers", name="mean",
                line={"color": COLORS[0], "width": 4}, marker={"size": 10},
                hovertemplate="mean: %{y:.3g}<extra></extra>")
    )  # fmt: skip
    figure.update_xaxes(tickvals=[0, 1], ticktext=["as it is", "changed"], range=[-0.25, 1.25])
    figure.update_yaxes(title=y)
    return styled(figure, 380, change)


def dot_rows(series: Mapping[str, np.ndarray], x: str) -> Figure:
    """A row for each name, with a dot for each text and a bar at the mean."""
    figure = Figure()
    for number, (name, values) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        figure.add_trace(
            Scatter(x=values, y=[name] * len(values), mode="markers", showlegend=False,
                    customdata=np.arange(len(values)),
                    marker={"color": color, "size": 8, "opacity": 0.5},
                    hovertemplate="text %{customdata}: %{x:.3g}<extra></extra>")
        )  # fmt: skip
        figure.add_trace(
            Scatter(x=[values.mean()], y=[name], mode="markers", showlegend=False,
                    marker={"size": 16, "symbol": "line-ns", "line": {"width": 3, "color": color}},
                    hovertemplate="mean: %{x:.3g}<extra></extra>")
        )  # fmt: skip
    figure.update_xaxes(title=x)
    figure.update_yaxes(autorange="reversed", ticks="")
    return styled(figure, 110 + 36 * len(series))


def scatter(x: np.ndarray, y: np.ndarray, x_title: str, y_title: str) -> Figure:
    """A dot for each pair of numbers."""
    marker = {"color": COLORS[0], "size": 7, "opacity": 0.6}
    dots = Scatter(
        x=x, y=y, mode="markers", marker=marker, showlegend=False, hovertemplate="%{x:.3g}, %{y:.3g}<extra></extra>"
    )
    figure = Figure(dots)
    figure.update_xaxes(title=x_title, nticks=5)
    figure.update_yaxes(title=y_title, nticks=5, exponentformat="power")
    return styled(figure, 300)
