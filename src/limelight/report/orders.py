"""Orders of convergence: errors on logarithmic axes, with lines of the slope that theory predicts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.experiment.statistics import CONFIDENCE, mean
from limelight.figures.theme import NEUTRAL, colors, decades, styled, translucent


def orders(
    series: Mapping[str, np.ndarray],
    at: Mapping[str, Sequence[float]],
    predicted: Mapping[str, float],
    x: str,
    y: str,
    title: str = "",
) -> Figure:
    """For each arm, the mean error over seeds, and a dashed line with the predicted slope through its middle.

    series: arm → errors (seeds, points), positive; at: arm → the size at each point; predicted: arm → its order. The
    legend gives the fitted slope with its interval over seeds.
    """
    figure, color, lines = Figure(), colors(series), 1
    shown = [arm for arm, errors in series.items() if errors.size]
    for arm in shown:
        errors = series[arm]
        sizes = np.log(np.asarray(at[arm], dtype=float))
        logs = np.log(errors)
        slopes = mean(np.polyfit(sizes, logs.T, 1)[0])
        slope = f"{slopes.estimate:.2f}"
        if np.isfinite([slopes.low, slopes.high]).all():
            slope += f" ({slopes.low:.2f} to {slopes.high:.2f})"
        label = textwrap.wrap(f"{arm}: slope {slope}", 38)
        lines += len(label)
        _band(figure, arm, sizes, logs, color[arm])
        figure.add_trace(
            Scatter(
                x=np.exp(sizes), y=np.exp(logs.mean(0)), name="<br>".join(label), mode="lines+markers",
                line={"color": color[arm], "width": 2}, legendgroup=arm,
                hovertemplate=f"{arm}: %{{y:.3g}} at %{{x:.3g}}; slope {slope} at {CONFIDENCE:.0%}<extra></extra>",
            )
        )  # fmt: skip
        theory = logs.mean() + predicted[arm] * (sizes - sizes.mean())
        figure.add_trace(
            Scatter(
                x=np.exp(sizes), y=np.exp(theory), name="predicted slope", mode="lines", legendgroup="predicted",
                showlegend=arm == shown[-1], line={"color": NEUTRAL, "width": 1.5, "dash": "dash"},
                hovertemplate=f"predicted for {arm}: slope {predicted[arm]:g}<extra></extra>",
            )
        )  # fmt: skip
    drawn = [trace.y for trace in figure.data]
    least, most = (np.min([y.min() for y in drawn]), np.max([y.max() for y in drawn])) if drawn else (1.0, 1.0)
    figure.update_xaxes(title=x, type="log", dtick="D2", tickformat="~g")
    figure.update_yaxes(title=y, **decades(least, most))
    styled(figure, 330 + 22 * lines, title)
    return figure.update_layout(legend={"orientation": "v", "y": -0.2, "yanchor": "top"})


def _band(figure: Figure, arm: str, sizes: np.ndarray, logs: np.ndarray, color: str) -> None:
    low, high = np.quantile(logs, [0, 1], axis=0)
    figure.add_trace(
        Scatter(
            x=np.exp(np.concatenate([sizes, sizes[::-1]])), y=np.exp(np.concatenate([high, low[::-1]])), mode="lines",
            line={"width": 0}, fill="toself", fillcolor=translucent(color, 0.15), hoverinfo="skip", showlegend=False,
            legendgroup=arm,
        )
    )  # fmt: skip
