"""The operator: points that attend to one another, and what comes of it when they do so again and again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dash import html
from dash.development.base_component import Component

from limelight.lab.address import Values
from limelight.lab.page import Page, TourStep, picture
from limelight.lab.pages.operator.settings import FIELDS

_KEYS = "Drag a point, or click one to choose it. With the keyboard: [ and ] choose, the arrow keys move, with Shift by less."


def _body(values: Values) -> Sequence[Component]:
    return [
        _plane(),
        picture("operator-matrix", "The weights P: a row for each query, the chosen one framed. Click a row to choose it.",
                480, said="operator-score"),
        picture("operator-entropy", "Entropy of each row: how many keys a query mixes.", 250, said="operator-said-entropy"),
        picture("operator-mass", "Column mass: what all queries together take from a key.", 250,
                said="operator-said-mass"),
        _code(values),
    ]  # fmt: skip


def _plane() -> Component:
    place = html.Div(
        id="operator-plane", className="plot", style={"height": "480px"}, role="application", tabIndex=0,
        **{"aria-label": "Points in the plane", "aria-describedby": "operator-keys operator-said"},
    )  # fmt: skip
    return html.Figure(
        [
            place,
            html.P(id="operator-said", className="said", **{"aria-live": "off"}),
            html.P(id="operator-told", className="hidden", role="status"),
            html.Figcaption(
                ["The points, and the weights from the chosen one: the thicker a line, the more. ",
                 html.Span(_KEYS, id="operator-keys")]
            ),
        ]
    )  # fmt: skip


def _code(values: Values) -> Component:
    return html.Section(
        [
            html.Div(
                [
                    html.H2("As Python", id="operator-python"),
                    html.Button("Copy as Python", id="operator-copy", type="button"),
                    html.Span(id="operator-copied", role="status", className="hint"),
                ],
                className="buttons",
            ),
            html.P("These lines make the same numbers: the points, the mechanism, the steps so far.", className="hint"),
            html.Pre(id="operator-code", tabIndex=0, role="region", **{"aria-labelledby": "operator-python"}),
            html.Span(str(values["moved"]), id="operator-moved", hidden=True),
            html.Span(str(values["n"]), id="operator-count", hidden=True),
        ],
        className="wide code",
    )


def _extra() -> Sequence[Component]:
    return [
        html.P(
            html.Button("Undo the moves", id="operator-arrange", type="button", className="quiet"),
        )
    ]


PAGE = Page(
    name="operator",
    label="Operator",
    title="Attention among points you can move",
    lead="Each point is a query, a key and a value. It gives every other a weight, by their similarity, a normalization and a "
    "mask, and those weights are a linear operator: rows that mix, columns that are seen or overlooked, and what comes of it when "
    "it is applied again and again.",
    tour=(
        TourStep("Drag any point, and watch the lines from it.",
             "Nearby points take most of its weight. Make the bandwidth smaller: entropy falls, until a point sees nothing but "
             "itself. That is what a low temperature does."),
        TourStep("Set the mask to “no self”, and drag one point far from all others. Then raise α from 0 to 1.",
             "With softmax nobody looks at the lonely point: its column mass goes to zero, it is explained away. Doubly normalized, "
             "no key’s mass can fall below 1/n."),
        TourStep("Choose Dot, and drag one point far from the center.",
             "A key with a large norm takes weight from every query on its side. Under Euclidean, which differs from Dot by the norms "
             "and nothing else, only its neighbors see it."),
        TourStep("Let the points drift to their average, from three blobs: press Play. Then widen the bandwidth.",
             "Each blob falls into one point: the words count about three clusters. With a bandwidth of 1 all end in one. A stack of "
             "attention layers with nothing else in it loses its rank."),
        TourStep("Choose mean shift, with a bandwidth of 0.5, and press Play.",
             "Keys stay, as crosses, and queries climb the density to its modes. Where a point ends is the basin it began in. Drag "
             "a point to another basin and play again."),
        TourStep("Choose labels, two moons and a bandwidth of 0.25, and press Play.",
             "Two labeled points, the squares, color all others along the moons: h ← 0.9 P h + 0.1 y, until nothing changes. At a "
             "bandwidth of 1 the labels leak across the gap."),
    ),
    body=_body,
    order=2,
    simulation="limelight.lab.pages.operator.simulation",
    assets=(Path(__file__).with_name("operator.js"),),
    fields=FIELDS,
    groups=(
        ("The mechanism", ("similarity", "bandwidth", "normalization", "alpha", "mask")),
        ("", ("process", "speed")),
        ("The points", ("arrangement", "n", "seed", "point", "color", "moved")),
    ),
    extra=_extra,
)  # fmt: skip
