"""The simulation of the page of the microscope: it loads a model, lets it read the text, and changes heads.

It takes no steps. What a setting changes is computed in pieces, each only when the page is seen: the model is loaded,
reads the text, and reads it with heads changed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import psutil
from plotly.graph_objects import Figure

from limelight import figures
from limelight.errors import LimelightError
from limelight.figures.theme import styled
from limelight.lab.address import Values, shown
from limelight.lab.pages.microscope.readers import READERS, Reader
from limelight.lab.pages.microscope.settings import (
    LAST,
    MEASURES,
    MOST_TOKENS,
    PACKAGES,
    SENTENCES,
    STRONGEST,
    TEXT,
)
from limelight.lab.pages.microscope.study import Changed, Head, Text, changes_of
from limelight.lab.simulation import Figures, Simulation, Updates

GRID, MAP, CHANGED, RESULT = PICTURES = ("scope-heads", "scope-map", "scope-changed", "scope-result")
_OF_THE_CHANGE = {"where", "temperature", "alpha", "ablate"}
_STAND_IN = "built"


class MicroscopeSimulation(Simulation):
    """A model, the text that it has read, and what it does with some heads changed."""

    def __init__(self, values: Values) -> None:
        super().__init__(dict(values))
        self._reader: Reader | None = None
        self._text: Text | None = None
        self._changed: Changed | None = None  # None also if the change was refused
        self._loaded = self._asked_for = ""  # the name of the model that is loaded, and of the last one asked for
        self._was_read: tuple[str, object] | None = None  # the model and the text that were last read
        self._was_changed: object = None  # the change that was last computed
        self._absent = self._long = self._refused = ""  # why the model, the text or the change is not the one given
        self._seconds = {"read": 0.0, "changed": 0.0}

    @classmethod
    def preload(cls, values: Values) -> None:
        simulation = cls(values)
        while simulation.has_work:
            simulation.work()
        simulation.choices()
        simulation.labels()
        for figure in simulation.figures().values():
            figure.to_json()

    @property
    def rate(self) -> float:
        return 1.0

    def step(self) -> bool:
        return False

    def change(self, values: Values) -> Collection[str]:
        changed = self.differing(values)
        self.values = dict(values)
        if "token" in changed:
            return (MAP, CHANGED, RESULT)
        return (GRID, MAP, CHANGED) if changed & {"measure", "head"} else ()

    @property
    def has_work(self) -> bool:
        return self._needs_model or self._needs_text or self._needs_change

    @property
    def _needs_model(self) -> bool:
        return self._asked_for != self.values["model"]

    @property
    def _needs_text(self) -> bool:
        return self._was_read != (self._loaded, self.values["text"])

    @property
    def _needs_change(self) -> bool:
        return self._was_changed != self._change

    @property
    def _change(self) -> object:
        """All that what is changed depends on."""
        return (self._was_read, self._head, *(self.values[name] for name in sorted(_OF_THE_CHANGE)))

    def work(self) -> Collection[str]:
        if self._needs_model:
            self._load(str(self.values["model"]))
            return ()
        if self._needs_text:
            self._read(str(self.values["text"]))
            return PICTURES
        self._run()
        return (CHANGED, RESULT)

    def _load(self, name: str) -> None:
        """Load this model. If it cannot be loaded, the one built by hand stands in for it."""
        self._asked_for, self._absent = name, ""
        self._reader = self._text = self._changed = None  # before the next model takes memory, too
        self._was_read = self._was_changed = None
        try:
            package = PACKAGES.get(name)
            if package is not None and (problem := package.missing()):
                self._absent = f"{problem}. The model built by hand stands in for it."
                name = _STAND_IN
            self._reader, self._loaded = READERS[name](), name
        except (LimelightError, OSError, ValueError) as problem:
            self._absent = f"The model cannot be loaded: {problem}. The model built by hand stands in for it."
            self._reader, self._loaded = READERS[_STAND_IN](), _STAND_IN

    def _read(self, given: str) -> None:
        """Let the model read this text. One that is too long is not used: the last one stays, or the first of all."""
        assert self._reader is not None
        self._was_read, self._long = (self._loaded, given), ""
        start = time.perf_counter()
        ids = self._reader.encode(given)
        if (count := ids.shape[1]) > MOST_TOKENS:
            self._long = f"Text to read: this text has {count} tokens, and this page reads at most {MOST_TOKENS}; it is not used."
            ids = self._reader.encode(TEXT) if self._text is None else self._text.ids
        self._text, self._changed = Text.read(self._reader, ids), None
        self._seconds["read"] = time.perf_counter() - start

    def _run(self) -> None:
        """Let the model read the text with some heads changed, if the settings change any."""
        self._was_changed, self._changed, self._refused = self._change, None, ""
        assert self._text is not None
        head, start = self._head, time.perf_counter()
        if changes := changes_of(self.values, head):
            try:
                self._changed = Changed.run(self._text, head, changes)
            except LimelightError as problem:
                self._refused = f"{str(problem).rstrip('.')}."
        self._seconds["changed"] = time.perf_counter() - start

    @property
    def _measure(self) -> str:
        given = str(self.values["measure"])
        return given if given in MEASURES else "entropy"

    @property
    def _head(self) -> Head:
        """The chosen head; the strongest one if this model has no head of that name."""
        if self._text is None:
            return 0, 0
        named = {f"{layer}.{head}": (layer, head) for layer, head in self._text.heads}
        given = str(self.values["head"])
        return named[given] if given in named else self._text.strongest(self._measure)

    @property
    def _token(self) -> int:
        """The index of the token whose row is framed, and after which the next one is predicted."""
        assert self._text is not None
        given, last = str(self.values["token"]), len(self._text.tokens)
        return int(given) - 1 if given in map(str, range(1, last + 1)) else last - 1

    def choices(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        strongest, last = (STRONGEST, "the strongest in this measure"), (LAST, "the last")
        heads = [] if self._text is None else self._text.heads
        tokens = () if self._text is None else self._text.tokens
        return {
            "measure": list(MEASURES.items()),
            "head": [strongest, *((f"{layer}.{head}", f"{layer}.{head}") for layer, head in heads)],
            "token": [last, *((str(i), f"{i} · {token}") for i, token in enumerate(tokens, 1))],
        }

    def figures(self) -> Mapping[str, Figure]:
        text = self._text
        if text is None:
            return Figures(dict.fromkeys(PICTURES, _blank))
        head, token, changed = self._head, self._token, self._changed
        return Figures(
            {
                GRID: lambda: figures.head_grid(text.grid(self._measure), head, MEASURES[self._measure]),
                MAP: lambda: figures.token_map(text.weights(head), text.tokens, token),
                CHANGED: lambda: figures.token_map(self._changed_weights(), text.tokens, token),
                RESULT: lambda: _result(changed or Changed(text, text.rows, np.empty(0)), token, changed is not None),
            }
        )

    def _changed_weights(self) -> np.ndarray:
        """The weights of the chosen head after the change; if nothing is changed, as it is."""
        assert self._text is not None
        return self._text.weights(self._head) if self._changed is None else self._changed.weights

    def updates(self) -> Updates:
        return {}  # every picture is small, and is redrawn as a whole

    def labels(self) -> Mapping[str, str]:
        said = {
            "microscope-step": self._status(),
            "note": " ".join(filter(None, (self._absent, self._refused))),
            **{_refused(name): sentence for name, sentence in self._faults().items()},
        }
        if self._text is None:
            return said
        layer, head = self._head
        measures = self._text.measures((layer, head))
        return {
            **said,
            "scope-said-heads": self._text_on_heads(),
            "scope-said-map": f"Layer {layer}, head {head}, as it is. {self._text_on_row()}",
            "scope-said-changed": self._text_on_change(),
            "scope-said-result": self._text_on_result(),
            "scope-which": f"Layer {layer}, head {head}",
            **{f"scope-measure-{name}": _number(value) for name, value in measures.items()},
        }

    def _faults(self) -> dict[str, str]:
        """Why the chosen value does not exist, for each field whose choices depend on the model or the text."""
        faults = {"text": self._long, "measure": "", "head": "", "token": ""}
        if self._text is None:
            return faults
        listed = {name: {value for value, _ in options} for name, options in self.choices().items()}
        used = {"measure": MEASURES[self._measure], "head": "the strongest head", "token": "the last token"}
        for name, names in listed.items():
            if (given := self.values[name]) not in names:
                faults[name] = f"{shown(given)} is not among the choices here; {used[name]} is shown."
        if not faults["measure"] and np.isnan(self._text.grid(self._measure)).all():
            faults["measure"] = "This measure has no meaning for this model and text."
        return faults

    def _status(self) -> str:
        if self._needs_model:
            slow = " (the first time takes up to half a minute)" if self.values["model"] in PACKAGES else ""
            return f"Loading the model …{slow}"
        if self._reader is None or self._text is None or self._needs_text:
            return "The model reads the text …"
        if self._needs_change:
            return "The model reads the text, changed …"
        seconds = f"read in {self._seconds['read']:.2g} s"
        seconds += f", changed in {self._seconds['changed']:.2g} s" if self._changed is not None else ""
        return f"{self._reader.label}: {len(self._text.tokens)} tokens, {seconds}. Memory of this page: {_memory()}."

    def _text_on_heads(self) -> str:
        assert self._text is not None
        layer, head = self._text.strongest(self._measure)
        values = self._text.grid(self._measure)
        if np.isnan(values).all():
            return ""
        return (
            f"{MEASURES[self._measure].capitalize()}: {_number(values[layer, head])} in layer {layer}, head {head}, the most; "
            f"the mean over {len(self._text.heads)} heads is {_number(float(np.nanmean(values)))}."
        )

    def _text_on_row(self) -> str:
        assert self._text is not None
        return _row(self._text.weights(self._head), self._text.tokens, self._token)

    def _text_on_change(self) -> str:
        assert self._text is not None
        if self._changed is None:
            return "Nothing is changed, so this is the same: pull T or α, or choose what becomes of the head’s output."
        ablated = " Ablation keeps its weights, and changes what it says." if self.values["ablate"] != "no" else ""
        return f"{_row(self._changed.weights, self._text.tokens, self._token)}{ablated}"

    def _text_on_result(self) -> str:
        assert self._text is not None
        after, changed, token = f"after “{self._text.tokens[self._token]}”", self._changed, self._token
        if not self._text.reader.predicts:
            if changed is None:
                return "As the model is."
            return f"The text’s vector has a cosine of {changed.kept():.4f} to what it was before the change."
        if changed is None:
            names, before, _ = Changed(self._text, self._text.rows, np.empty(0)).next_tokens(token)
            return f"Most likely {after}: “{names[0]}”, with a probability of {before[0]:.3f}."
        names, before, then = changed.next_tokens(token)
        first, second, losses = int(before.argmax()), int(then.argmax()), changed.losses()
        loss = "" if losses is None else f" Loss over the text: {losses[0]:.3f} → {losses[1]:.3f} nats a token."
        return (
            f"Most likely {after}: “{names[first]}” ({before[first]:.3f}), changed “{names[second]}” ({then[second]:.3f}). "
            f"KL divergence: {changed.divergence(token):.3g} nats.{loss}"
        )


def _blank() -> Figure:
    figure = Figure()
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return styled(figure, 300)


def _result(changed: Changed, token: int, is_changed: bool) -> Figure:
    """The next tokens of a language model, or the sentences that an encoder compares with the text."""
    if changed.text.reader.predicts:
        names, before, after = changed.next_tokens(token)
        return figures.changed_bars(names, before, after if is_changed else None, "probability of the next token")
    before, after = changed.similarities()
    return figures.changed_bars(SENTENCES, before, after if is_changed else None, "cosine to the text")


def _row(weights: np.ndarray, tokens: Sequence[str], token: int) -> str:
    """Where this token attends, in words."""
    most = np.argsort(-weights[token])[:3]
    named = ", ".join(f"“{tokens[j]}” at {j + 1} ({weights[token, j]:.2f})" for j in most if weights[token, j] >= 0.005)
    return f"“{tokens[token]}”, token {token + 1}, attends to {named}."


def _number(value: float) -> str:
    if 0 < abs(value) < 5e-4:
        return "≈ 0"
    return f"{value:.3g}".replace("-", "−") if math.isfinite(value) else "—"


def _refused(name: str) -> str:
    """The id of the element at a field for the simulation's sentence, as a page writes it."""
    return json.dumps({"refused": name}, separators=(",", ":"))


def _memory() -> str:
    """What this process takes for itself, without what it shares with the process that it was forked from."""
    return f"{psutil.Process().memory_full_info().uss / 1e6:,.0f} MB"


SIMULATION = MicroscopeSimulation
