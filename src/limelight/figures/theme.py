"""The common style of all figures, with colors that color-blind readers can distinguish."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from plotly.graph_objects import Figure

# The colors of Okabe & Ito (2008), without black and yellow, each of which is invisible on one of the two backgrounds,
# and with a lighter blue for the dark background.
COLORS = ("#1F83C4", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
NEUTRAL = "#8a8a8a"  # for references: true values, controls, ranges
# The least value is nearly transparent, so that it has the color of the background, whether light or dark.
SCALE = [[0.0, "rgba(31, 131, 196, 0.06)"], [1.0, "rgba(31, 131, 196, 1)"]]
DIVERGING = [[0.0, "#D55E00"], [0.5, "#e8e6e1"], [1.0, "#1F83C4"]]
GRAYS = [[0.0, "rgba(138, 138, 138, 0.12)"], [1.0, NEUTRAL]]  # of drawings, visible on light and on dark pages
PHOTOGRAPH = [[0.0, "rgb(0, 0, 0)"], [1.0, "rgb(255, 255, 255)"]]  # of photographs, which must not look like negatives
_GRID = "rgba(128, 128, 128, 0.25)"
_AXIS = {
    "gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "automargin": True,
    "title": {"standoff": 8, "font": {"size": 12}},
}  # fmt: skip
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def colors(names: Iterable[str]) -> dict[str, str]:
    """A color for each arm, in order; the last arm, which is the control, gets the neutral color."""
    listed = list(names)
    return {name: NEUTRAL if name == listed[-1] else COLORS[i % len(COLORS)] for i, name in enumerate(listed)}


def strokes(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The line of each arm: its color as in `colors`, dotted where an earlier arm has the same color."""
    found: dict[str, dict[str, str]] = {}
    for name, color in colors(names).items():
        repeated = any(stroke["color"] == color for stroke in found.values())
        found[name] = {"color": color, "dash": "dot" if repeated else "solid"}
    return found


def translucent(color: str, opacity: float) -> str:
    """A hex color with an opacity."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def decades(least: float, most: float, labels: int = 7) -> dict[str, object]:
    """The settings of a logarithmic axis for these positive numbers, with at most so many labels.

    They are powers of ten; where there would be too few of these, two and five times a power of ten are between them.
    """
    powers = math.log10(most / least)
    if 3 * powers < labels:
        return {"type": "log", "dtick": "D2", "tickformat": "~g"}
    return {"type": "log", "dtick": 1 + int(powers / labels), "exponentformat": "power"}


# Plotly's own slider colors are white on any page.
SLIDER = {"bgcolor": NEUTRAL, "activebgcolor": NEUTRAL, "bordercolor": NEUTRAL, "tickcolor": NEUTRAL}


def styled(figure: Figure, height: int, title: str = "", **layout: Any) -> Figure:
    """The figure in the common style. `height` is in pixels, the width is the page's, and a long title is wrapped."""
    lines = textwrap.wrap(title, 48)
    named = sum(trace.showlegend is not False for trace in figure.data)
    below = 20 * math.ceil(named / 3) if lines and named > 1 else 0  # for the legend, three names in a row
    down = 10 + 8.5 * max(len(lines) - 1, 0)  # Plotly places the middle of a title's lines as if it were the first
    look = {
        "template": "none",
        "height": height,
        "font": {"family": _FONT, "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "title": {
            "text": "<br>".join(lines), "font": {"size": 13}, "x": 0.02, "y": 1, "yanchor": "top", "pad": {"t": down}
        },
        "margin": {"l": 60, "r": 16, "t": 20 + 17 * max(len(lines), 1) + below, "b": 52},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"font": {"family": _FONT}},
        **layout,
    }  # fmt: skip
    own = figure.layout.to_plotly_json()
    axes = {"xaxis", "yaxis", *(name for name in own if name.startswith(("xaxis", "yaxis")))}
    # Assigned in one step: `update_layout` would take seven times as long, which is too slow for a moving picture.
    figure.layout = _merged(_merged(own, look), dict.fromkeys(axes, _AXIS))
    return figure


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; where both have a value, that of `above` is taken."""
    both = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], Mapping) and isinstance(above[name], Mapping):
            both[name] = _merged(below[name], above[name])
    return both
