"""One look for all figures: colours that colour-blind readers can tell apart, and nothing that shouts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from plotly.graph_objects import Figure

# Okabe & Ito (2008), less the black and the yellow, which vanish on one of the two backgrounds.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
NEUTRAL = "#8a8a8a"  # for what is there to compare with: truth, controls, ranges
SCALE = "Cividis"
DIVERGING = [[0.0, "#D55E00"], [0.5, "#f2f2f2"], [1.0, "#0072B2"]]
_GRID = "rgba(128, 128, 128, 0.25)"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each arm, by its place; the last, which is the control, is neutral."""
    listed = list(names)
    return {name: NEUTRAL if name == listed[-1] else COLOURS[i % len(COLOURS)] for i, name in enumerate(listed)}


def translucent(colour: str, opacity: float) -> str:
    """A hex colour with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def styled(figure: Figure, height: int, **layout: Any) -> Figure:
    """The figure in the common look; `height` in pixels, the width is the page's."""
    figure.update_layout(
        height=height,
        font={"family": _FONT, "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 16, "t": 36, "b": 52},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"font": {"family": _FONT}},
        **layout,
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, linecolor=_GRID, title_standoff=8, automargin=True)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, linecolor=_GRID, title_standoff=8, automargin=True)
    return figure
