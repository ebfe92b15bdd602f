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
class TourStep:
    """One stop of the tour: what to try, and what it shows."""

    do: str
    see: str


@dataclass(frozen=True)
class Page:
    """A page at /`name`, the `order`-th of the menu.

    `simulation` is the name of the module whose `SIMULATION` a worker plays on it, if it has one; `assets` are its own
    scripts and styles, which every page of the lab loads.
    """

    name: str
    label: str
    title: str
    lead: str
    tour: Sequence[TourStep]
    body: Callable[[Values], Sequence[Component]]
    order: int
    simulation: str | None = None
    assets: Sequence[Path] = ()
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
