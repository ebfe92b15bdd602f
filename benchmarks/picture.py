"""A picture of times and memory divided by SDPA's, with the targets, on one self-contained page.

The color shows whether a dot is Limelight or a peer, and its shape what was timed; rows have names, so that the picture
can be read without colors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from benchmarks.measure import Ratio
from benchmarks.results import Results, Row
from limelight.figures.theme import COLORS, NEUTRAL, styled

_TIMED = {"forward": ("forward", "circle-open"), "training": ("forward + backward", "circle")}


def draw(results: Results, path: Path) -> None:
    """Write the page to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(figure(results).to_html(include_plotlyjs=True, config={"displayModeBar": False}), encoding="utf-8")


def figure(results: Results) -> Figure:
    """Times on the left and memory on the right, with one line for each row; smaller is better."""
    shown = make_subplots(1, 2, shared_yaxes=True, column_widths=[0.66, 0.34], horizontal_spacing=0.03)
    groups = ((results.limelight, COLORS[0], "Limelight"), (results.peers, COLORS[1], "peers"))
    names = [_label(row, results) for rows, *_ in groups for row in rows]
    for rows, color, group in groups:
        if not rows:
            continue
        for kind, (says, symbol) in _TIMED.items():
            shown.add_trace(_times(rows, results, kind, f"{group}: {says}", symbol, color), 1, 1)
        measured = [row for row in rows if row.memory is not None]
        shown.add_trace(
            Scatter(
                x=[row.memory for row in measured], y=[_label(row, results) for row in measured], mode="markers",
                marker={"symbol": "diamond", "size": 9, "color": color}, name=f"{group}: memory",
                hovertemplate="%{y}: %{x:.2f} × SDPA's peak<extra></extra>",
            ), 1, 2,
        )  # fmt: skip
    _targets(shown, results, [row.target for row in results.limelight], 1)
    _targets(shown, results, [row.memory_target for row in results.limelight], 2)
    for column, title in ((1, "time over SDPA's"), (2, "peak memory over SDPA's")):
        shown.add_vline(1, line={"color": NEUTRAL, "width": 1, "dash": "dot"}, row=1, col=column)
        shown.update_xaxes(
            type="log", title=title, row=1, col=column, dtick="D2" if column == 1 else 1, minor={"showgrid": False}
        )
    shown.update_yaxes(categoryorder="array", categoryarray=names, autorange="reversed", ticks="")
    s = results.setting
    styled(shown, 190 + 24 * len(names))
    shape = "×".join(map(str, s["shape"]))
    title = f"Over torch's own attention at {shape}, {s['dtype']}, {s['on']}: medians and quartiles; lower is better"
    shown.update_layout(title_text=title, margin_t=90, legend={"y": 1.0, "font": {"size": 11}})
    return shown


def _times(rows: Sequence[Row], results: Results, kind: str, name: str, symbol: str, color: str) -> Scatter:
    found = [(row, getattr(row, kind)) for row in rows if getattr(row, kind) is not None]
    return Scatter(
        x=[ratio.median for _, ratio in found], y=[_label(row, results) for row, _ in found], mode="markers", name=name,
        marker={"symbol": symbol, "size": 10, "color": color, "line": {"width": 2, "color": color}},
        error_x=quartiles([ratio for _, ratio in found], color),
        hovertemplate="%{y}: %{x:.2f} × SDPA's time<extra></extra>",
    )  # fmt: skip


def quartiles(ratios: Sequence[Ratio], color: str) -> dict[str, object]:
    """The quartiles on both sides of each median, as Plotly's error bars."""
    return {
        "type": "data", "symmetric": False, "color": color, "thickness": 1.5, "width": 4,
        "array": [ratio.high - ratio.median for ratio in ratios],
        "arrayminus": [ratio.median - ratio.low for ratio in ratios],
    }  # fmt: skip


def _targets(shown: Figure, results: Results, targets: Sequence[float | None], column: int) -> None:
    marked = [(_label(row, results), t) for row, t in zip(results.limelight, targets, strict=True) if t is not None]
    shown.add_trace(
        Scatter(
            x=[target for _, target in marked], y=[name for name, _ in marked], mode="markers", name="target",
            marker={"symbol": "line-ns", "size": 16, "line": {"width": 3, "color": NEUTRAL}},
            showlegend=column == 1, hovertemplate="%{y}: target ≤ %{x}<extra></extra>",
        ), 1, column,
    )  # fmt: skip


def _label(row: Row, results: Results) -> str:
    return row.name if row.n == results.setting["shape"][2] else f"{row.name} (n = {row.n})"
