"""The heads of a model: all of them at a glance, the weights of one over a text, and what changes if it is changed."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from plotly.graph_objects import Bar, Figure, Heatmap, Scatter

from limelight.errors import InputError
from limelight.figures.plane import CHOSEN, colorbar
from limelight.figures.theme import COLORS, NEUTRAL, SCALE, styled

_TICKS = 44  # tokens that are named at an axis; of a longer text every second, or every third, …
_LETTERS = 40  # of a name
_PLAIN = {"showgrid": False, "zeroline": False, "fixedrange": True}


def heads_by(table: Mapping[str, Sequence[Any]], measure: str, chosen: tuple[int, int] | None = None) -> Figure:
    """A cell for each head, from a table of measures as `scope.table()` makes it: its columns "layer", "head", measure.

    Raises `InputError` for a column that the table does not have, and for a table of several texts or steps, which has
    several values of a head.

    >>> from limelight.figures import heads_by
    >>> table = {"layer": [0, 0, 1], "head": [0, 1, 0], "entropy": [1.0, 2.0, 3.0]}
    >>> heads_by(table, "entropy").data[0].z
    array([[ 1.,  3.],
           [ 2., nan]])
    """
    for column in ("layer", "head", measure):
        if column not in table:
            raise InputError(f"heads_by expects a table with a column {column!r}, got {', '.join(table)}")
    places = [*zip(table["layer"], table["head"], strict=True)]
    if len({*places}) < len(places):
        raise InputError(
            "heads_by got a table with several rows of a head; choose one, as scope.select(text=0).table()"
        )
    values = np.full((1 + max(table["layer"]), 1 + max(table["head"])), np.nan)
    for place, value in zip(places, table[measure], strict=True):
        values[place] = value
    return head_grid(values, chosen, measure.replace("_", " "))


def head_grid(values: np.ndarray, chosen: tuple[int, int] | None, measure: str) -> Figure:
    """A cell for each head, values (layers, heads): layers go across, and the heads of each up. NaN is left empty.

    The chosen (layer, head) is framed.
    """
    layers, heads = values.shape
    low, high = _limits(values)
    figure = Figure(
        Heatmap(
            z=values.T, zmin=low, zmax=high, colorscale=SCALE, xgap=1, ygap=1, colorbar=colorbar(plain(measure)),
            hovertemplate="layer %{x}, head %{y}: %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(_frame(*chosen) if chosen is not None else _frame(-9, -9))
    figure.update_xaxes(title="layer", range=[-0.55, layers - 0.45], dtick=_every(layers, 16), **_PLAIN)
    figure.update_yaxes(title="head", range=[-0.6, heads - 0.4], dtick=_every(heads, 8), **_PLAIN)
    styled(figure, 300, dragmode=False, showlegend=False)
    return figure.update_layout(margin={"l": 44, "r": 14, "t": 56, "b": 44})


def _limits(values: np.ndarray) -> tuple[float, float]:
    """From 0 or the least value to the largest one; from 0 to 1 if there is none."""
    known = values[np.isfinite(values)]
    if not len(known) or not np.any(known):
        return 0.0, 1.0
    return min(0.0, float(known.min())), max(0.0, float(known.max()))


def _every(count: int, most: int) -> int:
    return max(1, math.ceil(count / most))


def _frame(x: float, y: float) -> Scatter:
    right, left, top, bottom = x + 0.5, x - 0.5, y + 0.5, y - 0.5
    return Scatter(
        x=[left, right, right, left, left], y=[bottom, bottom, top, top, bottom], mode="lines", hoverinfo="skip",
        line={"color": CHOSEN, "width": 3},
    )  # fmt: skip


def token_map(weights: np.ndarray, tokens: Sequence[str], chosen: int | None = None) -> Figure:
    """The weights (n, n) of one head over a text: a row for each token that attends, the chosen one framed."""
    n = len(tokens)
    figure = Figure(
        Heatmap(
            z=weights, zmin=0, zmax=max(float(np.nanmax(weights)), 1e-6), colorscale=SCALE, colorbar=colorbar("weight"),
            hovertemplate="%{y} attends to %{x}: %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    if chosen is not None:
        left, right, top, bottom = -0.5, n - 0.5, chosen - 0.5, chosen + 0.5
        x, y = [left, right, right, left, left], [top, top, bottom, bottom, top]
        figure.add_trace(Scatter(x=x, y=y, mode="lines", hoverinfo="skip", line={"color": CHOSEN, "width": 2}))
    size = 11 if n <= _TICKS // 2 else 9
    names: dict[str, Any] = {**_token_axis(tokens), "tickfont": {"size": size}, **_PLAIN}
    figure.update_xaxes(tickangle=-90, range=[-0.6, n - 0.4], **names)
    figure.update_yaxes(range=[n - 0.4, -0.6], **names)
    styled(figure, 480, dragmode=False, showlegend=False)
    return figure.update_layout(margin={"l": 20, "r": 14, "t": 56, "b": 20})


def _token_axis(tokens: Sequence[str]) -> dict[str, Any]:
    shown = range(0, len(tokens), _every(len(tokens), _TICKS))
    return {"tickmode": "array", "tickvals": list(shown), "ticktext": [plain(tokens[i]) for i in shown]}


def changed_bars(names: Sequence[str], before: np.ndarray, after: np.ndarray | None, x: str) -> Figure:
    """Two bars for each name, as it was and changed, the first name at the top. Long names are wrapped.

    `after` is None if nothing has been changed; then there is one bar for each.
    """
    places = np.arange(len(names))
    figure = Figure(_bars(places, before, "as it is", NEUTRAL))
    if after is not None:
        figure.add_trace(_bars(places, after, "changed", COLORS[0]))
    ticks = ["<br>".join(plain(line) for line in textwrap.wrap(name, 22) or [""]) for name in names]
    figure.update_yaxes(
        tickmode="array", tickvals=places, ticktext=ticks, range=[len(names) - 0.4, -0.6], **_PLAIN
    )  # fmt: skip
    figure.update_xaxes(title=x, fixedrange=True, zeroline=True)
    return styled(figure, 420, dragmode=False, bargap=0.3, bargroupgap=0.05, barmode="group", showlegend=True)


def _bars(places: np.ndarray, values: np.ndarray, name: str, color: str) -> Bar:
    return Bar(
        y=places, x=values, name=name, orientation="h", marker={"color": color}, showlegend=True,
        hovertemplate=f"%{{y}}, {name}: %{{x:.3f}}<extra></extra>",
    )  # fmt: skip


def plain(text: str) -> str:
    """A text that Plotly shows as it is: it would read some of HTML. A long one is cut, with an ellipsis."""
    return html.escape(text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…", quote=False)
