"""Verdicts: every claim with what was found, its pictures, and a way to run it from the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from dash import ALL, MATCH, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate
from pydantic import AfterValidator
from typing_extensions import TypedDict

from limelight.errors import InputError, LimelightError
from limelight.experiment import catalog
from limelight.experiment.claim import Claim
from limelight.experiment.statistics import CONFIDENCE
from limelight.lab.address import LONGEST, Values, shown
from limelight.lab.calls import checked
from limelight.lab.page import Page, TourStep
from limelight.lab.pages.verdicts.claim_view import evidence, opened, pictures, ruled, unknown
from limelight.lab.pages.verdicts.progress import key, now
from limelight.lab.pages.verdicts.results_cache import ResultsCache, claim_of, names
from limelight.lab.pages.verdicts.rows import CELLS, cells, table
from limelight.lab.runs import SEEDS, Runs
from limelight.lab.sessions import Sessions


def _body(values: Values) -> Sequence[Component]:
    return [
        dcc.Location(id="verdict-address", refresh=False),
        dcc.Store(id="verdict-look"),  # written when there may be something new
        dcc.Store(id="verdict-names"),  # written when there is another claim
        # Outside of what it renews: else Dash takes the rows for its results, and does not ask for them.
        dcc.Interval(id="verdict-clock", interval=1000, disabled=True),
        html.P(id="verdict-note", role="status"),
        html.Div(html.P("Reading the claims …", className="hint"), id="verdict-content"),
    ]


def content(query: str, shelf: ResultsCache, runs: Runs) -> Component:
    """One claim in full where the address names one, else the table of all; results are read afterwards."""
    name = parse_qs(query[1:LONGEST], errors="replace").get("claim", [""])[-1]
    known, shown_here, wrong = names(), [], []
    if name and name not in known:
        wrong.append(unknown(shown(name), get_close_matches(name, known, n=1, cutoff=0.5)))
    for each in [name] if name in known else known:
        claim = claim_of(each)
        if isinstance(claim, str):
            wrong.append(html.P(claim, className="wrong"))
        else:
            shown_here.append(claim)
    stamps = [shelf.stamp(claim.name) for claim in shown_here]
    progress = [runs.progress(claim.name) for claim in shown_here]
    told = {claim.name: key(run) for claim, run in zip(shown_here, progress, strict=True)}
    if name not in known:
        body = table(shown_here, stamps, progress)
    elif shown_here:
        body = opened(shown_here[0], stamps[0], progress[0])
    else:
        body = html.P(dcc.Link("← All claims", href="/verdicts"))
    running = any(run is not None and run.goes_on for run in progress)
    return html.Div(
        [
            *wrong,
            body,
            dcc.Store(id="verdict-told", data={"all": name not in known, "names": known, "told": told}),
        ],
        **{"data-running": "yes" if running else "no"},
    )


def _callbacks(app: Dash, _sessions: Sessions, results: Path) -> None:
    shelf, runs = ResultsCache(results), Runs(results)
    app.server.router.on_shutdown.append(runs.end_all)
    _show(app, shelf, runs)
    _read(app, shelf)
    _run(app, shelf, runs)


def _known(name: str) -> str:
    """The name of a claim that there is. Raises `ValueError` for any other: it becomes part of a path."""
    if name not in names():
        raise ValueError("no such claim")
    return name


class _Of(TypedDict):
    """The id of a part of a claim's, as a page tells it."""

    claim: Annotated[str, AfterValidator(_known)]


class _Told(TypedDict):
    """What a page was told last."""

    all: bool
    names: list[str]
    told: dict[str, str]


def _read_claim(name: str) -> Claim:
    claim = claim_of(name)
    if isinstance(claim, str):
        raise PreventUpdate  # it could be read when its row was made
    return claim


def _of(kind: str, which: Any) -> dict[str, Any]:
    """The id of a part of one claim's, by `MATCH`, or of all of them, by `ALL`."""
    return {"verdict": kind, "claim": which}


def _show(app: Dash, shelf: ResultsCache, runs: Runs) -> None:
    @app.callback(
        Output("verdict-content", "children"), Input("verdict-address", "search"), Input("verdict-names", "data"),
    )  # fmt: skip
    @checked
    def show(query: str | None, _names: Any) -> Component:
        return content(query or "", shelf, runs)

    app.clientside_callback(
        ClientsideFunction("verdicts", "arrive"), Output("verdict-content", "title"),
        Input("verdict-content", "children"),
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("verdicts", "pictures"), Input(_of("figures", ALL), "data"), prevent_initial_call=True
    )


def _read(app: Dash, shelf: ResultsCache) -> None:
    row, page = ({"verdict-stamp": of, "claim": MATCH} for of in ("row", "page"))

    @app.callback(
        [Output(_of(cell, MATCH), "children") for cell in CELLS], Input(row, "data"), State(row, "id"),
    )  # fmt: skip
    @checked
    def fill(_stamp: Any, given: _Of) -> tuple[Any, ...]:
        claim = _read_claim(given["claim"])
        return cells(claim, shelf.found(claim))

    @app.callback(
        Output(_of("ruling", MATCH), "children"), Output(_of("evidence", MATCH), "children"),
        Input(page, "data"), State(page, "id"),
    )  # fmt: skip
    @checked
    def verdict(_stamp: Any, given: _Of) -> tuple[Any, Any]:
        found = shelf.found(_read_claim(given["claim"]))
        return ruled(found), evidence(found)

    @app.callback(
        Output(_of("pictures", MATCH), "children"), Output(_of("figures", MATCH), "data"),
        Input(page, "data"), State(page, "id"),
    )  # fmt: skip
    @checked
    def draw(_stamp: Any, given: _Of) -> tuple[Any, Any]:
        claim = _read_claim(given["claim"])
        try:
            return pictures(claim.name, shelf.drawn(claim))
        except Exception as problem:  # of the claim: its numbers are told all the same
            told = f"The pictures cannot be drawn: {type(problem).__name__}: {problem}"
            return html.P(told, className="wrong"), {}


def seeds_of(given: Any, own: Any) -> int:
    """How many seeds a button is for; `"own"` takes those in the box. Both come from outside."""
    value = own if given == "own" else given
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise InputError(f"Seeds: a whole number from {SEEDS[0]} to {SEEDS[1]} is expected.")
    return int(value)


def _run(app: Dash, shelf: ResultsCache, runs: Runs) -> None:
    stamps = {"verdict-stamp": ALL, "claim": ALL}

    @app.callback(
        Output("verdict-note", "children"), Output("verdict-look", "data"),
        Input({"verdict-run": ALL, "claim": ALL}, "n_clicks"), Input(_of("cancel", ALL), "n_clicks"),
        State(_of("own", ALL), "value"), prevent_initial_call=True,
    )  # fmt: skip
    @checked
    def press(_run: Any, _cancel: Any, own: list[Any]) -> tuple[str, Any]:
        pressed = ctx.triggered_id
        if not isinstance(pressed, dict) or not any(each["value"] for each in ctx.triggered):
            raise PreventUpdate  # a button that has come, not one that was pressed
        said = ""
        try:
            if "verdict" in pressed:
                runs.cancel(str(pressed["claim"]))
            else:
                seeds = seeds_of(pressed["verdict-run"], own[0] if own else None)
                runs.start(catalog.claim(str(pressed["claim"])), seeds)
        except (LimelightError, OSError) as problem:
            said = str(problem)
        return said, {"pressed": time.time()}

    @app.callback(
        Output(_of("now", ALL), "children"), Output(stamps, "data"), Output("verdict-told", "data"),
        Output("verdict-clock", "disabled"), Output("verdict-names", "data"),
        Input("verdict-clock", "n_intervals"), Input("verdict-look", "data"),
        State(_of("now", ALL), "id"), State(stamps, "id"), State(stamps, "data"), State("verdict-told", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    @checked
    def look(
        _: Any, __: Any, places: list[_Of], ids: list[_Of], held: list[str | None], told: _Told
    ) -> tuple[Any, ...]:
        shown_here = [place["claim"] for place in places]
        progress = {name: runs.progress(name) for name in shown_here}
        keys = {name: key(run) for name, run in progress.items()}
        said = [no_update if keys[name] == told["told"].get(name) else now(name, progress[name]) for name in shown_here]
        # A verdict is given anew when a run has ended, and not at each of its trials.
        going = [name for name, run in progress.items() if run is not None and run.goes_on]
        fresh = [no_update if each["claim"] in going else shelf.stamp(each["claim"]) for each in ids]
        renewed = [no_update if new == old else new for new, old in zip(fresh, held, strict=True)]
        known = names()
        another = known if told["all"] and known != told["names"] else no_update
        return said, renewed, {**told, "told": keys}, not going, another


PAGE = Page(
    name="verdicts",
    order=4,
    assets=(Path(__file__).with_name("verdicts.css"), Path(__file__).with_name("verdicts.js")),
    label="Verdicts",
    title="Claims about attention, put to the test",
    lead="Thresholds were written before any result was seen. "
    f"Intervals are at {CONFIDENCE:.0%}, over paired seeds. Every claim has a control that ought to fail. "
    "Open one for its numbers and pictures; run it here, on this machine.",
    tour=(
        TourStep("Open a claim.",
             "A verdict is no opinion: each part names an effect and what was expected of it. It holds or fails where the whole "
             "interval lies on one side of the threshold, and is undecided where the threshold lies inside."),
        TourStep("Look at the shaded range of a bar, then at its line.",
             "The range was committed before the judged seeds were run; the line is what came. No threshold was moved to meet a "
             "result."),
        TourStep("Find the control, in the last row of a claim's table.",
             "It is held against the same threshold and ought to fail. Where it does not, the test could not have told, and the "
             "claim is inconclusive whatever its parts say."),
        TourStep("Run a claim, and cancel it in the middle.",
             "Each finished run is a file of its own: what was computed is kept, and the next run goes on from there. When it is "
             "done the verdict here is given anew. It may be mixed or refuted: those are results, too."),
    ),
    body=_body,
    callbacks=_callbacks,
)  # fmt: skip
