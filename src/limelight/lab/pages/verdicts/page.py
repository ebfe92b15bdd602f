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
from limelight.lab.pages.verdicts.claim_view import claim_page, evidence, pictures, unknown, verdict_view
from limelight.lab.pages.verdicts.progress import progress_key, progress_view
from limelight.lab.pages.verdicts.results_cache import ResultsCache, claim_names, load_claim
from limelight.lab.pages.verdicts.rows import CELLS, cells, table
from limelight.lab.runs import SEEDS, Runs
from limelight.lab.sessions import Sessions


def _body(values: Values) -> Sequence[Component]:
    return [
        dcc.Location(id="verdict-address", refresh=False),
        dcc.Store(id="verdict-look"),  # written when progress or results may have changed
        dcc.Store(id="verdict-names"),  # written when the list of claims has changed
        # The clock stands outside the content that it updates. Inside, Dash would take the rows for outputs of the
        # clock's callback, and would not call the callbacks that fill them.
        dcc.Interval(id="verdict-clock", interval=1000, disabled=True),
        html.P(id="verdict-note", role="status"),
        html.Div(html.P("Reading the claims …", className="hint"), id="verdict-content"),
    ]


def content(query: str, cache: ResultsCache, runs: Runs) -> Component:
    """The page of the claim that the address names, or else the table of all claims. Results are read afterwards."""
    name = parse_qs(query[1:LONGEST], errors="replace").get("claim", [""])[-1]
    known, shown_here, wrong = claim_names(), [], []
    if name and name not in known:
        wrong.append(unknown(shown(name), get_close_matches(name, known, n=1, cutoff=0.5)))
    for each in [name] if name in known else known:
        claim = load_claim(each)
        if isinstance(claim, str):
            wrong.append(html.P(claim, className="wrong"))
        else:
            shown_here.append(claim)
    stamps = [cache.stamp(claim.name) for claim in shown_here]
    progress = [runs.progress(claim.name) for claim in shown_here]
    keys = {claim.name: progress_key(run) for claim, run in zip(shown_here, progress, strict=True)}
    if name not in known:
        body = table(shown_here, stamps, progress)
    elif shown_here:
        body = claim_page(shown_here[0], stamps[0], progress[0])
    else:
        body = html.P(dcc.Link("← All claims", href="/verdicts"))
    running = any(run is not None and run.goes_on for run in progress)
    return html.Div(
        [
            *wrong,
            body,
            dcc.Store(id="verdict-state", data={"all": name not in known, "names": known, "progress": keys}),
        ],
        **{"data-running": "yes" if running else "no"},
    )


def _callbacks(app: Dash, _sessions: Sessions, results: Path) -> None:
    cache, runs = ResultsCache(results), Runs(results)
    app.server.router.on_shutdown.append(runs.end_all)
    _content_callbacks(app, cache, runs)
    _result_callbacks(app, cache)
    _run_callbacks(app, cache, runs)


def _require_claim_name(name: str) -> str:
    """Return the name of a claim. Raise `ValueError` for any other text, since the name becomes part of a path."""
    if name not in claim_names():
        raise ValueError("no such claim")
    return name


class _PartId(TypedDict):
    """The id of a component that belongs to a claim, as the browser sends it."""

    claim: Annotated[str, AfterValidator(_require_claim_name)]


class _PageState(TypedDict):
    """What a page shows: whether it is the table of all claims, all names, and the `progress_key` of each claim."""

    all: bool
    names: list[str]
    progress: dict[str, str]


def _read_claim(name: str) -> Claim:
    claim = load_claim(name)
    if isinstance(claim, str):
        raise PreventUpdate  # the claim was readable when its row was made, and is not any more
    return claim


def _part_id(kind: str, which: Any) -> dict[str, Any]:
    """The id of a component that belongs to a claim: to one claim for `MATCH`, to every claim for `ALL`."""
    return {"verdict": kind, "claim": which}


def _content_callbacks(app: Dash, cache: ResultsCache, runs: Runs) -> None:
    @app.callback(
        Output("verdict-content", "children"), Input("verdict-address", "search"), Input("verdict-names", "data"),
    )  # fmt: skip
    @checked
    def show(query: str | None, _names: Any) -> Component:
        return content(query or "", cache, runs)

    app.clientside_callback(
        ClientsideFunction("verdicts", "arrive"), Output("verdict-content", "title"),
        Input("verdict-content", "children"),
    )  # fmt: skip
    app.clientside_callback(
        ClientsideFunction("verdicts", "pictures"), Input(_part_id("figures", ALL), "data"), prevent_initial_call=True
    )


def _result_callbacks(app: Dash, cache: ResultsCache) -> None:
    row, page = ({"verdict-stamp": of, "claim": MATCH} for of in ("row", "page"))

    @app.callback(
        [Output(_part_id(cell, MATCH), "children") for cell in CELLS], Input(row, "data"), State(row, "id"),
    )  # fmt: skip
    @checked
    def fill(_stamp: Any, given: _PartId) -> tuple[Any, ...]:
        claim = _read_claim(given["claim"])
        return cells(claim, cache.status(claim))

    @app.callback(
        Output(_part_id("ruling", MATCH), "children"), Output(_part_id("evidence", MATCH), "children"),
        Input(page, "data"), State(page, "id"),
    )  # fmt: skip
    @checked
    def verdict(_stamp: Any, given: _PartId) -> tuple[Any, Any]:
        found = cache.status(_read_claim(given["claim"]))
        return verdict_view(found), evidence(found)

    @app.callback(
        Output(_part_id("pictures", MATCH), "children"), Output(_part_id("figures", MATCH), "data"),
        Input(page, "data"), State(page, "id"),
    )  # fmt: skip
    @checked
    def draw(_stamp: Any, given: _PartId) -> tuple[Any, Any]:
        claim = _read_claim(given["claim"])
        try:
            return pictures(claim.name, cache.pictures(claim))
        except Exception as problem:  # a fault in the claim's figures must not hide its numbers
            message = f"The pictures cannot be drawn: {type(problem).__name__}: {problem}"
            return html.P(message, className="wrong"), {}


def seeds_of(given: Any, own: Any) -> int:
    """The number of seeds that a button runs; for the button `"own"` it is the number in the box.

    Both values come from the browser. Raises `InputError` for anything but a whole number.
    """
    value = own if given == "own" else given
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise InputError(f"Seeds: a whole number from {SEEDS[0]} to {SEEDS[1]} is expected.")
    return int(value)


def _run_callbacks(app: Dash, cache: ResultsCache, runs: Runs) -> None:
    stamps = {"verdict-stamp": ALL, "claim": ALL}

    @app.callback(
        Output("verdict-note", "children"), Output("verdict-look", "data"),
        Input({"verdict-run": ALL, "claim": ALL}, "n_clicks"), Input(_part_id("cancel", ALL), "n_clicks"),
        State(_part_id("own", ALL), "value"), prevent_initial_call=True,
    )  # fmt: skip
    @checked
    def press(_run: Any, _cancel: Any, own: list[Any]) -> tuple[str, Any]:
        pressed = ctx.triggered_id
        if not isinstance(pressed, dict) or not any(each["value"] for each in ctx.triggered):
            raise PreventUpdate  # a button was added to the page, and none was pressed
        message = ""
        try:
            if "verdict" in pressed:
                runs.cancel(str(pressed["claim"]))
            else:
                seeds = seeds_of(pressed["verdict-run"], own[0] if own else None)
                runs.start(catalog.claim(str(pressed["claim"])), seeds)
        except (LimelightError, OSError) as problem:
            message = str(problem)
        return message, {"pressed": time.time()}

    @app.callback(
        Output(_part_id("progress", ALL), "children"), Output(stamps, "data"), Output("verdict-state", "data"),
        Output("verdict-clock", "disabled"), Output("verdict-names", "data"),
        Input("verdict-clock", "n_intervals"), Input("verdict-look", "data"),
        State(_part_id("progress", ALL), "id"), State(stamps, "id"), State(stamps, "data"),
        State("verdict-state", "data"), prevent_initial_call=True,
    )  # fmt: skip
    @checked
    def look(
        _: Any, __: Any, places: list[_PartId], ids: list[_PartId], held: list[str | None], state: _PageState
    ) -> tuple[Any, ...]:
        shown_here = [place["claim"] for place in places]
        progress = {name: runs.progress(name) for name in shown_here}
        keys = {name: progress_key(run) for name, run in progress.items()}
        views = [
            no_update if keys[name] == state["progress"].get(name) else progress_view(name, progress[name])
            for name in shown_here
        ]
        # The results are read again when a run has ended, not after each of its trials.
        running = [name for name, run in progress.items() if run is not None and run.goes_on]
        fresh = [no_update if each["claim"] in running else cache.stamp(each["claim"]) for each in ids]
        renewed = [no_update if new == old else new for new, old in zip(fresh, held, strict=True)]
        known = claim_names()
        changed_names = known if state["all"] and known != state["names"] else no_update
        return views, renewed, {**state, "progress": keys}, not running, changed_names


PAGE = Page(
    name="verdicts",
    order=6,
    assets=(Path(__file__).with_name("verdicts.css"), Path(__file__).with_name("verdicts.js")),
    label="Verdicts",
    title="Claims about attention, put to the test",
    lead="Thresholds were written before any result was seen. "
    f"Intervals are at {CONFIDENCE:.0%}, over paired seeds. Every claim has a control that ought to fail. "
    "Open one for its numbers and pictures; run it here, on this machine.",
    tour=(
        TourStep("Open a claim.",
             "A verdict is computed: each part names an effect and what was expected of it. A part holds or fails where the whole "
             "interval lies on one side of the threshold, and is undecided where the threshold lies inside the interval."),
        TourStep("Look at the shaded range of a bar, then at its line.",
             "The range was committed before the judged seeds were run; the line is the interval that was measured. No threshold "
             "was moved to meet a result."),
        TourStep("Find the control, in the last row of a claim's table.",
             "It is compared with the same threshold and ought to fail. Where it does not fail, the test could not tell a true "
             "claim from a false one, and the claim is inconclusive whatever its parts say."),
        TourStep("Run a claim, and cancel it in the middle.",
             "Each finished run is a file of its own: what was computed is kept, and the next run computes the rest. When a run "
             "is done, its verdict on this page is computed again. It may be mixed or refuted: those are results, too."),
    ),
    body=_body,
    callbacks=_callbacks,
)  # fmt: skip
