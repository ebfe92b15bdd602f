"""Bias, live: what three networks assume of images, seen by what they learn of few."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from limelight.lab.address import Values
from limelight.lab.page import Page, TourStep, picture
from limelight.lab.pages.inductive_bias.settings import FIELDS, NETWORKS, TEST

_ASSUMES = {
    "full": "assumes nothing",
    "conv": "assumes that neighbors belong together and places do not matter",
    "attention": "relates patches of 4×4 pixels, each with its place",
}


def _body(values: Values) -> Sequence[Component]:
    return [
        html.Div(
            [
                picture("bias-accuracy", f"Accuracy on {TEST} unseen images, by the number of images seen in training.", 380),
                _table(),
            ],
            className="wide",
        ),
        html.Figure(
            [
                html.Div(id="bias-answers", className="plot", role="group",
                         **{"aria-label": "Twenty test images and what each network says of them."}),
                html.Figcaption(
                    "Twenty of the test images. Below each: the digit it is, and what each network says, right ✓ or wrong ✗. "
                    "Click one, or use the slider, to see below what each network goes by."
                ),
            ],
            className="wide",
        ),
        html.Div([html.H2("What each looks at", id="bias-looks"), html.P(id="bias-chosen", className="said"), _maps()],
                 className="wide", role="group", **{"aria-labelledby": "bias-looks"}),
    ]  # fmt: skip


def _table() -> Component:
    rows = [
        html.Tr(
            [
                html.Th([name, html.Small(_ASSUMES[place])], scope="row"),
                *[html.Td(id=f"bias-{what}-{place}", className="figure") for what in ("size", "tested", "training")],
            ]
        )
        for place, name in NETWORKS.items()
    ]
    return html.Table(
        [
            html.Caption("Share of right answers, on 500 unseen images and on at most 500 of the training."),
            html.Thead(
                html.Tr([html.Th(each, scope="col") for each in ("network", "parameters", "unseen", "training")])
            ),
            html.Tbody(rows),
        ],
        className="bias-table",
    )


def _maps() -> Component:
    maps = [_map(f"bias-map-{place}", f"bias-said-{place}", name.capitalize()) for place, name in NETWORKS.items()]
    maps.append(_map("bias-received", "bias-said-received", "Attention received"))
    return html.Figure(
        [
            html.Div(maps, className="bias-maps"),
            html.Figcaption(
                "The first three: how much the logit of a network's answer moves with each pixel, |∂ logit / ∂ pixel|. The last: "
                "which share of all its attention self-attention gives to each of its nine patches, the mean over heads; "
                "0.11 each if it looked everywhere alike. The strongest blue is the largest value of a map. The gray line "
                "follows the strokes of the image."
            ),
        ]
    )


def _map(place: str, said: str, title: str) -> Component:
    plot = html.Div(id=place, className="plot", role="group", **{"aria-label": f"{title}: a map of the image."})
    return html.Div([html.H3(title), plot, html.P(id=said, className="said")])


PAGE = Page(
    name="bias",
    label="Inductive bias",
    title="What a network assumes, it need not learn",
    lead="Three networks learn the same mini-batches of handwritten digits, 8×8 pixels in a frame of 12×12. What each assumes of "
    "images decides how few it needs, and costs accuracy where the assumption is wrong.",
    tour=(
        TourStep("Press Play: 250 images, shifted anywhere.",
             "All three soon know the training images (dotted). On unseen ones the convolution is right on about 3 of 4, the "
             "other two on fewer than half: they have to learn each digit anew at each place."),
        TourStep("Permute the pixels, and take all 1200 images.",
             "One order for all images: the same information, but neighbors mean nothing. The fully connected network "
             "loses little; the convolution falls far behind it. Here its prior is wrong."),
        TourStep("Mirror half of the images; then train in the middle and test on mirrored ones.",
             "No network here knows mirrors. Shown both, each learns both; shown one, each fails on most of the other."),
        TourStep("Draw the labels at random.",
             "Every network learns the training images by heart, as the dotted lines say, and none is better than chance "
             "on unseen ones."),
        TourStep("Train in the middle, and test on images shifted anywhere.",
             "About nine in ten are right where the networks were trained, and two to four in ten anywhere else. The convolution keeps "
             "most, and falls too: its pooling goes two pixels at a time, and what it finds at the margin it never met in training."),
    ),
    body=_body,
    order=3,
    simulation="limelight.lab.pages.inductive_bias.simulation",
    fields=FIELDS,
    groups=(
        ("The images", ("kind", "images", "tested", "look")),
        ("The training", ("batch", "rate", "seed")),
        ("The view", ("speed", "training", "log")),
    ),
)  # fmt: skip
