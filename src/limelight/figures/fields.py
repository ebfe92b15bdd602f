"""A vector field over a density: arrows on a heatmap."""

from __future__ import annotations

import numpy as np
from plotly.graph_objects import Figure, Heatmap, Scatter

from limelight.figures.theme import COLORS, SCALE, styled

_WING = 2.6  # radians between the direction of an arrow and each of the two lines of its head


def drift(
    axes: tuple[np.ndarray, np.ndarray],
    density: np.ndarray,
    at: np.ndarray,
    field: np.ndarray,
    names: tuple[str, str],
    longest: float,
    title: str = "",
) -> Figure:
    """Arrows `field` (n, 2) at the points `at` (n, 2), drawn over a density (len(y), len(x)).

    An arrow of length `longest` is drawn with length 0.4. Figures that are to be compared need the same `longest`.
    """
    x, y = axes
    figure = Figure(
        Heatmap(
            z=density, x=x, y=y, colorscale=SCALE, zmin=0,
            colorbar={"title": {"text": "density", "side": "right"}, "thickness": 10, "outlinewidth": 0},
            hovertemplate="density %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    ends = at + 0.4 * field / longest
    across, up = _arrows(at, ends)
    figure.add_trace(
        Scatter(
            x=across, y=up, mode="lines", line={"color": COLORS[1], "width": 1.5}, showlegend=False, hoverinfo="skip"
        )
    )
    figure.update_xaxes(title=names[0], showgrid=False, constrain="domain", range=[float(x.min()), float(x.max())])
    figure.update_yaxes(title=names[1], showgrid=False, scaleanchor="x", range=[float(y.min()), float(y.max())])
    return styled(figure, 380, title)


def _arrows(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shafts and wings of all arrows as one line, with NaN between two arrows."""
    along = end - start
    length, angle = np.hypot(*along.T), np.arctan2(along[:, 1], along[:, 0])
    wings = [
        end + 0.35 * length[:, None] * np.stack([np.cos(angle + turn), np.sin(angle + turn)], -1)
        for turn in (_WING, -_WING)
    ]
    gap = np.full_like(start, np.nan)
    path = np.stack([start, end, wings[0], end, wings[1], gap], 1)
    return path[..., 0].ravel(), path[..., 1].ravel()
