"""Slopes, live: how a gate and a ReLU network come to draw the same surface, or do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from pydantic import AfterValidator
from typing_extensions import TypedDict

from limelight.errors import InputError
from limelight.lab.address import Values, shown
from limelight.lab.calls import checked
from limelight.lab.page import Page, TourStep, picture
from limelight.lab.pages.slopes.settings import FIELDS
from limelight.lab.sessions import Sessions, key_of
from limelight.lab.upload import ROWS, SIZE, upload_of

_FILES = ".csv,.tsv,.txt,.dat,text/csv,text/plain,text/tab-separated-values"  # that a browser offers to choose from


class _Page(TypedDict):
    """What a page keeps of itself, as far as it is used here."""

    key: Annotated[str, AfterValidator(key_of)]


def _body(values: Values) -> Sequence[Component]:
    return [
        picture("slopes-gate", "The gate: linear experts, one of which answers where its weight is largest.", 380,
                said="slopes-said-gate"),
        picture("slopes-relu", "The ReLU network: planes, joined along folds.", 380, said="slopes-said-relu"),
        picture("slopes-weights", "The gate's attention over y: which expert answers where.", 320),
        picture("slopes-loss", "Training error, as a share of the variance of z.", 320),
    ]  # fmt: skip


def _extra() -> Sequence[Component]:
    return [
        html.Details(
            [
                html.Summary("Data of your own"),
                html.P(
                    f"A CSV file with two inputs and an output in each row, {ROWS[0]} to {ROWS[1]:,} rows and at most "
                    f"{SIZE >> 20} MB. Its separator, decimal mark and encoding are found in the file, and told below. "
                    "Inputs are scaled to the range of the drawn data, the output to its deviation. "
                    "It stays on this machine, and is no part of the link.",
                    className="hint",
                ),
                dcc.Upload(html.Button("Choose a CSV file", type="button"), id="upload", accept=_FILES),
                html.P(id="uploaded", role="status", className="hint"),
                html.Button("Back to the drawn data", id="drawn", type="button", className="quiet"),
            ],
            **{"data-most": SIZE},
        )
    ]


def _callbacks(app: Dash, sessions: Sessions, _results: Path) -> None:
    @app.callback(
        Output("uploaded", "children"), Output("upload", "contents"),
        Input("upload", "contents"), Input("drawn", "n_clicks"), State("upload", "filename"), State("page", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    @checked
    def upload(contents: str | None, _drawn: Any, name: str | None, page: _Page) -> tuple[Any, Any]:
        came = ctx.triggered_id == "upload"
        if came and not contents:
            return no_update, no_update
        rows, said = [], "The drawn data are back."
        if came:
            try:
                read = upload_of(contents or "")
            except InputError as problem:
                return f"{shown(name)}: {problem}", None
            rows, said = read.rows, f"{shown(name)}: {read.told}"
        sessions.send(page["key"], "act", name="data", given=rows)
        return said, None


PAGE = Page(
    name="slopes",
    label="Slopes",
    title="Five lines, two ways to draw them",
    lead="The data follow z = a(y)·x, and the slope a jumps between five values as y goes on. A gate, which is attention with "
    "learned keys, mixes linear experts; a ReLU network folds planes. Both learn the same points at the same time.",
    tour=(
        TourStep("Press Play, and turn either surface with the mouse or a finger.",
             "The gate bends towards five flat sheets, each one expert. The ReLU network tiles the same points with planes; the "
             "words below say how many."),
        TourStep("Look at what lies beyond the data, or switch it off with the box.",
             "Where there were no data the gate's sheets go on straight, as lines do. The ReLU network goes on with whichever "
             "plane it had last."),
        TourStep("Take experts away until fewer than five are left, while it plays.",
             "Now no choice of the gate will do, and two bands must share a slope: what it learns are the lines themselves."),
        TourStep("Lower the gate's temperature, then raise it.",
             "Cold, the weights over y switch from one expert to the next. Warm, experts blend, and the sheets with them."),
        TourStep("Move the five slopes.",
             "The data change under the networks as they learn. The one that holds lines has only to turn them."),
    ),
    body=_body,
    order=1,
    simulation="limelight.lab.pages.slopes.simulation",
    fields=FIELDS,
    groups=(
        ("The networks", ("experts", "temperature", "width", "rate")),
        ("The data", ("noise", "a1", "a2", "a3", "a4", "a5", "seed")),
        ("The view", ("speed", "outside")),
    ),
    extra=_extra,
    callbacks=_callbacks,
)  # fmt: skip
