"""What a page of the lab is: a title, what plays on it, where its pictures stand, and a tour in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dash import Dash, html
from dash.development.base_component import Component

from limelight.lab.address import Field, Values
from limelight.lab.sessions import Sessions


@dataclass(frozen=True)
class Stop:
    """One stop of the tour: what to try, and what it shows."""

    do: str
    see: str


@dataclass(frozen=True)
class Page:
    """A page at /`name`. `live` names the module in `limelight.lab.live` that plays on it, if any does."""

    name: str
    label: str
    title: str
    lead: str
    tour: Sequence[Stop]
    body: Callable[[Values], Sequence[Component]]
    live: str | None = None
    fields: Sequence[Field] = ()
    groups: Sequence[tuple[str, Sequence[str]]] = ()  # headings over fields; () for one without
    extra: Callable[[], Sequence[Component]] = tuple  # more controls, under the fields
    callbacks: Callable[[Dash, Sessions, Path], None] = lambda app, sessions, results: None  # of this page alone


def picture(place: str, caption: str, height: int, wide: bool = False, said: str | None = None) -> Component:
    """Where a figure of that id is drawn, with a sentence below; `said` is the id of numbers told in words."""
    words = [] if said is None else [html.P(id=said, className="said", **{"aria-live": "off"})]
    return html.Figure(
        [
            html.Div(
                id=place, className="plot", style={"height": f"{height}px"}, role="group", **{"aria-label": caption}
            ),
            *words,
            html.Figcaption(caption),
        ],
        className="wide" if wide else "",
    )
