"""One claim in full: its verdict and the evidence for it, its pictures, and a way to run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from limelight.experiment.claim import Claim
from limelight.experiment.runner import FULL, QUICK
from limelight.experiment.verdict import LEAST_SEEDS
from limelight.lab.pages.verdicts.parts import parts, ruling
from limelight.lab.pages.verdicts.progress import progress_view, run_button
from limelight.lab.pages.verdicts.results_cache import ClaimStatus, Pictures
from limelight.lab.runs import SEEDS, Progress


def claim_page(claim: Claim, stamp: str, run: Progress | None) -> Component:
    """The page of one claim, whose verdict, evidence and pictures are filled in once the results have been read."""
    name = claim.name
    return html.Article(
        [
            html.P(dcc.Link("← All claims", href="/verdicts")),
            html.H2(claim.title, tabIndex="-1", id="verdict-title"),
            html.Div(
                [
                    html.Div(
                        [
                            html.Div(
                                html.P("Reading the results …", className="hint"),
                                id={"verdict": "ruling", "claim": name},
                            ),
                            html.P(claim.question, className="question"),
                            html.P(f"Source: {claim.source}", className="source"),
                            html.H3("Who competes"),
                            _arms(claim),
                        ]
                    ),
                    _panel(name, run),
                ],
                className="case",
            ),
            html.Div(id={"verdict": "evidence", "claim": name}),
            html.Div(id={"verdict": "pictures", "claim": name}),
            dcc.Store(id={"verdict-stamp": "page", "claim": name}, data=stamp),
            dcc.Store(id={"verdict": "figures", "claim": name}),
        ],
        className="claim",
    )


def _arms(claim: Claim) -> Component:
    rows: list[Component] = []
    for arm, says in claim.arms.items():
        control = [" ", html.Span("control", className="mark control")] if arm == claim.control else []
        rows += [html.Dt([arm, *control]), html.Dd(says)]
    return html.Dl(rows, className="arms")


def _panel(name: str, run: Progress | None) -> Component:
    own = dcc.Input(
        id={"verdict": "own", "claim": name}, type="number", min=SEEDS[0], max=SEEDS[1], step=1, value=QUICK + 10,
    )  # fmt: skip
    return html.Section(
        [
            html.H3("Run it", id="verdict-run-title"),
            html.P(
                "Only runs without a result are computed, in the background. A verdict needs at least "
                f"{LEAST_SEEDS} seeds.",
                className="hint",
            ),
            html.Div(
                [run_button(name, QUICK, f"{QUICK} seeds (quick)"), run_button(name, FULL, f"{FULL} seeds")],
                className="offers",
            ),
            html.Div([html.Label(["Seeds ", own]), run_button(name, "own", "Run")], className="offers"),
            html.Div(progress_view(name, run), id={"verdict": "progress", "claim": name}, className="run-progress"),
        ],
        className="panel running",
        **{"aria-labelledby": "verdict-run-title"},
    )


def verdict_view(found: ClaimStatus) -> Component:
    """The verdict, or the reason why there is none."""
    if found.wrong:
        return html.P(found.wrong, className="wrong")
    if found.verdict is not None:
        return ruling(found.verdict, found.finding)
    message = "There is no result yet."
    if found.kept:
        message = f"There is no verdict yet: {found.kept} runs have a result, but no seed has one for every arm."
    return html.P([html.Strong(message), " Run it, or open another claim."], className="ruling")


def evidence(found: ClaimStatus) -> list[Component]:
    """The parts of the verdict with their numbers, the runs that failed, and the command that repeats them all."""
    shown: list[Component] = []
    if found.verdict is not None:
        if found.finding != found.verdict.sentence:
            shown.append(html.P(found.verdict.sentence))
        shown.append(parts(found.verdict, found.seeds))
    if found.failures:
        shown.append(
            html.Details(
                [
                    html.Summary(f"{len(found.failures)} of {found.kept} runs failed"),
                    html.Ul([html.Li(failure) for failure in found.failures]),
                ]
            )
        )
    if found.command:
        spent = f" ({found.kept} runs, {found.seconds:.0f} core seconds)"
        shown.append(html.P(["To repeat it: ", html.Code(found.command), spent], className="repeat"))
    for count, description in (
        (found.others, "were computed by other code or other package versions, and do not count"),
        (found.damaged, "were damaged: they were moved to the folder damaged, and their runs have no result"),
    ):
        if count:
            shown.append(html.P(f"Of the files in the results folder, {count} {description}.", className="hint"))
    return shown


def pictures(name: str, drawn: Pictures) -> tuple[list[Component], dict[str, Any]]:
    """Empty places for a claim's pictures with their captions, and the figure for each place by the place's id."""
    figures: dict[str, Any] = {}
    shown: list[Component] = []
    for caption, group in drawn:
        places = []
        for figure in group:
            place = f"verdict-picture-{name}-{len(figures)}"
            figures[place] = figure
            places.append(_place(place, caption, int(figure["layout"]["height"])))
        panels = html.Div(places, className="panels" if len(places) > 1 else "panels single")
        shown.append(html.Figure([panels, html.Figcaption(caption)]))
    return shown, figures


def _place(place: str, caption: str, height: int) -> Component:
    return html.Div(
        id=place, key=place, className="plot", style={"height": f"{height}px"}, role="group", **{"aria-label": caption}
    )


def unknown(name: str, near: Sequence[str]) -> Component:
    """The message for a name that no claim has, with the most similar name if there is one."""
    hint = [" Did you mean ", dcc.Link(near[0], href=f"/verdicts?claim={near[0]}"), "?"] if near else []
    return html.P([f"There is no claim called {name}.", *hint, " The table below lists all claims."], className="wrong")
