"""The results of `benchmarks.use` as a table in Markdown and as a picture on a page of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plotly.graph_objects import Figure, Scatter

from benchmarks.measure import Ratio
from benchmarks.picture import quartiles
from benchmarks.results import met
from benchmarks.table import cell
from limelight.figures.theme import COLORS, NEUTRAL, styled


def table(results: dict[str, Any]) -> str:
    """The results as a table in Markdown, with ✓ or ✗ for each row that has a target."""
    return "\n".join(_lines(results))


def _lines(results: dict[str, Any]) -> Iterator[str]:
    s, rows = results["setting"], _by_group(results["rows"])
    yield f"{s['on']}, {s['threads']} {'thread' if s['threads'] == 1 else 'threads'}, torch {s['torch']}, float32\n"
    yield "| case | compared with | its time | Limelight's time divided by it | target |"
    yield "|---|---|---|---|---|"
    group = ""
    for row in rows:
        if row["group"] != group:
            group = row["group"]
            yield f"| **{group}** | | | | |"
        yield f"| {row['name']} | {row['beside']} | {_time(row)} | {_ratio(row)} | {_target(row['target'])} |"
    if results["call"]:
        call = results["call"]
        found = f"{call['median']:.0f} [{call['low']:.0f}, {call['high']:.0f}] µs {met(call['median'], call['target'])}"
        yield f"| **one call** at 1×8×64×64 beside its kernel | SDPA | | {found} | ≤ {call['target']:.0f} µs |"
    marks = [met(row["ratio"]["median"], row["target"]) for row in rows if row["ratio"]]
    aimed = len(marks) - marks.count("")
    yield f"\nThe medians meet {marks.count('✓')} of the {aimed} targets in this table."
    for row in rows:
        if row["memory"] is not None:
            own, other = (f"{row[key] / 1e6:.0f} MB" for key in ("memory", "memory_beside"))
            yield f"{row['name']} raises the peak memory by {own}, and {row['beside']} raises it by {other}."


def _by_group(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows sorted by group, with the groups in the order of their first rows."""
    groups = [row["group"] for row in rows]
    return sorted(rows, key=lambda row: groups.index(row["group"]))


def _time(row: dict[str, Any]) -> str:
    ms = row["milliseconds"]
    return "" if ms is None else f"{ms:.2g} ms" if ms < 100 else f"{ms:.0f} ms"


def _ratio(row: dict[str, Any]) -> str:
    return row["note"] if row["ratio"] is None else cell(Ratio(**row["ratio"]), row["target"])


def _target(target: float | None) -> str:
    return "" if target is None else f"≤ {target:g}"


def draw(results: dict[str, Any], path: Path) -> None:
    """Write an HTML page with the picture to `path`."""
    path.write_text(figure(results).to_html(include_plotlyjs=True, config={"displayModeBar": False}), encoding="utf-8")


def figure(results: dict[str, Any]) -> Figure:
    """One line for each case: the ratio of the times with its quartiles, and a mark at its target."""
    rows = [row for row in _by_group(results["rows"]) if row["ratio"]]
    names = [row["name"] for row in rows]
    ratios = [Ratio(**row["ratio"]) for row in rows]
    shown = Figure(
        Scatter(
            x=[ratio.median for ratio in ratios], y=names, mode="markers", name="Limelight",
            marker={"size": 9, "color": COLORS[0]}, hovertemplate="%{y}: %{x:.2f}<extra></extra>",
            error_x=quartiles(ratios, COLORS[0]),
        )
    )  # fmt: skip
    aimed = [row for row in rows if row["target"]]
    shown.add_scatter(
        x=[row["target"] for row in aimed], y=[row["name"] for row in aimed], mode="markers", name="target",
        marker={"symbol": "line-ns", "size": 14, "line": {"width": 3, "color": NEUTRAL}},
        hovertemplate="%{y}: at most %{x}<extra></extra>",
    )  # fmt: skip
    shown.add_vline(1, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    shown.update_xaxes(type="log", title="time divided by the other's", tickvals=[0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16])
    shown.update_yaxes(categoryorder="array", categoryarray=names, range=[len(names) - 0.3, -0.7], dtick=1, ticks="")
    styled(shown, 170 + 22 * len(names))
    shown.update_layout(title_text="Limelight in ordinary use: medians and quartiles; lower is better", margin_t=80)
    return shown
