"""The description of a page of the lab: its title, simulation, pictures, controls, and a short tour."""

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
    """One step of the tour: something to try, and what one sees then."""

    do: str
    see: str


@dataclass(frozen=True)
class Page:
    """The page at the address /`name`, at position `order` of the menu.

    `simulation` is the name of the module whose `SIMULATION` a worker runs for this page, or None. `assets` are its
    scripts and style sheets, which every page of the lab loads.
    """

    name: str
    label: str
    title: str
    lead: str
    tour: Sequence[TourStep]
    body: Callable[[Values], Sequence[Component]]
    order: int
    simulation: str | None = None
    plays: bool = True  # False for a simulation that takes no steps, whose page has no buttons to play
    assets: Sequence[Path] = ()
    fields: Sequence[Field] = ()
    groups: Sequence[tuple[str, Sequence[str]]] = ()  # (heading, names of fields); () for no groups
    extra: Callable[[], Sequence[Component]] = tuple  # further controls below the fields
    callbacks: Callable[[Dash, Sessions, Path], None] = lambda app, sessions, results: None  # adds the page's callbacks


def picture(place: str, caption: str, height: int, wide: bool = False, said: str | None = None) -> Component:
    """The element with the id `place` for a figure, with a caption. `said` is the id of a text with its numbers."""
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
