"""Points in space, colored by a value that changes with time, as an animation that can be stopped and turned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plotly.graph_objects import Figure, Frame, Scatter3d

from limelight.figures.theme import COLORS, NEUTRAL, SLIDER, styled

_COLD_TO_HOT = [[0.0, COLORS[0]], [0.5, COLORS[3]], [1.0, COLORS[1]]]  # visible on light and on dark pages
_CAMERA = {"eye": {"x": 1.2, "y": -1.3, "z": 0.8}}
_HIDDEN = {"visible": False, "showbackground": False}


def animated_scatter(
    points: np.ndarray, values: np.ndarray, times: Sequence[str], value: str, unit: str, title: str = ""
) -> Figure:
    """Points (n, 3) colored by values (times, n), with a frame for each time, a slider and a button.

    All frames share one color scale, from the smallest to the largest of all values. The `unit` of the
    times stands beside the slider. A page that draws the figure must pass its frames to Plotly as well.
    """
    places, values = np.asarray(points).round(4), np.asarray(values)
    if places.ndim != 2 or places.shape[1] != 3 or values.shape != (len(times), len(places)):
        raise ValueError(f"expected points (n, 3) and values ({len(times)}, n), got {places.shape} and {values.shape}")
    limits = {"cmin": float(values.min()), "cmax": float(values.max())}
    x, y, z = places.T

    first = Scatter3d(
        x=x, y=y, z=z, mode="markers", showlegend=False,
        hovertemplate=f"{value} %{{marker.color:.3f}}<extra></extra>",
        marker={"size": 4, "color": values[0].round(4), "colorscale": _COLD_TO_HOT, **limits,
                "colorbar": {"title": {"text": value, "side": "right"}, "thickness": 10, "outlinewidth": 0}},
    )  # fmt: skip
    # A frame changes only the colors, so that the points are stored once and a view that was turned stays as it is.
    frames = [
        Frame(name=name, data=[Scatter3d(marker={"color": now.round(4)})], traces=[0])
        for name, now in zip(times, values, strict=True)
    ]
    figure = Figure(data=[first], frames=frames)
    scene = {f"{axis}axis": _HIDDEN for axis in "xyz"} | {"camera": _CAMERA, "aspectmode": "data"}
    styled(
        figure, 460, title, scene=scene, uirevision="camera", sliders=[_slider(times, unit)], updatemenus=[_buttons()]
    )
    return figure.update_layout(margin={"l": 0, "r": 0, "t": 34, "b": 84})


def _slider(times: Sequence[str], unit: str) -> dict[str, object]:
    steps = [{"label": name, "method": "animate", "args": [[name], _run(0)]} for name in times]
    return {
        "steps": steps, "x": 0.2, "len": 0.75, "y": 0.0, "currentvalue": {"suffix": f" {unit}"}, "pad": {"t": 4},
        **SLIDER,
    }  # fmt: skip


def _buttons() -> dict[str, object]:
    play = {"label": "▶", "method": "animate", "args": [None, _run(350)]}
    stop = {"label": "❚❚", "method": "animate", "args": [[None], _run(0)]}
    # Plotly paints a pressed button white on any page, so its symbols are gray, which is visible on light and dark.
    return {
        "type": "buttons", "direction": "left", "x": 0.02, "y": 0.0, "xanchor": "left", "yanchor": "top",
        "buttons": [play, stop], "pad": {"t": 8}, "showactive": False, "font": {"color": NEUTRAL},
        "bgcolor": "rgba(128, 128, 128, 0.15)", "bordercolor": NEUTRAL,
    }  # fmt: skip


def _run(duration: int) -> dict[str, object]:
    """The animation settings that show each frame for `duration` milliseconds, beginning at the slider's position.

    With a duration of 0, the chosen frame is shown at once.
    """
    frame = {"duration": duration, "redraw": True}
    return {"frame": frame, "transition": {"duration": 0}, "mode": "immediate", "fromcurrent": duration > 0}
