"""Points on a sphere that can be turned, with a slider over times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from plotly.graph_objects import Figure, Scatter3d

from limelight.figures.theme import SLIDER, colors, styled

_WIRE = "#9a9a9a"  # opaque: WebGL draws a translucent line in white on any background
_CAMERA = {"eye": {"x": 1.0, "y": -1.0, "z": 0.6}}


def spheres(series: Mapping[str, np.ndarray | None], times: Sequence[float]) -> tuple[Figure, ...]:
    """For each arm, a unit sphere with its points, and a slider over the times.

    series: arm → points (times, points, 3). The middle time is shown at first. The slider shows the trace of one time
    and hides the others, so the figure needs no animation frames.
    """
    color = colors(series)
    return tuple(
        _sphere(name, np.asarray(points), times, color[name]) for name, points in series.items() if points is not None
    )


def _sphere(name: str, points: np.ndarray, times: Sequence[float], color: str) -> Figure:
    figure, first = Figure(_wires()), len(times) // 2
    for i, (time, at) in enumerate(zip(times, points, strict=True)):
        x, y, z = at.T
        figure.add_trace(
            Scatter3d(
                x=x, y=y, z=z, mode="markers", showlegend=False, visible=i == first,
                marker={"size": 5, "color": color, "opacity": 0.75},
                hovertemplate=f"t = {time:g}: (%{{x:.2f}}, %{{y:.2f}}, %{{z:.2f}})<extra></extra>",
            )
        )  # fmt: skip
    steps = [
        {"label": f"{time:g}", "method": "restyle",
         "args": [{"visible": [True, *(other == i for other in range(len(times)))]}]}
        for i, time in enumerate(times)
    ]  # fmt: skip
    axis = {"visible": False, "range": [-1.05, 1.05]}
    styled(figure, 380, name, scene={"xaxis": axis, "yaxis": axis, "zaxis": axis, "camera": _CAMERA,
                                     "aspectmode": "cube"}, uirevision="camera")  # fmt: skip
    slider = {"active": first, "steps": steps, "currentvalue": {"prefix": "time t = "}, "pad": {"t": 4, "b": 4},
              "x": 0.06, "len": 0.88, **SLIDER}  # fmt: skip
    return figure.update_layout(margin={"l": 0, "r": 0, "t": 30, "b": 16}, sliders=[slider])


def _wires() -> Scatter3d:
    """Circles of latitude and longitude in one trace, with gaps between them."""
    turn = np.linspace(0, 2 * np.pi, 61)
    parallels = [
        np.stack([np.cos(up) * np.cos(turn), np.cos(up) * np.sin(turn), np.full_like(turn, np.sin(up))])
        for up in np.deg2rad([-60, -30, 0, 30, 60])
    ]
    meridians = [
        np.stack([np.sin(turn) * np.cos(east), np.sin(turn) * np.sin(east), np.cos(turn)])
        for east in np.deg2rad([0, 30, 60, 90, 120, 150])
    ]
    gap = np.full((3, 1), np.nan)
    x, y, z = np.concatenate([part for line in (*parallels, *meridians) for part in (line, gap)], axis=1)
    return Scatter3d(x=x, y=y, z=z, mode="lines", showlegend=False, hoverinfo="skip", line={"color": _WIRE, "width": 1})
