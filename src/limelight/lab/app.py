"""The lab as a Dash application: one frame for all pages.

A page with a simulation requests a frame over its websocket, receives one as soon as something has changed, draws it,
and requests the next (`websocket.py`). So it always draws the newest frame, and a slow browser receives fewer.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from limelight.lab import controls
from limelight.lab.address import Values, from_query, shown
from limelight.lab.calls import Calls, Checked, checked
from limelight.lab.page import Page
from limelight.lab.pages import PAGES
from limelight.lab.sessions import Sessions
from limelight.lab.websocket import serve_frames

_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
{%favicon%}
<style>__STYLE__</style>
{%css%}
__STYLES__
<link rel="preload" as="script" href="/plotly.js?__PLOTLY__" id="plotly">
</head>
<body>
{%app_entry%}
<noscript><p class="wrap">The lab needs JavaScript. Enable it and reload this page.</p></noscript>
<footer>{%config%}{%scripts%}
__SCRIPTS__
{%renderer%}</footer>
</body>
</html>"""


def build(sessions: Sessions, results: Path, pages: Sequence[Page] = PAGES) -> Dash:
    """The Dash application. `sessions` holds its workers; `results` is the folder that its verdicts are read from."""
    style = files("limelight.report").joinpath("report.css").read_text(encoding="utf-8")
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.add_api_route("/plotly.js", _plotly, include_in_schema=False)
    assets = [asset for page in pages for asset in page.assets]
    for asset in assets:
        server.add_api_route(f"/page/{asset.name}", _sender(asset), include_in_schema=False)
    app = Dash(
        "limelight.lab",
        title="Limelight",
        server=server,
        backend="fastapi",
        websocket_callbacks=True,
        websocket_batch_delay=0,
        websocket_inactivity_timeout=0,
        assets_folder=str(files("limelight.lab").joinpath("assets")),
        index_string=_index(style, assets),
        update_title="",
        suppress_callback_exceptions=True,
        add_log_handler=False,
    )
    app.layout = html.Div(
        [
            dcc.Location(id="address", refresh=False),
            html.A("Skip to the page", href="#content", className="skip"),
            html.Div(id="banner", role="alert", hidden=True),
            _header(pages),
            html.Main(html.P("Loading …", className="wrap hint"), id="content"),
        ]
    )
    named = {page.name: page for page in pages}
    _route(app, named)
    _play(app)
    serve_frames(server, sessions, named)
    for page in pages:
        page.callbacks(app, sessions, results)
    # Dash would do this at the first request to /. If another page were requested first, it would lack its scripts.
    app._setup_server()
    server.add_middleware(Checked, calls=Calls(app.callback_map))  # the middleware added last sees each request first
    return app


def _sender(path: Path) -> Callable[[], FileResponse]:
    def send() -> FileResponse:
        return FileResponse(path)

    return send


def _index(style: str, assets: Sequence[Path]) -> str:
    """The HTML page around the application. Asset addresses hold a version, so that browsers reload changed assets."""
    address = {asset: f"/page/{asset.name}?{asset.stat().st_mtime_ns}" for asset in assets}
    styles = [f'<link rel="stylesheet" href="{address[asset]}">' for asset in assets if asset.suffix == ".css"]
    scripts = [f'<script src="{address[asset]}"></script>' for asset in assets if asset.suffix == ".js"]
    index = _INDEX.replace("__STYLE__", style).replace("__PLOTLY__", get_plotlyjs_version())
    return index.replace("__STYLES__", "\n".join(styles)).replace("__SCRIPTS__", "\n".join(scripts))


def _plotly() -> Response:
    """The Plotly script of the installed package, which browsers may cache for a year."""
    return Response(get_plotlyjs(), media_type="text/javascript", headers={"cache-control": "max-age=31536000"})


def _header(pages: Sequence[Page]) -> Component:
    links = [html.A(page.label, href=f"/{page.name}", id={"link": page.name}) for page in pages]
    return html.Header(
        html.Div(
            [
                html.A("Limelight", href="/", className="brand"),
                html.Nav(links, **{"aria-label": "Pages"}),
                html.Button(
                    ["◐", html.Span(" light or dark")], id="theme", type="button",
                    **{"aria-label": "Choose light or dark"},
                ),
            ],
            className="wrap",
        )
    )  # fmt: skip


def _route(app: Dash, pages: Mapping[str, Page]) -> None:
    @app.callback(
        Output("content", "children"), Input("address", "pathname"), State("address", "search"),
        websocket=False,
    )  # fmt: skip
    @checked
    def show(path: str | None, query: str | None) -> Component:
        name = (path or "").strip("/") or next(iter(pages))
        if name not in pages:
            return html.Div(
                [
                    html.H1("There is no such page"),
                    html.P(f"The lab has no page called {shown(name)}. The menu lists all pages."),
                ],
                className="wrap",
            )
        values, wrong = from_query(pages[name].fields, query or "")
        return content(pages[name], values, wrong)

    app.clientside_callback(
        ClientsideFunction("lab", "arrive"), Output("content", "className"), Input("content", "children"),
        State("address", "pathname"),
    )  # fmt: skip


def content(page: Page, values: Values, wrong: Sequence[str]) -> Component:
    """The layout of a page before its simulation has run."""
    tour = html.Details(
        [
            html.Summary("A short tour"),
            html.Ol([html.Li([html.Strong(stop.do), " ", stop.see]) for stop in page.tour]),
        ],
        className="tour",
        open=True,
    )
    title = [html.H1(page.title), html.P(page.lead, className="lead")]
    if page.simulation is None:
        return html.Div([*title, *page.body(values), tour], className="wrap")
    players = [
        html.Button("Play", id="play", type="button", className="primary"),
        html.Button("Step", id="step", type="button"),
        html.Button("Reset", id="reset", type="button"),
    ]
    buttons = html.Div(
        [
            *(players if page.plays else ()),
            html.Button("Copy the link", id="copy", type="button", className="quiet"),
            html.Span(id=f"{page.name}-step", className="step"),
        ],
        className="buttons",
        role="group",
        **{"aria-label": "Play" if page.plays else "Share"},
    )
    settings = controls.settings(page.fields, values, wrong)
    panel = [
        buttons,
        html.P(id="note", role="status"),
        html.P(settings["wrong"], id="wrong", role="status"),
        *controls.panel(page.fields, page.groups, values),
        *page.extra(),
    ]
    stores = [
        dcc.Store(id="page", data={"name": page.name, "key": str(uuid.uuid4()), **settings}),
        dcc.Store(id="playing"),  # Dash does not call a callback without an output when a page is added
    ]
    return html.Div(
        [
            *stores,
            *title,
            html.Div(
                [
                    html.Aside(panel, className="panel", **{"aria-label": "Settings"}),
                    html.Div([html.Div(page.body(values), className="pictures"), tour]),
                ],
                className="bench",
            ),
        ],
        className="wrap",
    )


def _play(app: Dash) -> None:
    """Callbacks in the browser for pages with a simulation. Their data travel over the websocket."""
    app.clientside_callback(ClientsideFunction("lab", "play"), Output("playing", "data"), Input("page", "data"))
    app.clientside_callback(
        ClientsideFunction("lab", "set"), Input({"field": ALL}, "value"), State({"field": ALL}, "id"),
        prevent_initial_call=True,
    )  # fmt: skip
