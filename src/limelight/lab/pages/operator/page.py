"""The page of the operator: its texts and its layout. Points in the plane attend to each other, once or repeatedly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dash import html
from dash.development.base_component import Component

from limelight.lab.address import Values
from limelight.lab.page import Page, TourStep, picture
from limelight.lab.pages.operator.settings import FIELDS

_KEYS = "Drag a point, or click it to choose it. On the keyboard, [ and ] choose a point, and the arrow keys move it; with Shift they move it less."


def _body(values: Values) -> Sequence[Component]:
    return [
        _plane(),
        picture("operator-matrix", "The weights P, with a row for each query. The chosen row is framed; click another to choose it.",
                480, said="operator-score"),
        picture("operator-entropy", "Entropy of each row: over how many keys a query spreads its weight.", 250, said="operator-said-entropy"),
        picture("operator-mass", "Column mass: the weight that all queries together give a key.", 250,
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
                ["The points, and the weights from the chosen one: the thicker a line, the larger the weight. ",
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
            html.P(
                "This program computes the same numbers, from the points, the mechanism and the steps so far.",
                className="hint",
            ),
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
    title="Attention among points that you can move",
    lead="Each point is a query, a key and a value. It gives every point a weight, by their similarity, a normalization and a "
    "mask. These weights form a linear operator P: a row says what a query takes from each key, a column says what each query "
    "takes from one key, and P can be applied repeatedly.",
    tour=(
        TourStep("Drag any point, and watch the lines from it.",
             "Nearby points get most of its weight. Make the bandwidth smaller: the entropy falls, until a point gives all weight "
             "to itself. A small bandwidth is a low temperature."),
        TourStep("Set the mask to “no self”, and drag one point far from all others. Then raise α from 0 to 1.",
             "With softmax no query gives the distant point weight, so its column mass goes to zero. Doubly normalized, the mass of "
             "a key cannot fall below 1/n."),
        TourStep("Choose Dot, and drag one point far from the center.",
             "A key with a large norm gets much weight from every query on its side. With Euclidean, which differs from Dot only by "
             "the norms, only its neighbors give it weight."),
        TourStep("Let the points drift to their average, from three blobs: press Play. Then widen the bandwidth.",
             "Each blob contracts to one point: the text says about three clusters. With a bandwidth of 1 all points end in one. In "
             "the same way, layers of attention without other layers lose rank."),
        TourStep("Choose mean shift, with a bandwidth of 0.5, and press Play.",
             "The keys, drawn as crosses, stay, and the queries climb to the maxima of the density. Points that end at the same "
             "maximum form a cluster. Drag a point near another maximum and play again."),
        TourStep("Choose labels, two moons and a bandwidth of 0.25, and press Play.",
             "Two labeled points, the squares, pass their labels on along the moons: h ← 0.9 P h + 0.1 y, until nothing changes. At "
             "a bandwidth of 1 the labels cross the gap between the moons."),
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
