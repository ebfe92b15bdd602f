"""Dots: one for each seed, so that nothing hides behind a mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.experiment.results import Results
from limelight.experiment.statistics import CONFIDENCE, interval
from limelight.figures.theme import NEUTRAL, colours, styled


def comparison(results: Results, measures: Sequence[str], log: bool = False) -> tuple[Figure, ...]:
    """A figure for each measure: the arms below each other, a dot for each seed, the mean with its interval."""
    return tuple(_comparison(results, name, log) for name in measures)


def _comparison(results: Results, name: str, log: bool) -> Figure:
    figure, colour, measure = Figure(), colours(results.arms), results.measures[name]
    for arm in results.arms:
        values = results.values(arm, name)
        figure.add_trace(
            Scatter(
                x=values, y=[arm] * len(values), mode="markers", showlegend=False,
                marker={"color": colour[arm], "size": 8, "opacity": 0.45},
                customdata=results.seeds(arm), hovertemplate="%{y}, seed %{customdata}: %{x:.4g}<extra></extra>",
            )
        )  # fmt: skip
        scale = np.log if log else np.asarray
        back = np.exp if log else np.asarray
        found = interval(scale(values))
        if len(values) and np.isfinite([found.low, found.high]).all():
            middle, low, high = (float(back(value)) for value in (found.estimate, found.low, found.high))
            figure.add_trace(
                Scatter(
                    x=[middle], y=[arm], mode="markers", showlegend=False,
                    marker={"size": 11, "symbol": "line-ns", "line": {"width": 3, "color": colour[arm]}},
                    error_x={"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low],
                             "color": colour[arm], "thickness": 2, "width": 5},
                    hovertemplate=f"%{{y}}: mean %{{x:.4g}}, {CONFIDENCE:.0%}: {low:.4g} to {high:.4g}<extra></extra>",
                )
            )  # fmt: skip
    better = {"lower": " (less is better)", "higher": " (more is better)", "neither": ""}[measure.better]
    figure.update_xaxes(title=measure.unit, **({"type": "log", "dtick": 1, "exponentformat": "power"} if log else {}))
    figure.update_yaxes(autorange="reversed", ticks="")
    return styled(figure, 150 + 32 * len(results.arms), measure.says + better)


def strips(series: Mapping[str, np.ndarray], truth: Sequence[float], at: Sequence[float], x: str, y: str) -> Figure:
    """What each arm found for a few true values, arm beside arm, a dot for each seed.

    series: arm → (seeds, values); truth: the true values; at: where along x each of them belongs.
    """
    figure, colour = Figure(), colours(series)
    step = min(np.diff(sorted(at))) if len(at) > 1 else 1.0
    offsets = np.linspace(-0.3, 0.3, len(series)) * step
    for place, value in zip(at, truth, strict=True):
        ends = [place - 0.42 * step, place + 0.42 * step]
        figure.add_trace(
            Scatter(x=ends, y=[value, value], mode="lines", line={"color": NEUTRAL, "width": 2}, name="truth",
                    showlegend=place == at[0], legendgroup="truth", hovertemplate="truth: %{y}<extra></extra>")
        )  # fmt: skip
    for offset, (arm, found) in zip(offsets, series.items(), strict=True):
        figure.add_trace(
            Scatter(
                x=np.tile(np.asarray(at) + offset, len(found)), y=found.flatten(), mode="markers", name=arm,
                marker={"color": colour[arm], "size": 7, "opacity": 0.5},
                hovertemplate=f"{arm}: %{{y:.3f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title=x, tickvals=list(at))
    figure.update_yaxes(title=y)
    return styled(figure, 400)
