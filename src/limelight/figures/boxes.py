"""Gray images with boxes around what was found in them, and maps of the same size beside them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from plotly.graph_objects import Figure, Heatmap, Scatter

from limelight.figures.theme import COLORS, GRAYS, SCALE, styled

ColorScale = list[list[object]]  # a share from 0 to 1, and the color there

_GAP = 2  # pixels between two images
_DASHES = ("solid", "dash", "dot", "dashdot")


def boxed_images(
    images: np.ndarray | None, boxes: Mapping[str, np.ndarray | None], across: int = 4, colors: ColorScale = GRAYS
) -> Figure:
    """Gray images (n, h, w) in rows of `across`, and on each a box (top, left, bottom, right) of every name.

    The traces are the images, then the boxes of each name, (n, 4); bottom and right are exclusive.
    """
    shown = np.zeros((0, 1, 1)) if images is None else np.asarray(images)
    height, width = (side + _GAP for side in shown.shape[1:])
    rows = -(-len(shown) // across)
    canvas = np.full((rows * height, across * width), np.nan)
    corners = [divmod(i, across) for i in range(len(shown))]
    for image, (row, column) in zip(shown, corners, strict=True):
        canvas[row * height :, column * width :][: height - _GAP, : width - _GAP] = image
    figure = Figure(
        Heatmap(z=canvas[:-_GAP, :-_GAP], colorscale=colors, zmin=0, zmax=1, showscale=False, hoverinfo="skip")
    )
    for i, (name, found) in enumerate(boxes.items()):
        if found is None:
            continue
        outlines = [
            _outline(box, row * height, column * width) for box, (row, column) in zip(found, corners, strict=True)
        ]
        x, y = np.concatenate(outlines, axis=1)
        line = {"color": COLORS[i % len(COLORS)], "width": 2, "dash": _DASHES[i % len(_DASHES)]}
        figure.add_trace(Scatter(x=x, y=y, name=name, mode="lines", line=line, showlegend=True, hoverinfo="name"))
    figure.update_xaxes(visible=False, range=[-1, across * width - _GAP], constrain="domain")
    figure.update_yaxes(visible=False, range=[rows * height - _GAP, -1], scaleanchor="x", constrain="domain")
    return styled(figure, 60 + 170 * rows).update_layout(margin={"l": 8, "r": 8, "t": 40, "b": 8})


def _outline(box: np.ndarray, down: int, across: int) -> np.ndarray:
    """The corners of a box, one after the other, as (x, y) on a grid of pixels, and NaN, at which a line ends."""
    top, left, bottom, right = np.asarray(box, dtype=float) - 0.5
    x, y = [left, right, right, left, left, np.nan], [top, top, bottom, bottom, top, np.nan]
    return np.array([x, y]) + np.array([[across], [down]])


def map_grid(
    images: np.ndarray | None, maps: Mapping[str, np.ndarray | None], count: int, colors: ColorScale = GRAYS
) -> tuple[Figure, ...]:
    """A figure with the first `count` images, and one with the maps (n, h, w) of each name.

    Each map goes from zero to its own largest value; what is below zero has the color of zero.
    """
    figures = [] if images is None else [_row("scene", np.asarray(images)[:count], colors)]
    for name, found in maps.items():
        if found is not None:
            shown = np.asarray(found)[:count]
            figures.append(_row(name, shown / np.maximum(shown.max((1, 2), keepdims=True), 1e-12), SCALE))
    return tuple(figures)


def _row(name: str, batch: np.ndarray, scale: ColorScale) -> Figure:
    padded = np.pad(batch, ((0, 0), (0, 0), (0, _GAP)), constant_values=np.nan)
    row = np.concatenate(list(padded), axis=1)[:, :-_GAP]
    figure = Figure(Heatmap(z=row, colorscale=scale, zmin=0, zmax=1, showscale=False, hoverinfo="skip"))
    figure.update_xaxes(visible=False, scaleanchor="y", constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain")
    return styled(figure, 150, name).update_layout(margin={"l": 8, "r": 8, "b": 8})
