"""The attention of a model that was watched, layer by layer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from numbers import Integral
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError, UnknownNameError
from limelight.microscope.call import Call
from limelight.microscope.head_measures import MEASURES, Measure
from limelight.microscope.head_table import Table, tabulate
from limelight.microscope.intervene import intervened, planned
from limelight.microscope.interventions import Intervention
from limelight.microscope.output_maps import value_then_output
from limelight.microscope.recorder import Recorder
from limelight.microscope.rollout import Rollout
from limelight.microscope.watched_attention import WatchedAttention, watched


class Scope:
    """The attention of a model, layer by layer and head by head: `scope[layer, head]`, `scope.table()`.

    `layers` are the names of the model's attention layers in the order in which they ran; a layer that runs several
    times in one pass of the model (ALBERT shares one) is listed each time. An encoder's layers come first, then each
    decoder block's self-attention and cross-attention. `scope[layer]` are all heads of a layer and `scope[layer, head]`
    is one of them, as a `WatchedAttention`. A batch has several texts, and a generation several steps; `select`
    chooses.

    `separators` are the tokens that separate or end texts. `difference` is the largest difference between the model's
    outputs with and without watching: 0.0 after its first call, None before.

    Raises `InputError` where nothing ran yet, for a layer, head, text or step that is not there, and where several
    texts or steps were seen and none is chosen.
    """

    def __init__(
        self,
        recorder: Recorder,
        model: nn.Module,
        separators: frozenset[int] = frozenset(),
        text: int | None = None,
        step: int | None = None,
    ) -> None:
        self._recorder, self._model, self._text, self._step = recorder, model, text, step
        self.separators = separators
        self.difference: float | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The name of each layer, with the number of the run if a layer runs several times in a pass."""
        names = self._names
        several = {layer for layer, run in names if run}
        return tuple(f"{layer} (run {run + 1})" if layer in several else layer for layer, run in names)

    @property
    def texts(self) -> int:
        """The number of texts in the largest batch."""
        return max(len(call.texts) for call in self._calls)

    @property
    def steps(self) -> int:
        """How often the model ran: 1 for one call, more for a generation."""
        return 1 + max(call.step for call in self._calls)

    @property
    def not_watched(self) -> tuple[str, ...]:
        """The modules that are called attention and of which nothing was seen, in themselves or their parts."""
        seen = {call.layer for call in self._calls}
        names = [name for name, module in self._model.named_modules() if type(module).__name__.endswith("Attention")]
        return tuple(
            name for name in names
            if not any(one == name or one.startswith(f"{name}.") or name.startswith(f"{one}.") for one in seen)
        )  # fmt: skip

    def select(self, *, text: int | None = None, step: int | None = None) -> Scope:
        """The same scope for one text of the batch, or one step: 0 is the first call of each layer, −1 its last."""
        for name, value, count in (("text", text, self.texts), ("step", step, self.steps)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise InputError(f"select({name}=…) expects a whole number, got {value!r}")
            if value is not None and not -count <= value < count:
                raise InputError(f"select({name}=…) expects one of {count} {name}s, counted from 0; got {value}")
        chosen = Scope(
            self._recorder,
            self._model,
            self.separators,
            self._text if text is None else text % self.texts,
            self._step if step is None else step % self.steps,
        )
        chosen.difference = self.difference
        return chosen

    def __getitem__(self, place: int | str | tuple[int | str, int]) -> WatchedAttention:
        layer, head = place if isinstance(place, tuple) and len(place) == 2 else (place, None)
        number = self._layer(layer)
        call = self._one_call(number)
        head = None if head is None else _head(number, call.heads, head)
        return watched(call, number, self._one_text(call), head, self.separators, self._output_map(call))

    def __iter__(self) -> Iterator[WatchedAttention]:
        """All heads of each layer, on each chosen text, in each chosen step."""
        numbers, separators = {name: number for number, name in enumerate(self._names)}, self.separators
        for call in self._calls:
            if self._step is not None and call.step != self._step:
                continue
            for text in range(len(call.texts)) if self._text is None else [self._text]:
                if text < len(call.texts):
                    yield watched(call, numbers[call.name], text, None, separators, self._output_map(call))

    def __len__(self) -> int:
        return len(self._recorder.calls) and len(self._names)

    def intervene(self, *changes: Intervention) -> AbstractContextManager[None]:
        """Within the `with` block the model runs with some heads changed, and returns what it computes with these.

        The changes are `Ablate`, `WithoutSinks`, `EqualKeyNorms`, `Temperature`, `Renormalize`, `Replace`, or classes
        of your own, and any of them together; those of one head take effect in the order in which they are given, and
        ablation last. Everything after a changed head gets its new output. Heads that are not changed keep their
        own output to the bit, in `nn.MultiheadAttention` up to rounding; with no change at all the model's output is
        equal to the bit. Gradients flow, except to a position bias that learns. After the block the model is as it
        was.

        Leave the block of `attach` first. Raises `InputError` for a head or a layer that is not there, for two changes
        of one kind of the same head, and if every head is ablated; when the model is called, for dropout of weights;
        and at the end of the block, if a layer with changed heads did not run in it.

        >>> import torch
        >>> from limelight import microscope
        >>> layer, x = torch.nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(1, 5, 8)
        >>> with microscope.attach(layer) as scope:
        ...     before, _ = layer(x, x, x)
        >>> with scope.intervene(microscope.Ablate([(0, 1)])):
        ...     after, _ = layer(x, x, x)
        >>> torch.equal(before, after)
        False
        """
        heads = {call.name: call.heads for call in self._calls}
        return intervened(self._model, planned(changes, heads, self._place))

    @property
    def model(self) -> nn.Module:
        """The model that was watched."""
        return self._model

    def table(self, measures: Sequence[Measure] = MEASURES) -> Table:
        """One row for each layer and head (and text, and step), one column for each measure.

        The result is a dict of columns, as pandas and polars take it. A measure that has no meaning for a row
        (induction where no token is repeated, positions in cross-attention) is NaN there.
        """
        return tabulate(self, measures)

    def column_mass(self, layer: int | str) -> Float[Tensor, "heads tokens"]:
        """Σ_i P_ij over all queries i of all steps so far: what each token j has got from those that were read since.

        This is what decides which keys a cache may forget (Zhang et al. 2023, 2306.14048). It may be asked for while a
        model generates, within the block. In one step it is `scope[layer].column_mass()`. Padding has no column; a
        token that the cache has dropped keeps what it had got.

        Raises `InputError` where the steps are of different texts; choose one with `select`.
        """
        number = self._layer(layer)
        calls = [call for call in self._calls if call.name == self._names[number] and self._step in (None, call.step)]
        steps = [watched(call, number, self._one_text(call)) for call in calls]
        total = steps[0].column_mass()
        for step, P in enumerate(steps[1:], 1):
            new = 0 if P.is_cross else P.shape[-2]
            if P.shape[-1] > total.shape[-1] + new or (not P.is_cross and P.shape[-2] == P.shape[-1]):
                raise InputError(f"step {step} reads another text than those before; choose one: scope.select(step=0)")
            total = F.pad(total, (0, new))
            total[..., total.shape[-1] - P.shape[-1] :] += P.column_mass()
        return total

    def rollout(self, residual: float = 0.5) -> Rollout:
        """All layers together: the share of token j in what token i holds after them, as an operator (`Rollout`).

        Of one text that is read at once. Raises `InputError` for a model with cross-attention, whose encoder and
        decoder read different texts: choose the layers, as `Rollout([scope[0], scope[1]])`.
        """
        return Rollout([self[layer] for layer in range(len(self.layers))], residual)

    def _output_map(self, call: Call) -> Callable[[], Tensor | None]:
        return functools.partial(value_then_output, self._model, call.layer, call.heads)

    @property
    def _calls(self) -> list[Call]:
        if not self._recorder.calls:
            raise InputError("nothing ran yet: call the model within the `with attach(model) as scope:` block")
        return self._recorder.calls

    @property
    def _names(self) -> list[tuple[str, int]]:
        return list(dict.fromkeys(call.name for call in self._calls))

    def _layer(self, layer: Any) -> int:
        layers = self.layers
        if isinstance(layer, str):
            if layer not in layers:
                raise UnknownNameError("attention layer", layer, layers)
            return layers.index(layer)
        if isinstance(layer, bool) or not isinstance(layer, Integral):
            raise InputError(f"scope[layer] or scope[layer, head] expects whole numbers, got {layer!r}")
        number = int(layer)
        if not -len(layers) <= number < len(layers):
            raise InputError(f"this model has the attention layers 0 to {len(layers) - 1}, got layer {layer}")
        return number % len(layers)

    def _place(self, layer: int | str, head: int) -> tuple[tuple[str, int], int]:
        """The name of the layer with this number or name, and the number of its head."""
        number = self._layer(layer)
        name = self._names[number]
        return name, _head(number, next(call.heads for call in self._calls if call.name == name), head)

    def _one_call(self, number: int) -> Call:
        name = self._names[number]
        calls = [call for call in self._calls if call.name == name]
        if self._step is None and len(calls) > 1:
            raise InputError(f"layer {number} ran in {len(calls)} steps; choose one: scope.select(step=0)[{number}, 0]")
        step = self._step or 0
        if step >= len(calls):
            raise InputError(f"layer {number} ran in {len(calls)} steps, got step {step}")
        return calls[step]

    def _one_text(self, call: Call) -> int:
        if self._text is None and len(call.texts) > 1:
            raise InputError(f"the batch has {len(call.texts)} texts; choose one: scope.select(text=0)[layer, head]")
        text = self._text or 0
        if text >= len(call.texts):
            raise InputError(f"the batch had {len(call.texts)} texts, got text {text}")
        return text

    def __repr__(self) -> str:
        if not self._recorder.calls:
            return f"Scope({type(self._model).__name__}, nothing ran yet)"
        return f"Scope({type(self._model).__name__}, {len(self)} layers, {self.texts} texts, {self.steps} steps)"


def _head(layer: int, heads: int, head: Any) -> int:
    number = int(head) if isinstance(head, Integral) and head is not True and head is not False else heads
    if not -heads <= number < heads:
        raise InputError(f"layer {layer} has the heads 0 to {heads - 1}, got head {head!r}")
    return number % heads
