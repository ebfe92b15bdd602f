"""How a page shows a run: its button, its progress with the time left, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from limelight.lab.runs import Progress


def run_button(name: str, seeds: int | str, label: str = "") -> Component:
    """A button that runs a claim for this many seeds; for `"own"`, the number of seeds is taken from the box."""
    # In the table each row has such a button, so its label for screen readers names the claim.
    aria = {} if label else {"aria-label": f"Run {seeds} seeds of {name}"}
    return html.Button(label or f"Run {seeds} seeds", id={"verdict-run": seeds, "claim": name}, type="button", **aria)


def progress_view(name: str, run: Progress | None) -> Sequence[Component]:
    """The progress bar and the Cancel button of a claim's run, or how its last run ended; empty if it was never run."""
    if run is None:
        return []
    if not run.goes_on:
        return [html.P(end_message(run), className=f"ended {run.state}", role="status")]
    label = f"{run.kept} of {run.total} runs"
    stopping = run.state == "stopping"
    return [
        html.Progress(value=str(run.kept), max=str(run.total), **{"aria-label": f"{name}: {label}"}),
        html.Span([label, html.Br(), "stopping …" if stopping else time_left(run.left)], className="far"),
        html.Button(
            "Cancel", id={"verdict": "cancel", "claim": name}, type="button", disabled=stopping,
            **{"aria-label": f"Cancel the run of {name}"},
        ),
    ]  # fmt: skip


def time_left(seconds: float | None) -> str:
    """The estimated time left, in seconds, minutes or hours as it is shorter or longer."""
    if seconds is None:
        return "starting …"
    if seconds < 60:
        return f"about {max(seconds, 1):.0f} s left"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min left"
    return f"about {seconds / 3600:.1f} h left"


def end_message(run: Progress) -> str:
    """One sentence on how the run ended, and one on the results that are kept."""
    if run.state == "done":
        before = f", besides {run.known} that had a result before" if run.known else ""
        return f"Done: {run.done} run{'' if run.done == 1 else 's'}{before}."
    kept = f"{run.kept} of {run.total} runs are kept; the next run computes the rest."
    if run.state == "canceled":
        return f"Canceled. {kept}"
    return f"The run ended early: {run.reason.rstrip('.')}. {kept}"


def progress_key(run: Progress | None) -> str:
    """A text that differs whenever `progress_view` differs, so that an unchanged view is not sent again."""
    return "" if run is None else f"{run.state} {run.kept} {run.total} {time_left(run.left) if run.goes_on else ''}"
