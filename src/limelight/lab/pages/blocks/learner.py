"""What the two models of the page have in common: each is trained step by step, and measured now and then."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from plotly.graph_objects import Figure
from torch import nn

from limelight.figures.learning import line_mode
from limelight.lab.address import Values
from limelight.lab.descents import Descents, stepped
from limelight.lab.history import History
from limelight.lab.pace import Pace
from limelight.lab.simulation import Change, Simulation, Updates, numbers

_PAUSE, _SHARE = 0.15, 0.3  # seconds between two measurements, and their largest share of the time
_EARLY = 64  # up to this step, a model is measured after every power of two, since it changes quickly


class Learner(Simulation):
    """A model in training. A subclass says what is trained, what is measured, and how that is drawn.

    Each measurement is a row of the history: the step, the mean of the training losses since the last one, and what
    `_measured` returns. Pictures change only after a measurement, or after `_evaluate`.
    """

    columns: ClassVar[Sequence[str]]  # the names of what `_measured` returns

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self._begin()

    def _begin(self) -> None:
        """Start anew, with weights and data that depend on the seed alone."""
        self._steps, self._rows = 0, 0
        self._losses: list[float] = []
        self._history = History(2 + len(self.columns))
        self._pace = Pace(_PAUSE, _SHARE)
        self._build(int(self.values["seed"]))
        self._start_descents()
        self._measure()

    @abstractmethod
    def _build(self, seed: int) -> None:
        """Make the networks and the data."""

    @abstractmethod
    def _networks(self) -> Sequence[nn.Module]:
        """All networks that learn."""

    @abstractmethod
    def _descents_at(self, factor: float) -> Descents:
        """The descents of all networks, at their usual learning rates times this factor; the first one's loss is drawn."""

    @abstractmethod
    def _evaluate(self) -> None:
        """Compute what the pictures show beside the curves."""

    @abstractmethod
    def _measured(self) -> list[float]:
        """A number for each of `columns`."""

    @abstractmethod
    def _curves(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The curves (1, points) of each picture of curves."""

    @abstractmethod
    def _evaluated(self) -> Mapping[str, Sequence[Change]]:
        """The changes of the pictures that `_evaluate` computes."""

    def _start_descents(self) -> None:
        """Start new descents from the present weights."""
        self._descents = self._descents_at(float(self.values["rate"]))

    def step(self) -> bool:
        self._losses.append(stepped(self._descents)[0])
        self._steps += 1
        if self._steps <= _EARLY and self._steps.bit_count() == 1:
            self._measure()
        else:
            self._measure_if_due()
        return True

    @property
    def _is_finite(self) -> bool:
        """False after a step that has diverged; the next step says so, and until then nothing can be measured."""
        return all(bool(p.isfinite().all()) for network in self._networks() for p in network.parameters())

    def _measure(self) -> None:
        if not self._is_finite:
            return
        with self._pace.measuring():
            self._evaluate()
            loss = float(np.mean(self._losses)) if self._losses else math.nan
            self._newest = dict(zip(self.columns, self._measured(), strict=True))
        self._history.add(self._rows, [self._steps, loss, *self._newest.values()])
        self._losses.clear()
        self._rows += 1
        self._measured_at, self._is_drawn = self._steps, False

    def _measure_if_due(self) -> None:
        if self._measured_at != self._steps and self._pace.is_due:
            self._measure()

    def _evaluate_again(self) -> None:
        if not self._is_finite:
            return
        with torch.no_grad(), self._pace.measuring():
            self._evaluate()
        self._is_drawn = False

    @property
    def _at(self) -> np.ndarray:
        """The step of each measurement."""
        return np.asarray(self._history.values[0])

    def _column(self, name: str) -> np.ndarray:
        """A curve (1, points): one of `columns`, or the training loss, whose name is "training"."""
        return self._history.values[[1 + ["training", *self.columns].index(name)]]

    def _level(self, value: float) -> np.ndarray:
        """A curve (1, points) that stays at one value."""
        return np.full((1, len(self._at)), value)

    def figures(self) -> Mapping[str, Figure]:
        self._is_drawn = True
        return self._drawings()

    @abstractmethod
    def _drawings(self) -> Mapping[str, Figure]:
        """All pictures, drawn as a whole."""

    def updates(self) -> Updates:
        if self._is_drawn:
            return {}
        self._is_drawn = True
        x = numbers(self._at)
        curves = {
            place: [
                (2 * i + 1, {"x": x, "y": numbers(line[0]), "mode": line_mode(self._at)})
                for i, line in enumerate(lines.values())
            ]
            for place, lines in self._curves().items()
        }
        return {**self._evaluated(), **curves}
