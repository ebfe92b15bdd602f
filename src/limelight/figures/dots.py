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
    better = {"lower": "less is better", "higher": "more is better", "neither": ""}[measure.better]
    figure.update_xaxes(
        title=_wrapped(", ".join(x for x in (measure.unit, better) if x)), type="log" if log else "linear"
    )
    figure.update_yaxes(autorange="reversed", ticks="")
    return styled(figure, 120 + 34 * len(results.arms), title={"text": _wrapped(measure.says), "font": {"size": 13}})


def strips(series: Mapping[str, np.ndarray], truth: Sequence[float], y: str) -> Figure:
    """What each arm found for a few true values, a dot for each seed. series: arm → (seeds, values)."""
    figure, colour = Figure(), colours(series)
    for value in truth:
        figure.add_hline(y=value, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    for arm, found in series.items():
        figure.add_trace(
            Scatter(
                x=[arm] * found.size, y=found.flatten(), mode="markers", showlegend=False,
                marker={"color": colour[arm], "size": 8, "opacity": 0.5},
                hovertemplate="%{x}: %{y:.3f}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_yaxes(title=y)
    return styled(figure, 380)


def _wrapped(text: str, width: int = 52) -> str:
    """The text in lines of at most so many letters, as Plotly breaks them."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "<br>".join(lines)
