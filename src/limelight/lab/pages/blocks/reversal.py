"""The Transformer of the page: it learns to write random letters backwards, and parts of it can be switched off."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from string import ascii_uppercase as ALPHABET

import numpy as np
import torch
import torch.nn.functional as F
from plotly.graph_objects import Figure
from torch import Tensor, nn

from limelight import figures
from limelight.claims.transformer_parts import HEADS, HIDDEN, LAYERS, WIDTH, next_token_loss
from limelight.data.reversals import reversal, sequences
from limelight.data.special_tokens import END, FIRST
from limelight.lab.address import Values
from limelight.lab.descents import Descents, descent
from limelight.lab.pages.blocks.learner import Learner
from limelight.lab.simulation import Change, Figures, numbers
from limelight.mask import causal
from limelight.models.decoding import greedy
from limelight.models.fresh import fresh
from limelight.models.positions import SinusoidalPositions
from limelight.models.transformer import DecoderLayer, Skip, Transformer

BATCH, RATE = 32, 0.001
UNSEEN = 200  # sequences that are tested, the word among them
LISTED = 6  # of them on the page
WORDS = ("WORD", "LIGHT", "MATRIX", "NETWORK", "DAYLIGHT", "LIMELIGHT", "BACKGROUND", "TRANSFORMER", "ENCYCLOPEDIA")
PARTS = ("positions", "cross", "feed", "mask")
_CROSS, _EXACT, _LOSS = "blocks-cross", "blocks-exact", "blocks-letter-loss"
_TICKS = [factor * 10.0**power for power in range(-7, 2) for factor in (1, 3)]
_ALL = (_CROSS, _EXACT, _LOSS)


class Reversal(Learner):
    """The Transformer of the claim `transformer_parts`, with letters for symbols.

    A part that is switched off is replaced while the others keep what they have learned, and so does the part itself
    until it is switched on again.
    """

    columns = ("exact", "letters")

    def _build(self, seed: int) -> None:
        self._batches = torch.Generator().manual_seed(seed)
        self._model = fresh(
            lambda: Transformer(FIRST + len(ALPHABET), WIDTH, HEADS, HIDDEN, LAYERS, SinusoidalPositions(WIDTH)), seed
        )
        self._positions = self._model.positions
        self._layers = [*self._model.encoder, *self._model.decoder]
        self._feeds = [layer.feed_forward for layer in self._layers]
        self._crosses = [layer.cross_attention for layer in self._decoders]
        length = int(self.values["length"])
        word = next(word for word in WORDS if len(word) == length)
        drawn = sequences(UNSEEN - 1, length, len(ALPHABET), self._batches)
        self._unseen = torch.cat([_tokens(word), drawn])
        self._target = reversal(self._unseen)
        self._assemble()

    @property
    def _decoders(self) -> list[DecoderLayer]:
        return [layer for layer in self._model.decoder if isinstance(layer, DecoderLayer)]

    def _assemble(self) -> None:
        """Put every part in its place, or nothing where it is switched off."""
        on = {part: bool(self.values[part]) for part in PARTS}
        self._model.positions = self._positions if on["positions"] else nn.Identity()
        for layer, feed in zip(self._layers, self._feeds, strict=True):
            layer.feed_forward = feed if on["feed"] else Skip()
        for decoder, cross in zip(self._decoders, self._crosses, strict=True):
            decoder.cross_attention = cross if on["cross"] else Skip()
            decoder.mask = causal if on["mask"] else None

    def _networks(self) -> Sequence[nn.Module]:
        return (self._model,)

    def _descents_at(self, factor: float) -> Descents:
        def loss() -> Tensor:
            if not self._is_finite:  # attention would refuse such vectors with a sentence about queries
                return torch.tensor(torch.nan)
            source = self._batch()
            return next_token_loss(self._model, source, reversal(source))

        return {"Transformer": descent(self._model, loss, RATE * factor)}

    def _batch(self) -> Tensor:
        """Random sequences, without those that are tested."""
        drawn = sequences(BATCH, self._unseen.shape[1], len(ALPHABET), self._batches)
        return drawn[~(drawn[:, None] == self._unseen).all(-1).any(1)]

    def change(self, values: Values) -> Collection[str]:
        changed = self.differing(values)
        self.values = values
        if changed & {"seed", "length"}:
            self._begin()
            return _ALL
        if changed & {*PARTS, "rate"}:
            self._assemble()
            self._start_descents()
        if changed & set(PARTS):
            self._measure()
        elif "head" in changed:
            self._evaluate_again()
        return ()

    @torch.no_grad()
    def _evaluate(self) -> None:
        source, target = self._unseen[:1], self._target[:1, :-1]
        if not self.values["cross"]:
            self._weights = np.zeros((target.shape[1], source.shape[1]))
            return
        heads, head = self._model.cross_weights(source, target)[0], int(self.values["head"])
        self._weights = (heads[head - 1] if head else heads.mean(0)).numpy()

    @torch.no_grad()
    def _measured(self) -> list[float]:
        length = self._unseen.shape[1]
        begin = self._target[:, :1]
        written = greedy(self._model.next_token(self._unseen), begin, END, length + 1)
        self._written = F.pad(written, (0, length + 1 - written.shape[1]), value=END)
        right = self._written == self._target[:, 1:]
        return [float(right.all(1).float().mean()), float(right[:, :length].float().mean())]

    def _curves(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        length = self._unseen.shape[1]
        shares = {
            "letters right": self._column("letters"),
            "sequences exact": self._column("exact"),
            "a guess": self._level(1 / len(ALPHABET)),
        }
        guess = math.log(len(ALPHABET)) * length / (length + 1)  # the end is known by its place
        return {_EXACT: shares, _LOSS: {"training": self._column("training"), "a guess": self._level(guess)}}

    def _drawings(self) -> Mapping[str, Figure]:
        return Figures({_CROSS: self._draw_cross, _EXACT: self._draw_exact, _LOSS: self._draw_loss})

    def _draw_cross(self) -> Figure:
        (figure,) = figures.matrices({"": self._weights}, "letter of the input", "letter to be written", "weight")
        source, target = self._unseen[0], self._target[0, 1:]
        figure.update_traces(zmax=1)
        figure.update_xaxes(tickvals=list(range(1, len(source) + 1)), ticktext=list(_text(source)), tickangle=0)
        return figure.update_yaxes(
            tickvals=list(range(1, len(target) + 1)), ticktext=[*_text(target[:-1]), "end"]
        )  # fmt: skip

    def _draw_exact(self) -> Figure:
        figure = figures.curves(self._curves()[_EXACT], list(self._at), "step", "share right")
        return figure.update_yaxes(range=[0, 1.03], dtick=0.2, tickformat=".0%")

    def _draw_loss(self) -> Figure:
        figure = figures.curves(self._curves()[_LOSS], list(self._at), "step", "cross-entropy", log=True)
        return figure.update_yaxes(tickvals=_TICKS, ticktext=[f"{tick:g}" for tick in _TICKS])

    def _evaluated(self) -> Mapping[str, Sequence[Change]]:
        return {_CROSS: [(0, {"z": numbers(self._weights)})]}

    def labels(self) -> Mapping[str, str]:
        self._measure_if_due()
        exact, letters = self._newest["exact"], self._newest["letters"]
        return {
            "blocks-step": f"step {self._steps} · {self._steps * BATCH:,} sequences seen",
            "blocks-said-cross": self._text_on_cross_attention(),
            "blocks-said-exact": f"{exact:.0%} of {UNSEEN} unseen sequences are exact, {letters:.0%} of their letters are right.",
            "blocks-written": "\n".join(self._line(i) for i in range(LISTED)),
        }

    def _text_on_cross_attention(self) -> str:
        if not self.values["cross"]:
            return "Cross-attention is switched off: the decoder sees nothing of the input."
        length = self._unseen.shape[1]
        there = float(np.fliplr(self._weights[:length]).diagonal().mean())
        head = f"head {self.values['head']}" if self.values["head"] else "the mean of all heads"
        return f"{there:.0%} of the weight ({head}) is on the letter that is to be written; evenly spread it would be {1 / length:.0%}."

    def _line(self, i: int) -> str:
        """An unseen sequence, what is written about it, and what is right of that."""
        written, right = self._written[i], self._target[i, 1:]
        hits = int((written == right)[:-1].sum())
        mark = "✓" if torch.equal(written, right) else f"✗ {hits} of {len(right) - 1} right"
        return f"{_text(self._unseen[i])} → {_text(written)} {mark}"


def _tokens(word: str) -> Tensor:
    return torch.tensor([[FIRST + ALPHABET.index(letter) for letter in word]])


def _text(tokens: Tensor) -> str:
    """The letters up to the end; a dot for a token that is no letter."""
    listed = tokens.tolist()
    letters = listed[: listed.index(END)] if END in listed else listed
    return "".join(ALPHABET[token - FIRST] if token >= FIRST else "·" for token in letters)
