"""The simulation of the page of slopes: a gate of linear experts and a ReLU network learn one surface."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from plotly.graph_objects import Figure
from torch import Tensor, nn

from limelight import figures
from limelight.claims.slopes import gate_of, grid, grid_points
from limelight.data.slope_bands import CENTERS, X_MAX
from limelight.data.slope_points import slopes
from limelight.figures.surfaces import clip_heights
from limelight.interpret.linear_regions import count_linear_regions
from limelight.lab.address import Values
from limelight.lab.descents import descent, stepped
from limelight.lab.history import History
from limelight.lab.pace import Pace
from limelight.lab.simulation import Figures, Simulation, Updates, numbers
from limelight.lab.upload import require_rows
from limelight.models.mixture_of_linear_experts import MixtureOfLinearExperts
from limelight.models.mlp import mlp

GATE, RELU = "gate", "ReLU network"
POINTS = 500
_NEAR = 0.2  # a slope is found if the error is less, as in the claim
_PAUSE = 0.5  # at least so many seconds between two counts of the linear pieces

_SURFACES = ("slopes-gate", "slopes-relu")
_ENDS = torch.tensor([(x, y) for x in (-X_MAX, X_MAX) for y in CENTERS])  # the two ends of each band
_OF_THE_DATA = {"noise", "seed", "a1", "a2", "a3", "a4", "a5"}


@dataclass(frozen=True)
class _Evaluation:
    """What a network says now: its surface over the grid, its relative error, and its five slopes."""

    surface: np.ndarray
    error: float
    slopes: np.ndarray


class SlopesSimulation(Simulation):
    """The networks of the claim on slopes, whose settings can all be changed."""

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self._own: tuple[Tensor, Tensor] | None = None
        self._data = self._drawn()
        self._begin()

    def _drawn(self) -> tuple[Tensor, Tensor]:
        if self._own is not None:
            return self._own
        generator = torch.Generator().manual_seed(int(self.values["seed"]))
        return slopes(POINTS, generator, noise=float(self.values["noise"]), values=self._true)

    @property
    def _true(self) -> list[float]:
        return [float(self.values[f"a{i + 1}"]) for i in range(len(CENTERS))]

    def _begin(self) -> None:
        torch.manual_seed(int(self.values["seed"]))
        width = int(self.values["width"])
        gate = MixtureOfLinearExperts(inputs=2, experts=int(self.values["experts"]))
        relu = mlp(2, width, width, 1)
        self._models = {name: nn.Sequential(model, nn.Flatten(0)) for name, model in ((GATE, gate), (RELU, relu))}
        self._steps, self._history = 0, History(len(self._models))
        self._pieces: dict[str, int] = {}
        self._pace = Pace(_PAUSE)
        self._start_descents()
        self._history.add(0, [found.error for found in self._evaluate().values()])

    def _start_descents(self) -> None:
        """Start new descents from the present weights, for example with another learning rate or on other data."""
        self._evaluations: dict[str, _Evaluation] = {}
        gate = self._models[GATE][0]
        assert isinstance(gate, MixtureOfLinearExperts)
        gate.temperature = float(self.values["temperature"])
        self._descents = {name: self._descent(model) for name, model in self._models.items()}

    def _descent(self, model: nn.Module) -> Iterator[float]:
        points, z = self._data

        def loss() -> Tensor:
            return (model(points) - z).square().mean()

        return descent(model, loss, float(self.values["rate"]))

    def step(self) -> bool:
        self._evaluations = {}
        variance = _variance(self._data[1])
        errors = [loss / variance for loss in stepped(self._descents)]
        if self._steps:  # `_begin` has added the first error
            self._history.add(self._steps, errors)
        self._steps += 1
        return True

    def change(self, values: Values) -> Collection[str]:
        changed = self.differing(values)
        self.values = values
        if changed & _OF_THE_DATA:
            self._data = self._drawn()
        if changed & {"experts", "width", "seed"}:
            self._begin()
        else:
            self._start_descents()
        self._pace.postpone()  # so that the picture is drawn before the linear pieces are counted
        surfaces = _SURFACES if changed & (_OF_THE_DATA | {"outside"}) else ()
        return {*surfaces, *(["slopes-weights"] if "experts" in changed else [])}

    def handle_action(self, name: str, given: Any) -> str:
        """`data`: the visitor's own points as `upload_of` returns their rows, or an empty list for the drawn points."""
        if name != "data":
            return super().handle_action(name, given)
        self._own = None
        if given:
            rows = torch.from_numpy(require_rows(given))
            self._own = rows[:, :2], rows[:, 2]
        self._data = self._drawn()
        self._begin()
        return ""

    @property
    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        return grid(2 * X_MAX if self.values["outside"] else X_MAX)

    @torch.no_grad()
    def _evaluate(self) -> dict[str, _Evaluation]:
        """What each network says, computed once for the texts and the pictures of a frame.

        One pass through a network, whose time depends little on the number of points, gives the numbers of
        `surface_of`, `relative_error` and `slopes_of` of the claim.
        """
        if not self._evaluations:
            (x, y), (points, z) = self._grid, self._data
            parts = [grid_points(x, y), points, _ENDS]
            sizes, together, variance = [len(part) for part in parts], torch.cat(parts), _variance(z)
            for name, model in self._models.items():
                surface, fitted, ends = model(together).split(sizes)
                left, right = ends.view(2, -1)
                self._evaluations[name] = _Evaluation(
                    surface.view(len(y), len(x)).numpy(),
                    float((fitted - z).square().mean()) / variance,
                    ((right - left) / (2 * X_MAX)).numpy(),
                )
        return self._evaluations

    @torch.no_grad()
    def _weights(self) -> np.ndarray:
        return gate_of(self._models[GATE][0])["gate"]

    def figures(self) -> Mapping[str, Figure]:
        return Figures(
            {
                **{
                    place: partial(figures.surface, name, *self._grid, found.surface, self._data)
                    for place, (name, found) in zip(_SURFACES, self._evaluate().items(), strict=True)
                },
                "slopes-weights": lambda: figures.stacked_area(
                    grid()[1], self._weights(), "expert", "y", "weight of each expert, at x = 0"
                ),
                "slopes-loss": lambda: figures.curves(
                    self._losses(), self._history.steps, "step", "error / variance of z", log=True
                ),
            }
        )

    def _losses(self) -> dict[str, np.ndarray]:
        values = self._history.values
        return {name: values[i : i + 1] for i, name in enumerate(self._models)}

    def updates(self) -> Updates:
        z = self._data[1].numpy()
        surfaces = {
            place: [(0, {"z": numbers(clip_heights(found.surface, z))})]
            for place, found in zip(_SURFACES, self._evaluate().values(), strict=True)
        }
        weights = [(i, {"y": numbers(column)}) for i, column in enumerate(self._weights().T)]
        steps = numbers(self._history.steps)
        losses = [
            (2 * i + 1, {"x": steps, "y": numbers(values[0]), "mode": "lines"})
            for i, values in enumerate(self._losses().values())
        ]
        return {**surfaces, "slopes-weights": weights, "slopes-loss": losses}

    def labels(self) -> Mapping[str, str]:
        self._count()
        said = {"slopes-step": f"step {self._steps}"}
        for name, place in ((GATE, "gate"), (RELU, "relu")):
            now, pieces = self._evaluate()[name], self._pieces[name]
            found = int((np.abs(now.slopes - self._true) < _NEAR).sum())
            said[f"slopes-said-{place}"] = (
                f"error {now.error:.2g} of the variance of z · {pieces} linear piece{'' if pieces == 1 else 's'}"
                + ("" if self._own is not None else f" · {found} of {len(CENTERS)} slopes found")
            )
        return said

    def _count(self) -> None:
        """Count the linear pieces of both networks if the count is due, since it takes longer than ten steps."""
        if self._pieces and not self._pace.is_due:
            return
        points = grid_points(*grid(X_MAX))
        with self._pace.measuring():
            self._pieces = {name: count_linear_regions(model, points) for name, model in self._models.items()}


def _variance(z: Tensor) -> float:
    """The variance of z, by which errors are divided; 1 if all are equal."""
    return float(z.var()) or 1.0


SIMULATION = SlopesSimulation
