"""The page of inductive biases: its texts and its layout."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from limelight.lab.address import Values
from limelight.lab.page import Page, TourStep, picture
from limelight.lab.pages.inductive_bias.settings import FIELDS, NETWORKS, TEST

_ASSUMES = {
    "full": "assumes nothing",
    "conv": "assumes that neighboring pixels belong together and that positions do not matter",
    "attention": "relates patches of 4×4 pixels, each with its position",
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
                         **{"aria-label": "Twenty test images and each network's answers for them."}),
                html.Figcaption(
                    "Twenty of the test images. Below each: its digit and each network's answer, right ✓ or wrong ✗. "
                    "Click an image, or use the slider, to see below which of its pixels each answer depends on."
                ),
            ],
            className="wide",
        ),
        html.Div([html.H2("The pixels that each answer depends on", id="bias-looks"), html.P(id="bias-chosen", className="said"), _maps()],
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
            html.Caption("Share of right answers, on 500 unseen images and on at most 500 training images."),
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
                "The first three maps: how much the logit of a network's answer changes with each pixel, |∂ logit / ∂ pixel|. The "
                "last: the share of all its attention that self-attention gives to each of its nine patches, averaged over "
                "heads; uniform attention would give each 0.11. The darkest blue is the largest value of a map. The gray "
                "line follows the strokes of the image."
            ),
        ]
    )


def _map(place: str, said: str, title: str) -> Component:
    plot = html.Div(id=place, className="plot", role="group", **{"aria-label": f"{title}: a map of the image."})
    return html.Div([html.H3(title), plot, html.P(id=said, className="said")])


PAGE = Page(
    name="bias",
    label="Inductive bias",
    title="What a network assumes, it does not have to learn",
    lead="Three networks learn the same mini-batches of handwritten digits, 8×8 pixels in a frame of 12×12. What a network assumes "
    "about images determines how many it needs, and costs accuracy if the assumption is wrong.",
    tour=(
        TourStep("Press Play: 250 images, shifted anywhere.",
             "All three soon know the training images (dotted lines). Of the unseen images the convolution gets about 3 of 4 right, "
             "the other two fewer than half: they have to learn each digit again at each position."),
        TourStep("Permute the pixels, and take all 1200 images.",
             "All images are permuted in the same way: they hold the same information, but neighboring pixels no longer belong "
             "together. The fully connected network loses little; the convolution, whose assumption is now wrong, falls far "
             "behind it."),
        TourStep("Mirror half of the images; then train in the middle and test on mirrored ones.",
             "None of these networks assumes that a mirrored image means the same. Trained on both kinds, each learns both; trained "
             "on one, each fails on most images of the other kind."),
        TourStep("Draw the labels at random.",
             "Every network memorizes the training images, as the dotted lines show, and none is better than chance on "
             "unseen ones."),
        TourStep("Train in the middle, and test on images shifted anywhere.",
             "About nine in ten answers are right in the middle, and two to four in ten elsewhere. The convolution loses least, but "
             "it loses too: its pooling moves by two pixels at a time, and in training it never saw strokes at the margin."),
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
