"""Points in the plane that attend to one another: the weights of one point, the matrix, and sums over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from plotly.graph_objects import Bar, Figure, Scatter

from limelight.figures.grids import matrices
from limelight.figures.theme import COLORS, NEUTRAL, SCALE, styled, translucent

CHOSEN = COLORS[1]
# Shares of the largest weight at which a line becomes thicker. All lines of one Plotly trace have the same width, so
# each level has a trace of its own.
_LEVELS = (0.02, 0.06, 0.12, 0.25, 0.4, 0.6, 0.8)
_WIDTHS = (0.8, 1.2, 1.8, 2.6, 3.6, 4.8, 6.0)
_OPACITIES = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_MIXED = [[0.0, COLORS[1]], [0.5, "#bdbab4"], [1.0, COLORS[0]]]


@dataclass(frozen=True)
class PlaneScene:
    """The content of `plane`: points (n, 2) that attend to keys (n, 2), and the weights (n,) of one chosen point.

    `values` (n,) color the points, on a scale from `limits[0]` to `limits[1]`; `mixed` selects the scale for values
    between two labels. `trail` (times, n, 2) are earlier positions of the points. `labeled` are the indices of points
    with a label. `apart` is True if the keys have other positions than the points.
    """

    points: np.ndarray
    keys: np.ndarray
    weights: np.ndarray
    chosen: int
    values: np.ndarray
    value: str
    limits: tuple[float, float]
    mixed: bool = False
    trail: np.ndarray | None = None
    labeled: Sequence[int] = ()
    apart: bool = False


def plane(shown: PlaneScene, reach: float) -> Figure:
    """The points, and lines from the chosen one to its keys, thicker for larger weights. Axes span −reach to reach."""
    figure = Figure()
    for changes in plane_traces(shown):
        figure.add_trace(Scatter(**changes))
    axis = {"range": [-reach, reach], "constrain": "domain", "fixedrange": True, "dtick": 1}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis, scaleanchor="x")
    styled(figure, 480, dragmode=False, hovermode="closest", showlegend=False)
    return figure.update_layout(margin={"l": 34, "r": 14, "t": 56, "b": 30})


def plane_traces(shown: PlaneScene) -> list[dict[str, Any]]:
    """The attributes of each trace of `plane`, in order; with them a picture that is drawn already can be updated."""
    points, chosen = shown.points, shown.chosen
    text = {"mode": "lines", "hoverinfo": "skip"}
    lines: list[dict[str, Any]] = [
        {**_line_with_gaps(shown.trail), **text, "line": {"color": translucent(COLORS[5], 0.4), "width": 1}}
    ]
    for level, width, opacity in zip(_weight_lines(shown), _WIDTHS, _OPACITIES, strict=True):
        lines.append(
            {**_line_with_gaps(level), **text, "line": {"color": translucent(CHOSEN, opacity), "width": width}}
        )
    keys = shown.keys if shown.apart else shown.keys[:0]
    ring = {"size": 21, "color": "rgba(0,0,0,0)", "line": {"color": CHOSEN, "width": 3}}
    return [
        *lines,
        {**_at(keys), "mode": "markers", "hoverinfo": "skip",
         "marker": {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": NEUTRAL}}},
        {**_at(points), "mode": "markers", "meta": "points", "marker": _marker(shown),
         "customdata": np.arange(1, len(points) + 1),
         "hovertemplate": f"point %{{customdata}} at (%{{x:.2f}}, %{{y:.2f}})<br>{shown.value} %{{marker.color:.3g}}"
                          "<extra></extra>"},
        {**_at(points[[chosen]]), "mode": "markers", "hoverinfo": "skip", "meta": "chosen", "marker": ring},
    ]  # fmt: skip


def _marker(shown: PlaneScene) -> dict[str, Any]:
    labeled = set(shown.labeled)
    n = len(shown.points)
    low, high = shown.limits
    return {
        "color": shown.values.tolist(), "cmin": low, "cmax": high, "colorscale": _MIXED if shown.mixed else SCALE,
        "size": [17 if i in labeled else 13 for i in range(n)],
        "symbol": ["square" if i in labeled else "circle" for i in range(n)],
        "line": {"width": 1.3, "color": NEUTRAL},
        "colorbar": colorbar(shown.value),
    }  # fmt: skip


def colorbar(name: str) -> dict[str, Any]:
    """A color bar above the picture. At the side it would take a fifth of the width of a narrow picture."""
    return {
        "title": {"text": name, "side": "top", "font": {"size": 12}}, "orientation": "h", "thickness": 9, "len": 0.9,
        "x": 0.5, "yref": "container", "y": 0.99, "yanchor": "top", "ypad": 0, "outlinewidth": 0, "nticks": 6,
    }  # fmt: skip


def _at(points: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": points[:, 0], "y": points[:, 1]}


def _weight_lines(shown: PlaneScene) -> list[np.ndarray]:
    """For each level of weight, lines (2, lines, 2) from the chosen point to the keys with such a weight."""
    share = shown.weights / max(float(shown.weights.max()), 1e-30)
    which = np.digitize(share, _LEVELS) - 1  # weights below the first level get −1 and are not drawn
    start = shown.points[shown.chosen]
    ends = [shown.keys[which == level] for level in range(len(_LEVELS))]
    return [np.stack([np.broadcast_to(start, end.shape), end]) for end in ends]


def _line_with_gaps(paths: np.ndarray | None) -> dict[str, np.ndarray]:
    """Paths (times, n, 2) as one line, with NaN between two paths."""
    if paths is None or len(paths) < 2:
        return {"x": np.empty(0), "y": np.empty(0)}
    gap = np.full((1, *paths.shape[1:]), np.nan)
    path = np.concatenate([paths, gap]).transpose(1, 0, 2).reshape(-1, 2)
    return {"x": path[:, 0], "y": path[:, 1]}


def chosen_row(matrix: np.ndarray, chosen: int) -> Figure:
    """A matrix of weights with a frame around one of its rows."""
    (figure,) = matrices({"": matrix}, "key", "query", "weight")
    n = len(matrix)
    figure.add_trace(
        Scatter(
            x=[0.5, n + 0.5, n + 0.5, 0.5, 0.5], y=frame_heights(chosen), mode="lines", hoverinfo="skip",
            showlegend=False, line={"color": CHOSEN, "width": 2},
        )
    )  # fmt: skip
    figure.data[0].colorbar = colorbar("weight")
    figure.update_xaxes(fixedrange=True, range=[0.3, n + 0.7])
    figure.update_yaxes(fixedrange=True, range=[n + 0.7, 0.3], autorange=None)
    # With automargin the titles would overlap the numbers below a wide color bar.
    figure.for_each_xaxis(_without_automargin)
    figure.for_each_yaxis(_without_automargin)
    return figure.update_layout(dragmode=False, margin={"l": 48, "r": 14, "t": 56, "b": 52})


def _without_automargin(axis: Any) -> None:
    axis.automargin = False
    axis.title.standoff = None


def frame_heights(chosen: int) -> list[float]:
    """The y coordinates of the corners of the frame around a row."""
    return [chosen + 0.5, chosen + 0.5, chosen + 1.5, chosen + 1.5, chosen + 0.5]


def bars(values: np.ndarray, chosen: int, x: str, y: str, reference: float, name: str) -> Figure:
    """A bar for each point, the chosen one in another color, and a dashed line at a reference value."""
    n = len(values)
    figure = Figure(
        Bar(
            x=np.arange(1, n + 1), y=values, marker=bar_marker(n, chosen), showlegend=False,
            hovertemplate=f"{x} %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        Scatter(
            x=[0.5, n + 0.5], y=[reference, reference], mode="lines", name=name, hoverinfo="skip",
            line={"color": NEUTRAL, "width": 1.5, "dash": "dash"}, showlegend=True,
        )
    )  # fmt: skip
    figure.update_xaxes(title=x, showgrid=False, fixedrange=True, range=[0.3, n + 0.7])
    figure.update_yaxes(title=y, fixedrange=True, rangemode="tozero")
    return styled(figure, 260, dragmode=False, bargap=0.25)


def bar_marker(n: int, chosen: int) -> dict[str, Any]:
    """The colors of the bars."""
    return {"color": [CHOSEN if i == chosen else COLORS[0] for i in range(n)]}
