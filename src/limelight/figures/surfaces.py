"""Surfaces over two inputs, which can be turned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from plotly.graph_objects import Figure, Scatter3d, Surface
from torch import Tensor

from limelight.figures.theme import DIVERGING, NEUTRAL, styled

_LINE = "#9a9a9a"
_CAMERA = {"eye": {"x": 1.5, "y": -1.7, "z": 0.9}, "center": {"x": 0, "y": 0, "z": -0.12}}


def surfaces(
    x: np.ndarray, y: np.ndarray, series: Mapping[str, np.ndarray | None], data: tuple[Tensor, Tensor]
) -> tuple[Figure, ...]:
    """A figure of the data alone, and a figure for each arm with its surface z(x, y) and the data.

    series: arm → heights (len(y), len(x)); data: points (n, 2) and their z (n,).
    """
    panels = {"the data": None, **series}
    return tuple(surface(name, x, y, heights, data) for name, heights in panels.items())


def surface(name: str, x: np.ndarray, y: np.ndarray, heights: np.ndarray | None, data: tuple[Tensor, Tensor]) -> Figure:
    """A figure of the data, and of the surface z(x, y) unless `heights` is None."""
    points, z = (part.numpy() for part in data)
    figure, most = Figure(), _height_limit(z)
    if heights is not None:
        figure.add_trace(
            Surface(
                x=x, y=y, z=clip_heights(heights, z), colorscale=DIVERGING, cmin=-most, cmax=most, showscale=False,
                opacity=0.9, hovertemplate="x %{x:.2f}, y %{y:.2f}: z %{z:.2f}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_trace(
        Scatter3d(
            x=points[:, 0], y=points[:, 1], z=z, mode="markers", showlegend=False,
            marker={"size": 2, "symbol": "square", "color": z if heights is None else NEUTRAL,
                    "colorscale": DIVERGING, "cmin": -most, "cmax": most},
            hovertemplate="x %{x:.2f}, y %{y:.2f}: z %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    # The range is a little larger than the clipped surfaces, which would otherwise flicker at its ends.
    limits = {"x": [x.min(), x.max()], "y": [y.min(), y.max()], "z": [-1.03 * most, 1.03 * most]}
    axes = {
        f"{axis}axis": {
            "title": {"text": axis}, "range": [float(end) for end in ends], "nticks": 5, "showbackground": False,
            "showgrid": True, "showline": True, "gridcolor": _LINE, "zerolinecolor": _LINE, "linecolor": _LINE,
        }
        for axis, ends in limits.items()
    }  # fmt: skip
    styled(figure, 320, name, scene={**axes, "camera": _CAMERA, "aspectmode": "cube"}, uirevision="camera")
    return figure.update_layout(margin={"l": 0, "r": 0, "t": 30, "b": 0})


def clip_heights(heights: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The surface clipped to the range of heights that is drawn for data with these z."""
    return np.clip(heights, -_height_limit(z), _height_limit(z))


def _height_limit(z: np.ndarray) -> float:
    return 1.6 * float(np.abs(z).max())
