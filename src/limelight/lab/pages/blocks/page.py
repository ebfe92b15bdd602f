"""The page of generative models: its texts and its layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dash import html
from dash.development.base_component import Component

from limelight.lab.address import Values
from limelight.lab.page import Page, TourStep, picture
from limelight.lab.pages.blocks.settings import DIFFUSION, FIELDS, OF_DIFFUSION, OF_TRANSFORMER, SPEEDS, TRANSFORMER

_WALKS = (
    "The network has one task: to say which noise was added to a digit. Whoever can say that can also take noise away, step by "
    "step, until a digit is left that nobody has written. This is how image generators work."
)
_REVERSES = (
    "The encoder reads the letters, the decoder writes them, the last one first. While it writes a letter, cross-attention "
    "chooses where to look in the input. This is how a translator finds the word that comes next."
)


def _body(values: Values) -> Sequence[Component]:
    """Two halves, each of which shows the part of the chosen model: the main picture, then the others."""
    return [
        html.Div([_of(DIFFUSION, *_from_noise()), _of(TRANSFORMER, *_backwards())]),
        html.Div([_of(DIFFUSION, *_denoising()), _of(TRANSFORMER, *_writing())]),
    ]


def _of(model: str, *shown: Component) -> Component:
    return html.Div(list(shown), className=f"blocks-{model}")


def _from_noise() -> Sequence[Component]:
    caption = (
        "Eight samples, one in each column. From top to bottom: the noise, four moments on the way, the sample, and a real digit "
        "for comparison. The numbers under the samples are what a judge reads in them; it is a classifier with digits of its own."
    )
    return [html.P(_WALKS), picture("blocks-walk", caption, 460, said="blocks-said-walk")]


def _backwards() -> Sequence[Component]:
    caption = (
        "Cross-attention: a row for each letter that is to be written, a column for each letter of the input. A learned "
        "reversal is a line from the upper right to the lower left."
    )
    return [html.P(_REVERSES), picture("blocks-cross", caption, 420, said="blocks-said-cross")]


def _denoising() -> Sequence[Component]:
    caption = "The share of the noise that the network misses, as a squared error. It never gets to zero: part of the noise cannot be known."
    return [picture("blocks-noise-loss", caption, 360, said="blocks-said-noise")]


def _writing() -> Sequence[Component]:
    return [
        html.Figure(
            [
                html.Pre(id="blocks-written", tabIndex=0, role="region", **{"aria-label": "What it writes"}),
                html.P(id="blocks-said-exact", className="said", **{"aria-live": "off"}),
                html.Figcaption(
                    "What it writes about sequences that it has never seen: a word, and five of random letters. Exact "
                    "means that every letter is right, and that it ends where it should."
                ),
            ]
        ),
        picture("blocks-exact", "The share of unseen sequences that are exact, and of their letters that are right.", 280),
        picture("blocks-letter-loss", "The loss in training, where each letter is to be guessed from the true ones before it.", 280),
    ]  # fmt: skip


PAGE = Page(
    name="blocks",
    label="Blocks",
    title="Two building blocks of today’s models, trained while you watch",
    lead="A diffusion model learns to draw digits, and a Transformer learns to write letters backwards. Both are tiny, with "
    "fewer than 150,000 numbers to learn, but they work as the large models do. Watch one of them learn for half a minute.",
    tour=(
        TourStep("Press Play with diffusion chosen, and watch the row of samples.",
                 "In the first seconds blots appear where digits have ink, then strokes, then digits. The loss falls fast and then "
                 "slowly; what is still missing decides whether a stroke is a digit."),
        TourStep("Raise the guidance to 3, and choose a digit.",
                 "Without any new training all samples turn into this digit: at each step a classifier says in which direction the "
                 "image becomes more like it. Raise it to 8: the contrast becomes harder than that of real digits."),
        TourStep("Set the steps from noise to an image to 1.",
                 "In one step the network can only answer with the mean of all digits that fit the noise: a blur. It needs several "
                 "steps, since each makes the next guess easier."),
        TourStep("Choose the Transformer, and press Play.",
                 "Within seconds the weights gather on a line from the upper right to the lower left, and soon it writes words "
                 "backwards that it has never seen. Nobody told it where to look."),
        TourStep("Switch cross-attention off, and on again. Then do the same with the positions.",
                 "Without cross-attention the decoder sees nothing of the input, and its loss stays at that of a guess. Without "
                 "positions it knows which letters there are, but not in which order."),
        TourStep("Switch the causal mask off, press Reset, and Play.",
                 "The loss falls as before, and yet no sequence is exact: each place sees the letter that it should guess, and learns to "
                 "copy it. When it writes, there is nothing to copy."),
        TourStep("Switch the feed-forward networks off, and press Reset and Play.",
                 "It learns a little later, and as well: attention alone can move letters. Only what has to be computed from "
                 "letters needs these networks."),
    ),
    body=_body,
    order=4,
    simulation="limelight.lab.pages.blocks.simulation",
    assets=(Path(__file__).with_name("blocks.css"),),
    fields=FIELDS,
    groups=(
        ("What is trained", ("what", *OF_DIFFUSION, *OF_TRANSFORMER)),
        ("The training", (*SPEEDS.values(), "rate", "seed")),
    ),
)  # fmt: skip
