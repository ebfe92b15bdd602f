"""What a model does with a text, as it is and with some of its heads changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight import microscope
from limelight.lab.address import Values
from limelight.lab.pages.microscope.readers import Reader, vector
from limelight.microscope import MEASURES, AttentionChange, HeadInputs, Intervention, Scope
from limelight.normalization import Softmax
from limelight.report.plain_text import one_line
from limelight.what_if import next_token_loss
from limelight.what_if.measuring import divergence

Head = tuple[int, int]  # layer, number
_OF = {measure.name: measure for measure in MEASURES}
_MOST = 6  # next tokens of each model that are compared


@dataclass(frozen=True)
class Text:
    """A text as a model read it: the scope, and `rows`, the logits or the states at each token."""

    reader: Reader
    ids: Int[Tensor, "1 n"]
    tokens: tuple[str, ...]
    scope: Scope
    rows: Float[Tensor, "n width"]
    _grids: dict[str, np.ndarray] = field(default_factory=dict)
    _tables: dict[int, Mapping[str, list[float]]] = field(default_factory=dict)

    @classmethod
    @torch.no_grad()
    def read(cls, reader: Reader, ids: Int[Tensor, "1 n"]) -> Text:
        with microscope.attach(reader.model, separators=reader.separators) as scope:
            rows = reader.rows(ids)
        return cls(reader, ids, tuple(map(one_line, reader.names(ids))), scope, rows)

    @cached_property
    def heads(self) -> list[Head]:
        assert all(P.heads is not None for P in self.scope)
        return [(layer, head) for layer, P in enumerate(self.scope) for head in range(P.heads or 0)]

    def grid(self, measure: str) -> Float[np.ndarray, "layers heads"]:
        """A measure of each head; NaN where it has no meaning."""
        if measure not in self._grids:
            table = self.scope.table([_OF[measure]])
            values = np.full((max(table["layer"]) + 1, max(table["head"]) + 1), np.nan)
            values[table["layer"], table["head"]] = table[measure]
            self._grids[measure] = values
        return self._grids[measure]

    def strongest(self, measure: str) -> Head:
        """The head with the largest value of a measure, or the first one if it has no meaning here."""
        values = self.grid(measure)
        best = 0 if np.isnan(values).all() else int(np.nanargmax(values))
        return divmod(best, values.shape[1])

    @torch.no_grad()
    def measures(self, head: Head) -> dict[str, float]:
        """All measures of a head, which are computed for its whole layer."""
        layer, number = head
        if layer not in self._tables:
            P = self.scope[layer]
            self._tables[layer] = {measure.name: measure.of(P).tolist() for measure in MEASURES}
        return {name: values[number] for name, values in self._tables[layer].items()}

    @torch.no_grad()
    def weights(self, head: Head) -> Float[np.ndarray, "n n"]:
        P: Tensor = self.scope[head].dense()
        return P.float().numpy()


@dataclass(frozen=True)
class Changed:
    """What a model does with a text if some heads are changed: `rows`, and the weights of the chosen head."""

    text: Text
    rows: Float[Tensor, "n width"]
    weights: Float[np.ndarray, "n n"]

    @classmethod
    @torch.no_grad()
    def run(cls, text: Text, head: Head, changes: list[Intervention]) -> Changed:
        """Raises `InputError` as `Scope.intervene` does."""
        looking = _InputsKept([head])
        with text.scope.intervene(*changes, looking):
            rows = text.reader.rows(text.ids)
        assert looking.seen is not None
        return cls(text, rows, looking.seen.attention().dense()[0].float().numpy())

    def next_tokens(self, at: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        """(the tokens that are most likely after this one, their probabilities before, and changed)."""
        before, after = (rows[at].softmax(-1) for rows in (self.text.rows, self.rows))
        most = dict.fromkeys(token for p in (before, after) for token in p.topk(_MOST).indices.tolist())
        tokens = sorted(most, key=lambda token: -float(before[token]))
        names = [one_line(self.text.reader.name(token)) for token in tokens]
        return names, before[tokens].numpy(), after[tokens].numpy()

    def divergence(self, at: int) -> float:
        """KL(p ‖ p') of the next token after this one, in nats."""
        return float(divergence(self.text.rows[at, None], self.rows[at, None]))

    def losses(self) -> tuple[float, float] | None:
        """The mean loss of each next token of the text, before and changed; None for a text of one token."""
        if self.text.ids.shape[1] < 2:
            return None
        inputs = {"input_ids": self.text.ids}
        before, after = (next_token_loss(SimpleNamespace(logits=x[None]), inputs) for x in (self.text.rows, self.rows))
        return float(before), float(after)

    def similarities(self) -> tuple[np.ndarray, np.ndarray]:
        """The cosine of the text's vector to that of each sentence, before and changed."""
        before, after = (vector(rows) for rows in (self.text.rows, self.rows))
        return _cosines(before, self.text.reader.others), _cosines(after, self.text.reader.others)

    def kept(self) -> float:
        """The cosine of the text's vector, changed, to the same vector as it was."""
        before, after = (vector(rows) for rows in (self.text.rows, self.rows))
        return float(_cosines(before, after[None])[0])


def _cosines(one: Float[Tensor, " width"], others: Float[Tensor, "k width"] | None) -> np.ndarray:
    assert others is not None
    return torch.cosine_similarity(one[None], others, dim=-1).numpy()


class _InputsKept(AttentionChange):
    """No change: it keeps what the head reads after the changes before it."""

    seen: HeadInputs | None = None

    def change(self, head: HeadInputs) -> HeadInputs:
        self.seen = head
        return head


def changes_of(values: Values, head: Head) -> list[Intervention]:
    """The changes that these settings describe; empty if they describe none."""
    heads = None if values["where"] == "all" else [head]
    temperature, alpha, ablate = float(values["temperature"]), float(values["alpha"]), values["ablate"]
    out: list[Intervention] = []
    if temperature != 1:
        out.append(microscope.Temperature(temperature, heads))
    if alpha != 0:
        out.append(microscope.Renormalize(Softmax(alpha=alpha), heads))
    if ablate != "no":
        out.append(microscope.Ablate([head], to="mean" if ablate == "mean" else "zero"))
    return out
