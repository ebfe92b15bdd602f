"""The page of slopes: its texts, its layout, and the upload of a CSV file."""

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

_FILES = ".csv,.tsv,.txt,.dat,text/csv,text/plain,text/tab-separated-values"  # the kinds of files that a browser offers


class _Page(TypedDict):
    """The part of a page's own data that is used here."""

    key: Annotated[str, AfterValidator(key_of)]


def _body(values: Values) -> Sequence[Component]:
    return [
        picture("slopes-gate", "The gate: in each band of y, the expert with the largest weight determines the output.", 380,
                said="slopes-said-gate"),
        picture("slopes-relu", "The ReLU network: planes, joined along folds.", 380, said="slopes-said-relu"),
        picture("slopes-weights", "The gate's attention over y: which expert has the weight where.", 320),
        picture("slopes-loss", "Training error, as a share of the variance of z.", 320),
    ]  # fmt: skip


def _extra() -> Sequence[Component]:
    return [
        html.Details(
            [
                html.Summary("Your own data"),
                html.P(
                    f"A CSV file with two inputs and an output in each row, {ROWS[0]} to {ROWS[1]:,} rows and at most "
                    f"{SIZE >> 20} MB. Its separator, decimal mark and encoding are recognized, and shown below. "
                    "Inputs are scaled to the range of the drawn data, the output to mean 0 and standard deviation 1. "
                    "The file stays on this machine, and is not part of the link.",
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
        rows, said = [], "The drawn data are used again."
        if came:
            try:
                read = upload_of(contents or "")
            except InputError as problem:
                return f"{shown(name)}: {problem}", None
            rows, said = read.rows, f"{shown(name)}: {read.description}"
        sessions.send(page["key"], "act", name="data", given=rows)
        return said, None


PAGE = Page(
    name="slopes",
    label="Slopes",
    title="Five lines, learned by two networks",
    lead="The data follow z = a(y)·x, and the slope a jumps between five values as y increases. A gate, which is attention with "
    "learned keys, mixes linear experts; a ReLU network joins planes along folds. Both learn the same points at the same time.",
    tour=(
        TourStep("Press Play, and turn either surface with the mouse or a finger.",
             "The gate approaches five flat sheets, one for each expert. The ReLU network covers the same points with planes; the "
             "text below says how many."),
        TourStep("Look at the surfaces beyond the data. The checkbox under “The view” hides that part.",
             "Where there are no data, the gate's sheets continue as straight lines. The ReLU network continues the plane that it "
             "has at the edge of the data."),
        TourStep("Reduce the number of experts below five, while it plays.",
             "Now there are too few experts, so two bands must share a slope: each expert has learned one of the lines."),
        TourStep("Lower the gate's temperature, then raise it.",
             "At a low temperature the weights switch sharply from one expert to the next along y. At a high one the experts "
             "are mixed, and so are their sheets."),
        TourStep("Move the five slopes.",
             "The data change while the networks learn. The gate, which represents lines, only has to turn them; the ReLU network "
             "must rearrange its planes."),
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
