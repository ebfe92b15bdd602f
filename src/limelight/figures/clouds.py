"""Clouds of points in a plane, one beside the other on the same axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.figures.theme import COLORS, NEUTRAL, styled


def clouds(series: Mapping[str, np.ndarray | None], x: str, y: str) -> Figure:
    """Sets of points (n, 2) in one plane; the first, in gray, is what the others are compared with."""
    figure, color = Figure(), (NEUTRAL, *COLORS)
    present = {name: np.asarray(points) for name, points in series.items() if points is not None}
    for i, (name, points) in enumerate(present.items()):
        figure.add_trace(
            Scatter(
                x=points[:, 0], y=points[:, 1], name=name, mode="markers", hoverinfo="skip",
                marker={"size": 9 if i == 0 else 5, "color": color[i % len(color)], "opacity": 0.4 if i == 0 else 0.7},
            )
        )  # fmt: skip
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y, scaleanchor="x")
    return styled(figure, 460)
