"""The table of all claims: a row for each, which is filled when its results have been read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dash import dcc, html
from dash.development.base_component import Component

from limelight.experiment.claim import Claim
from limelight.experiment.runner import FULL, QUICK
from limelight.experiment.verdict import Verdict
from limelight.lab.pages.verdicts.parts import badge, effect
from limelight.lab.pages.verdicts.progress import progress_view, run_button
from limelight.lab.pages.verdicts.results_cache import ClaimStatus
from limelight.lab.runs import Progress
from limelight.report.effect_text import MARKS

HEADINGS = ("Claim", "Verdict", "Parts that hold", "Main effect, expected in the shaded range", "Seeds", "Run it")
CELLS = ("badge", "parts", "effect", "seeds", "offer")  # the cells of a row after its title


def table(claims: Sequence[Claim], stamps: Sequence[str], runs: Sequence[Progress | None]) -> Component:
    """The table of all claims, whose cells are filled in once the results have been read."""
    rows = [_row(*each) for each in zip(claims, stamps, runs, strict=True)]
    head = html.Thead(html.Tr([html.Th(heading, scope="col") for heading in HEADINGS]))
    return html.Table([html.Caption(f"{len(claims)} claims"), head, html.Tbody(rows)], className="claims")


def _row(claim: Claim, stamp: str, run: Progress | None) -> Component:
    badge, parts, effect, seeds, offer = (
        html.Div("…" if cell == "badge" else None, id={"verdict": cell, "claim": claim.name}) for cell in CELLS
    )
    title = html.Th(
        [
            dcc.Link(claim.title, href=f"/verdicts?claim={claim.name}"),
            dcc.Store(id={"verdict-stamp": "row", "claim": claim.name}, data=stamp),
        ],
        scope="row",
    )
    progress = html.Div(
        progress_view(claim.name, run), id={"verdict": "progress", "claim": claim.name}, className="run-progress"
    )
    return html.Tr([title, *(html.Td(cell) for cell in (badge, parts, effect, seeds)), html.Td([offer, progress])])


def cells(claim: Claim, found: ClaimStatus) -> tuple[object, ...]:
    """The contents of a row's cells, in the order of `CELLS`."""
    chosen = next_run_button(claim.name, found.seeds)
    if found.wrong:
        return "", "", html.Span(found.wrong, className="wrong"), "", chosen
    if found.verdict is None:
        return html.Span("no result yet", className="none"), "", _kept(found), "", chosen
    verdict = found.verdict
    return badge(verdict.outcome), _parts(verdict), effect(verdict.parts[0], described=True), _seeds(found), chosen


def _kept(found: ClaimStatus) -> Component:
    if found.kept:
        text = f"{_runs(found.kept)} kept, but no seed is complete."
    elif found.others:
        text = f"{_runs(found.others)} computed by other code or other package versions, which do not count."
    else:
        text = "Not run yet."
    return html.Span(text, className="hint")


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _parts(verdict: Verdict) -> Component:
    marks = [html.Span(MARKS[part.outcome], className=f"mark {part.outcome}") for part in verdict.parts]
    return html.Div(
        [f"{verdict.holding} of {len(verdict.parts)}", html.Div(marks, className="marks", **{"aria-hidden": "true"})]
    )


def _seeds(found: ClaimStatus) -> Component:
    parts: list[Component | str] = [str(found.seeds)]
    if found.newest is not None:
        when = datetime.fromtimestamp(found.newest).astimezone()
        parts.append(html.Time(f"{when:%Y-%m-%d %H:%M}", dateTime=when.isoformat(timespec="seconds"), className="hint"))
    return html.Div(parts)


def next_run_button(name: str, seeds: int) -> Component | None:
    """A button for the next useful run: `QUICK` seeds, then `FULL` seeds; None if there are results for all of them."""
    if seeds >= FULL:
        return None
    return run_button(name, QUICK if seeds < QUICK else FULL)
