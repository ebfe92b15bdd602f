"""The page of the microscope: its texts and its layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dash import html
from dash.development.base_component import Component

from limelight.lab.address import Values
from limelight.lab.page import Page, TourStep, picture
from limelight.lab.pages.microscope.settings import FIELDS, MEASURES, MOST_TOKENS


def _body(values: Values) -> Sequence[Component]:
    return [
        picture("scope-heads", "All heads of the model: layers go across, the heads of a layer up. The chosen head is framed; click another to "
                "choose it.", 300, wide=True, said="scope-said-heads"),
        picture("scope-map", "The weights of the chosen head, as the model is: each row is a token, and shows to which tokens it attends. Click a row "
                "to choose it.", 460, said="scope-said-map"),
        picture("scope-changed", "The same head, changed.", 460, said="scope-said-changed"),
        picture("scope-result", "What the model returns: for a language model the probabilities of the next token, for an encoder the similarity of the "
                "text’s vector to those of eight sentences, which the unchanged model has read.", 440, said="scope-said-result"),
        _measures(),
    ]  # fmt: skip


def _measures() -> Component:
    rows = [
        html.Tr([html.Th(label, scope="row"), html.Td(id=f"scope-measure-{name}", className="figure")])
        for name, label in MEASURES.items()
    ]
    caption = html.Caption(["Measures of the chosen head on this text, as the model is. ", html.Span(id="scope-which")])
    return html.Div(html.Table([caption, html.Tbody(rows)], className="scope-measures"))


PAGE = Page(
    name="microscope",
    label="Microscope",
    title="What each head of a model does with your text, and what happens without it",
    lead=f"A model reads a text of up to {MOST_TOKENS} tokens. You see what every attention head does, choose one, and change it: its temperature, its "
    "normalization, or its output. The model then reads the text again, and you see how its output changes.",
    tour=(
        TourStep("Choose the measure “induction”, look at the heads, and then choose layer 0, head 0.",
             "The model that ships with the lab was built by hand, so that each of its eight heads has a known task. Two heads of its "
             "second layer look for what followed the last bytes earlier in the text: after “The c” they find the “a” of “cat”."),
        TourStep("Ablate layer 1, head 1: its output becomes its mean over the text. Then ablate layer 0, head 0 instead.",
             "Without the first, “t” is as likely as “a”. The second stores at each byte which byte came before it. The induction heads "
             "use this: without it they find nothing."),
        TourStep("Raise the temperature of all heads.",
             "Their weights spread over more tokens, and the copy fades. At a low temperature each query attends to one token."),
        TourStep("Choose the hand-built model that reads both ways, and layer 0, head 3. Raise α from 0 to 1.",
             "This head is a sink: all queries attend to the first token. Doubly normalized, no token can get all the weight. A causal "
             "model refuses α, since a sum over all queries includes later ones."),
        TourStep("Choose SmolLM2-135M or MiniLM-L6, if they are installed, and a text of your own.",
             "Trained heads do several things at once. Many of SmolLM2’s put most of their weight on the first token; a few are "
             "induction heads. Its first reading takes some seconds, and it needs about 0.7 GB of memory."),
    ),
    body=_body,
    order=5,
    simulation="limelight.lab.pages.microscope.simulation",
    plays=False,
    assets=(Path(__file__).with_name("microscope.js"), Path(__file__).with_name("microscope.css")),
    fields=FIELDS,
    groups=(
        ("The text and the model", ("text", "model")),
        ("", ("measure", "head", "token")),
        ("", ("where", "temperature", "alpha", "ablate")),
    ),
)  # fmt: skip
