"""Grids of cells: matrices of weights, and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from plotly.graph_objects import Figure, Heatmap, Scatter

from limelight.figures.theme import COLORS, DIVERGING, GRAYS, NEUTRAL, SCALE, styled

_WORDS = 6  # lines of pixels that a word takes
_TICKS = 6  # of an axis with as many rows, or fewer, each has its tick
_BLUE, _RED, _GREEN, _PINK, _, _ORANGE = COLORS
_CIRCLE = [[i / 5, color] for i, color in enumerate((_BLUE, _GREEN, _ORANGE, _RED, _PINK, _BLUE))]


def matrices(series: Mapping[str, np.ndarray | None], x: str, y: str, value: str, first: int = 1) -> tuple[Figure, ...]:
    """A figure for each matrix, with the first row at the top. All have one color scale, which begins at zero.

    Rows and columns are numbered from `first` on: from 0 where the numbers are indices, as those of layers and heads.
    """
    present = {name: np.asarray(matrix) for name, matrix in series.items() if matrix is not None}
    most = max((float(matrix.max()) for matrix in present.values()), default=1.0)
    return tuple(_matrix(name, matrix, x, y, value, most, first) for name, matrix in present.items())


def _matrix(name: str, matrix: np.ndarray, x: str, y: str, value: str, most: float, first: int) -> Figure:
    rows, columns = (first + np.arange(length) for length in matrix.shape)
    figure = Figure(
        Heatmap(
            z=matrix, x=columns, y=rows, zmin=0, zmax=most, colorscale=SCALE, xgap=1, ygap=1,
            colorbar={"title": {"text": value, "side": "right", "font": {"size": 12}}, "thickness": 10,
                      "outlinewidth": 0},
            hovertemplate=f"{y} %{{y}}, {x} %{{x}}: %{{z:.3f}}<extra></extra>",
        )
    )  # fmt: skip
    whole = [{"dtick": 1} if length <= _TICKS else {} for length in matrix.shape]  # no ticks between rows or columns
    figure.update_xaxes(title=x, showgrid=False, **whole[1])
    figure.update_yaxes(title=y, autorange="reversed", showgrid=False, **whole[0])
    return styled(figure, 300, name)


def hues(series: Mapping[str, np.ndarray | None]) -> tuple[Figure, ...]:
    """A figure for each set of images (n, h, w) whose values are places on a circle of colors, from 0 to 1.

    0 and 1 have the same color, so that an angle divided by a turn has a color without a jump. NaN is left empty.
    """
    return tuple(
        _row(name, np.asarray(batch), colorscale=_CIRCLE, zmin=0, zmax=1)
        for name, batch in series.items()
        if batch is not None
    )


def images(series: Mapping[str, np.ndarray | None]) -> tuple[Figure, ...]:
    """A figure for each set of gray images (n, h, w), which stand side by side."""
    return tuple(
        _row(name, np.asarray(batch), colorscale="Greys") for name, batch in series.items() if batch is not None
    )


def image_rows(rows: Mapping[str, np.ndarray], words: Sequence[str], under: str) -> Figure:
    """Named rows of gray images (n, h, w), all of one size, with values from 0 to 1.

    Below each image of the row `under` stands a word. The traces are the images, whose z is `tiled(rows, under)`, and
    the words.
    """
    count, height, width = next(iter(rows.values())).shape
    tops = _tops(rows, under)
    middles = np.arange(count) * (width + 1) + (width - 1) / 2
    beneath = tops[list(rows).index(under)] + height - 0.5 + _WORDS / 2
    figure = Figure(
        [
            Heatmap(z=tiled(rows, under), colorscale=SCALE, zmin=0, zmax=1, showscale=False, hoverinfo="skip"),
            Scatter(
                x=middles, y=np.full(count, beneath), text=list(words), mode="text", hoverinfo="skip",
                textfont={"color": NEUTRAL, "size": 15}, showlegend=False,
            ),
        ]
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.5, count * (width + 1) - 1.5], constrain="domain", fixedrange=True)
    figure.update_yaxes(
        range=[len(tiled(rows, under)) - 0.5, -0.5], scaleanchor="x", constrain="domain", fixedrange=True,
        showgrid=False, ticklen=0, showline=False, tickvals=[top + (height - 1) / 2 for top in tops],
        ticktext=list(rows),
    )  # fmt: skip
    return styled(figure, 460, dragmode=False).update_layout(margin={"l": 8, "r": 8, "t": 6, "b": 6})


def tiled(rows: Mapping[str, np.ndarray], under: str) -> np.ndarray:
    """One array with rows of images (n, h, w) and NaN between them, with room for words below `under`."""
    count, height, width = next(iter(rows.values())).shape
    tops = _tops(rows, under)
    canvas = np.full((tops[-1] + height + (_WORDS if list(rows)[-1] == under else 0), count * (width + 1) - 1), np.nan)
    for top, batch in zip(tops, rows.values(), strict=True):
        for i, image in enumerate(batch):
            canvas[top : top + height, i * (width + 1) :][:, :width] = image
    return canvas


def _tops(rows: Mapping[str, np.ndarray], under: str) -> list[int]:
    """The first line of pixels of each row."""
    heights = [batch.shape[1] + (_WORDS if name == under else 1) for name, batch in rows.items()]
    return [sum(heights[:i]) for i in range(len(heights))]


def signed_images(series: Mapping[str, np.ndarray | None]) -> tuple[Figure, ...]:
    """A figure for each set of images (n, h, w) of either sign, such as filters, side by side.

    Zero is pale; each image goes from minus its largest size, orange, to plus its largest size, blue.
    """
    shown = {name: np.asarray(batch) for name, batch in series.items() if batch is not None}
    largest = {name: np.maximum(np.abs(batch).max((1, 2), keepdims=True), 1e-12) for name, batch in shown.items()}
    return tuple(
        _row(name, batch / largest[name], colorscale=DIVERGING, zmin=-1, zmax=1) for name, batch in shown.items()
    )


def image_tables(series: Mapping[str, np.ndarray | None]) -> tuple[Figure, ...]:
    """A figure for each table of gray images (rows, columns, h, w) with values from 0 to 1."""
    return tuple(_table(name, np.asarray(table)) for name, table in series.items() if table is not None)


def _table(name: str, table: np.ndarray) -> Figure:
    gap = max(1, table.shape[-1] // 12)  # a twelfth of an image, so that small and large ones look alike
    padded = np.pad(table, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    whole = np.concatenate([np.concatenate(list(row), axis=1) for row in padded])[:-gap, :-gap]
    figure = Figure(Heatmap(z=whole, showscale=False, hoverinfo="skip", colorscale=GRAYS, zmin=0, zmax=1))
    figure.update_xaxes(visible=False, scaleanchor="y", constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain")
    return styled(figure, 60 + 60 * len(table), name).update_layout(margin={"l": 8, "r": 8, "b": 8})


def _row(name: str, batch: np.ndarray, **colors: Any) -> Figure:
    gap = np.full((batch.shape[1], 1), np.nan)
    row = np.concatenate([part for image in batch for part in (image, gap)][:-1], axis=1)
    figure = Figure(Heatmap(z=row, showscale=False, hoverinfo="skip", **colors))
    figure.update_xaxes(visible=False, scaleanchor="y", constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain")
    return styled(figure, 120, name).update_layout(margin={"l": 8, "r": 8, "b": 8})
