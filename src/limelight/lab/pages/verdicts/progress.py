"""What a page says of a run: how far it is, how long it will take, and what was kept."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from limelight.lab.runs import Progress


def button(name: str, seeds: int | str, label: str = "") -> Component:
    """What runs a claim when it is pressed, for that many seeds, or `"own"`: as many as stand in the box."""
    told = {} if label else {"aria-label": f"Run {seeds} seeds of {name}"}  # one of many on its page
    return html.Button(label or f"Run {seeds} seeds", id={"verdict-run": seeds, "claim": name}, type="button", **told)


def now(name: str, run: Progress | None) -> Sequence[Component]:
    """The part of the page that shows how far a claim's run has come; empty where no run is going on."""
    if run is None:
        return []
    if not run.goes_on:
        return [html.P(ended(run), className=f"ended {run.state}", role="status")]
    label = f"{run.kept} of {run.total} runs"
    stopping = run.state == "stopping"
    return [
        html.Progress(value=str(run.kept), max=str(run.total), **{"aria-label": f"{name}: {label}"}),
        html.Span([label, html.Br(), "stopping …" if stopping else left(run.left)], className="far"),
        html.Button(
            "Cancel", id={"verdict": "cancel", "claim": name}, type="button", disabled=stopping,
            **{"aria-label": f"Cancel the run of {name}"},
        ),
    ]  # fmt: skip


def left(seconds: float | None) -> str:
    """The time left, no finer than it is known."""
    if seconds is None:
        return "starting …"
    if seconds < 60:
        return f"about {max(seconds, 1):.0f} s left"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min left"
    return f"about {seconds / 3600:.1f} h left"


def ended(run: Progress) -> str:
    """How it ended."""
    if run.state == "done":
        before = f", besides {run.known} that had a result before" if run.known else ""
        return f"Done: {run.done} run{'' if run.done == 1 else 's'}{before}."
    kept = f"{run.kept} of {run.total} runs are kept; the next run goes on from there."
    if run.state == "cancelled":
        return f"Cancelled. {kept}"
    return f"The run ended early: {run.reason.rstrip('.')}. {kept}"


def key(run: Progress | None) -> str:
    """Two of these differ where what is said differs."""
    return "" if run is None else f"{run.state} {run.kept} {run.total} {left(run.left) if run.goes_on else ''}"
