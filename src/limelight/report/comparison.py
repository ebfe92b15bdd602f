"""Results of all arms for each measure: a dot for each seed, so that the summary does not hide the spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plotly.graph_objects import Figure, Scatter

from limelight.experiment.measure import Measure
from limelight.experiment.results import Results
from limelight.experiment.statistics import CONFIDENCE, SUMMARIES
from limelight.figures.theme import colors, decades, styled


def comparison(results: Results, measures: Sequence[str], log: bool = False) -> tuple[Figure, ...]:
    """A figure for each measure: a row for each arm, with a dot for each seed and the summary with its interval.

    On a logarithmic axis, a value of 0 is drawn at the left end, and its arm without the summary.
    """
    return tuple(_comparison(results, name, log) for name in measures)


def _comparison(results: Results, name: str, log: bool) -> Figure:
    figure, color, measure = Figure(), colors(results.arms), results.measures[name]
    found_of = {arm: results.values(arm, name) for arm in results.arms}
    least, most = _range(np.concatenate(list(found_of.values())))
    for arm, values in found_of.items():
        shown = np.maximum(values, least) if log else values
        figure.add_trace(
            Scatter(
                x=shown, y=[arm] * len(values), mode="markers", showlegend=False,
                marker={"color": color[arm], "size": 8, "opacity": 0.45},
                customdata=np.stack([results.seeds(arm), values], -1) if len(values) else [],
                hovertemplate="%{y}, seed %{customdata[0]}: %{customdata[1]:.4g}<extra></extra>",
            )
        )  # fmt: skip
        if log and not (values > 0).all():
            continue
        scale = np.log if log else np.asarray
        back = np.exp if log else np.asarray
        found = SUMMARIES[measure.summary](scale(values))
        if len(values) and np.isfinite([found.low, found.high]).all():
            middle, low, high = (float(back(value)) for value in (found.estimate, found.low, found.high))
            figure.add_trace(
                Scatter(
                    x=[middle], y=[arm], mode="markers", showlegend=False,
                    marker={"size": 11, "symbol": "line-ns", "line": {"width": 3, "color": color[arm]}},
                    error_x={"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low],
                             "color": color[arm], "thickness": 2, "width": 5},
                    hovertemplate=f"%{{y}}: {_words(measure)}: {low:.4g} to {high:.4g}<extra></extra>",
                )
            )  # fmt: skip
    better = {"lower": " (less is better)", "higher": " (more is better)", "neither": ""}[measure.better]
    figure.update_xaxes(title=measure.unit, **(decades(least, most, labels=4) if log else {}))
    figure.update_yaxes(autorange="reversed", ticks="")
    return styled(figure, 150 + 32 * len(results.arms), measure.description + better)


def _words(measure: Measure) -> str:
    if measure.summary == "exact":
        return "median %{x:.4g}, all values"
    return f"{measure.summary} %{{x:.4g}}, {CONFIDENCE:.0%} interval"


def _range(values: np.ndarray) -> tuple[float, float]:
    """A tenth of the smallest positive value, and the largest value."""
    positive = values[values > 0]
    return (float(positive.min()) / 10, float(positive.max())) if len(positive) else (0.1, 1.0)
