"""Clouds of points in a plane, each over the same reference cloud."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.figures.theme import COLORS, NEUTRAL, styled


def point_panels(
    series: Mapping[str, np.ndarray | None], reference: np.ndarray | None, x: str, y: str
) -> tuple[Figure, ...]:
    """A figure for each set of points (n, 2), over the points of the reference in gray; all have the same axes."""
    present = {name: np.asarray(points) for name, points in series.items() if points is not None}
    below = np.zeros((0, 2)) if reference is None else np.asarray(reference)
    reach = 1.05 * max((float(np.abs(points).max()) for points in (below, *present.values()) if len(points)), default=1)
    return tuple(_cloud(name, points, below, reach, x, y, i) for i, (name, points) in enumerate(present.items()))


def _cloud(name: str, points: np.ndarray, below: np.ndarray, reach: float, x: str, y: str, place: int) -> Figure:
    figure = Figure()
    for shown, color, size in ((below, NEUTRAL, 8), (points, COLORS[place % len(COLORS)], 5)):
        figure.add_trace(
            Scatter(
                x=shown[:, 0], y=shown[:, 1], mode="markers", hoverinfo="skip", showlegend=False,
                marker={"size": size, "color": color, "opacity": 0.6 if shown is points else 0.35},
            )
        )  # fmt: skip
    figure.update_xaxes(title=x, range=[-reach, reach], constrain="domain")
    figure.update_yaxes(title=y, range=[-reach, reach], constrain="domain", scaleanchor="x")
    return styled(figure, 330, name)
