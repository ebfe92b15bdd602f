"""The simulation of the page of the operator: points in the plane, their attention, and a process that repeats it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import torch
from plotly.graph_objects import Figure
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.claims.token_clusters import clusters
from limelight.data.plane_points import arrangement
from limelight.errors import InputError, LimelightError
from limelight.figures.plane import bar_marker, frame_heights
from limelight.lab.address import Values, shown
from limelight.lab.pages.operator import pictures
from limelight.lab.pages.operator.code import code
from limelight.lab.pages.operator.mechanism import Mechanism
from limelight.lab.pages.operator.process import MOVING, STEPS, begin
from limelight.lab.pages.operator.settings import COORDINATE_MAX, MOST
from limelight.lab.point_text import decoded, encoded
from limelight.lab.simulation import Figures, Simulation, Updates, numbers

PICTURES = ("operator-plane", "operator-matrix", "operator-entropy", "operator-mass")
_TRAIL = 40  # the last steps, which are drawn as lines
_STILL = 1e-6  # the process stops after a step that changes every number by less

_OF_THE_POINTS = {"arrangement", "n", "seed"}
_OF_THE_MECHANISM = {"similarity", "bandwidth", "normalization", "alpha", "mask"}


class OperatorSimulation(Simulation):
    """Attention among one set of points with one mechanism, and one process."""

    actions_redraw = False

    def __init__(self, values: Values) -> None:
        super().__init__(dict(values))
        self._refused = ""
        self._measured: pictures.Numbers | None = None
        self._mechanism = Mechanism.of(values)
        self._points = self._arranged()
        for i, place in decoded(str(values["moved"]), MOST, COORDINATE_MAX).items():
            if i < len(self._points):
                self._points[i] = torch.tensor(place, dtype=torch.float64)
        self._begin()
        self._try(self._mechanism)

    def _arranged(self) -> Tensor:
        return arrangement(str(self.values["arrangement"]), int(self.values["n"]), int(self.values["seed"]))

    @property
    def _chosen(self) -> int:
        return min(int(self.values["point"]), len(self._points)) - 1

    @property
    def _process(self) -> str:
        return str(self.values["process"])

    def _begin(self) -> None:
        """Go back to the state before the first step."""
        self._steps, self._settled = 0, False
        self._state = begin(self._process, self._points, self._chosen)
        self._trail = deque([self._state.x], maxlen=_TRAIL + 1)
        self._kept: Attention | None = None

    def _try(self, mechanism: Mechanism) -> None:
        """Use the mechanism if the library accepts it; otherwise remember the error and keep the last mechanism."""
        try:
            mechanism(self._state.x, self._state.keys)
        except LimelightError as problem:
            self._refused = str(problem)
            if mechanism is self._mechanism:  # the first one, so there is none to keep
                self._mechanism = Mechanism.of({**self.values, "normalization": "softmax", "alpha": 0.0})
        else:
            self._refused, self._mechanism = "", mechanism
        self._kept = None

    @property
    def A(self) -> Attention:
        """The attention operator P for the present points and mechanism."""
        if self._kept is None:
            self._kept = self._mechanism(self._state.x, self._state.keys)
        return self._kept

    @torch.no_grad()
    def step(self) -> bool:
        self._measured = None
        before, after = self._state, STEPS[self._process](self.A, self._state)
        if not after.largest <= 2 * COORDINATE_MAX:
            raise InputError("The process left the picture, since rows of P do not sum to one; press Reset.")
        self._state, self._kept = after, None if after.x is not before.x else self._kept
        self._steps += 1
        if self._process in MOVING:
            self._trail.append(after.x)
        self._settled = after.farthest(before) < _STILL
        return not self._settled

    def change(self, values: Values) -> Collection[str]:
        self._measured = None
        changed = self.differing(values) - {"moved"}
        self.values = {
            **values,
            "moved": self.values["moved"],
        }  # the worker keeps this value and reports it to the page
        if changed & _OF_THE_MECHANISM:
            self._try(Mechanism.of(self.values))
        if changed & _OF_THE_POINTS:
            self._arrange()
        elif self._requires_restart(changed):
            self._begin()
        return PICTURES if changed & {"n", "color", "process"} else ()

    def _requires_restart(self, changed: set[str]) -> bool:
        """True if a changed setting invalidates the steps taken so far."""
        source = "point" in changed and self._process == "heat"
        return "process" in changed or source or bool(changed & _OF_THE_MECHANISM and not self._refused)

    def _arrange(self) -> None:
        self.values["moved"] = ""
        self._points = self._arranged()
        self._begin()

    def handle_action(self, name: str, given: Any) -> str:
        """`move`: move a point, given as [number, x, y]; `arrange`: move all points back to where they were drawn."""
        self._measured = None
        if name == "arrange":
            self._arrange()
            return ""
        if name != "move":
            return super().handle_action(name, given)
        i, x, y = _move(given, len(self._points))
        if self._process == "drift":  # continue from the present positions of the points
            self._points = self._state.x.clamp(-COORDINATE_MAX, COORDINATE_MAX).round(decimals=3)
        self._points = self._points.clone()
        self._points[i] = torch.tensor([x, y], dtype=torch.float64).round(decimals=3)
        away = (self._points != self._arranged()).any(-1).nonzero()[:, 0].tolist()
        self.values["moved"] = encoded({j: tuple(self._points[j].tolist()) for j in away})
        self._begin()
        return ""

    def _picture(self) -> pictures.Numbers:
        """The numbers of the present state, computed once for the texts and the pictures."""
        if self._measured is None:
            trail = torch.stack(list(self._trail)).numpy() if self._process in MOVING else None
            color = str(self.values["color"])
            self._measured = pictures.measured(self.A, self._state, self._chosen, color, self._process, trail)
        return self._measured

    @torch.no_grad()
    def figures(self) -> Mapping[str, Figure]:
        now = self._picture()
        n, chosen = len(self._points), self._chosen
        alike = f"log {n}: all keys have equal weight"
        return Figures(
            {
                "operator-plane": lambda: figures.plane(now.scene, COORDINATE_MAX),
                "operator-matrix": lambda: figures.chosen_row(now.matrix, chosen),
                "operator-entropy": lambda: figures.bars(
                    now.entropy, chosen, "query", "entropy in nats", math.log(n), alike
                ),
                "operator-mass": lambda: figures.bars(
                    now.mass, chosen, "key", "column mass", 1, "1: all keys have equal mass"
                ),
            }
        )

    @torch.no_grad()
    def updates(self) -> Updates:
        now = self._picture()
        n, chosen = len(self._points), self._chosen
        colors = {"marker": bar_marker(n, chosen)}
        return {
            "operator-plane": pictures.changes(now.scene),
            "operator-matrix": [
                (0, {"z": numbers(now.matrix), "zmax": float(now.matrix.max())}), (1, {"y": frame_heights(chosen)})
            ],
            "operator-entropy": [(0, {"y": numbers(now.entropy), **colors})],
            "operator-mass": [(0, {"y": numbers(now.mass), **colors})],
        }  # fmt: skip

    @torch.no_grad()
    def labels(self) -> Mapping[str, str]:
        now = self._picture()
        said = {
            "operator-step": f"step {self._steps}{self._reached()}",
            "operator-code": code(self._points, self._mechanism, self._process, self._steps, self._chosen),
            "operator-moved": str(self.values["moved"]),
            "operator-count": f"{len(self._points)}",
            "operator-score": f"The score of a query x and a key y is {self._mechanism.score}.",
            **pictures.labels(self.A, now, self._chosen),
        }  # fmt: skip
        return {**said, "note": f"{self._refused}. The picture shows the last mechanism."} if self._refused else said

    def _reached(self) -> str:
        """The number of clusters, if points move, and whether the process has converged."""
        told = f" · about {float(clusters(self._state.x)):.1f} clusters" if self._process in MOVING else ""
        return told + (" · converged" if self._settled else "")


def _move(given: Any, n: int) -> tuple[int, float, float]:
    """The index of a point and its new position, from a browser. Raises `InputError` if they are not valid."""
    numeric = isinstance(given, list) and len(given) == 3
    numeric = numeric and all(isinstance(each, int | float) and not isinstance(each, bool) for each in given)
    if not numeric or not isinstance(given[0], int) or not 1 <= given[0] <= n:
        raise InputError(
            f"A move must be the number of a point, from 1 to {n}, and two coordinates; got {shown(given)}."
        )
    if not all(abs(each) <= COORDINATE_MAX for each in given[1:]):
        raise InputError(
            f"Coordinates must lie between −{COORDINATE_MAX:g} and {COORDINATE_MAX:g}; got {shown(given[1:])}."
        )
    return given[0] - 1, float(given[1]), float(given[2])


SIMULATION = OperatorSimulation
