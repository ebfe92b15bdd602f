"""Dots: one for each seed, so that a mean does not hide the spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.figures.theme import NEUTRAL, colors, styled


def strip_plot(
    series: Mapping[str, np.ndarray],
    truth: Sequence[float] | None,
    at: Sequence[float],
    x: str,
    y: str,
    title: str = "",
) -> Figure:
    """A few values by each arm, side by side, with a dot for each seed, and a line for each true value if there is one.

    series: arm → values (seeds, places); truth: the true value at each place, or None; at: the places along x.
    """
    figure, color = Figure(), colors(series)
    step = min(np.diff(sorted(at))) if len(at) > 1 else 1.0
    offsets = np.linspace(-0.3, 0.3, len(series)) * step
    for place, value in () if truth is None else zip(at, truth, strict=True):
        ends = [place - 0.42 * step, place + 0.42 * step]
        figure.add_trace(
            Scatter(x=ends, y=[value, value], mode="lines", line={"color": NEUTRAL, "width": 2}, name="truth",
                    showlegend=place == at[0], legendgroup="truth", hovertemplate="truth: %{y}<extra></extra>")
        )  # fmt: skip
    for offset, (arm, found) in zip(offsets, series.items(), strict=True):
        figure.add_trace(
            Scatter(
                x=np.tile(np.asarray(at) + offset, len(found)), y=found.flatten(), mode="markers", name=arm,
                marker={"color": color[arm], "size": 7, "opacity": 0.5},
                hovertemplate=f"{arm}: %{{y:.3f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title=x, tickvals=list(at))
    figure.update_yaxes(title=y)
    return styled(figure, 400, title)
