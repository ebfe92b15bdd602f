"""The effect of an intervention on the outputs of a model, over several texts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from plotly.graph_objects import Figure

from limelight.experiment.statistics import Interval, mean
from limelight.figures import before_and_after, dot_rows
from limelight.microscope.head_table import Table
from limelight.report.effect_text import number


@dataclass(frozen=True)
class TextEffect:
    """What an intervention changed on one text; NaN for what the model does not have.

    `loss_before` and `loss_after` are the mean loss a token, in nats. `divergence` is the mean over tokens of
    KL(p ‖ p') in nats, from the prediction p without the intervention to p' with it. `top_changed` is the share of
    tokens whose most likely prediction is another one. `moved` is the mean over tokens of |x' − x| / |x|, with x the
    model's output at a token: its logits, or its last hidden state.
    """

    tokens: int
    loss_before: float = math.nan
    loss_after: float = math.nan
    divergence: float = math.nan
    top_changed: float = math.nan
    moved: float = math.nan

    @property
    def loss_change(self) -> float:
        """loss_after − loss_before."""
        return self.loss_after - self.loss_before


_COLUMNS = ("loss_before", "loss_after", "loss_change", "divergence", "top_changed", "moved")
_NAMES = {
    "loss_change": ("change of the loss", "nats a token"),
    "divergence": ("KL divergence of the predictions", "nats a token"),
    "top_changed": ("tokens whose top prediction changes", "share"),
    "moved": ("change of the output", "of its length"),
}


@dataclass(frozen=True)
class Effect:
    """The effect of some changes on a model: `repr` gives it in words, `table` has a row for each text.

    `changes` are the changes in words, `texts` what each text shows. `effect["loss_change"]` is the mean of a measure
    over texts with its interval, at the confidence of `limelight.experiment.statistics`.

    >>> from limelight.what_if import Effect, TextEffect
    >>> texts = [TextEffect(9, moved=moved) for moved in (0.2, 0.3, 0.25, 0.22)]
    >>> Effect("Ablate(mean, 1 head)", tuple(texts))
    Effect(Ablate(mean, 1 head), 4 texts): change of the output 0.242 [0.144, 0.341] of its length
    """

    changes: str
    texts: tuple[TextEffect, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that have a meaning for this model."""
        return tuple(name for name in _COLUMNS if not math.isnan(getattr(self.texts[0], name)))

    def __getitem__(self, measure: str) -> Interval:
        """The mean of a measure over texts, with its interval."""
        return mean(self.values(measure))

    def values(self, measure: str) -> np.ndarray:
        """The values of a measure, one for each text."""
        self.table().require(measure)
        return np.array([getattr(text, measure) for text in self.texts])

    def table(self) -> Table:
        """A dict of columns with a row for each text: its number of tokens, and the measures that have a meaning."""
        columns = {"text": [*range(len(self.texts))], "tokens": [text.tokens for text in self.texts]}
        return Table(columns | {name: [getattr(text, name) for text in self.texts] for name in self.measures})

    def figure(self) -> Figure:
        """The loss of each text before and after, and their means; without a loss, how far each text's output moved."""
        if "loss_change" in self.measures:
            return before_and_after(
                self.values("loss_before"), self.values("loss_after"), "loss, nats a token", self.changes
            )
        name = "divergence" if "divergence" in self.measures else "moved"
        title, unit = _NAMES[name]
        return dot_rows({self.changes: self.values(name)}, f"{title}, {unit}")

    def __repr__(self) -> str:
        said = ", ".join(_in_words(self, name) for name in _NAMES if name in self.measures)
        return f"Effect({self.changes or 'no change'}, {len(self.texts)} texts): {said}"


def _in_words(effect: Effect, name: str) -> str:
    """The measure in words, with its interval; equal values have none, and are said to be equal."""
    title, unit = _NAMES[name]
    found, values = effect[name], effect.values(name)
    if np.ptp(values) == 0:
        return f"{title} {number(found.estimate)} in every text"
    before = ""
    if name == "loss_change":
        title = "loss"
        before = f"{number(effect['loss_before'].estimate)} → {number(effect['loss_after'].estimate)}, change "
    return f"{title} {before}{number(found.estimate)} [{number(found.low)}, {number(found.high)}] {unit}"
