"""The simulation of a page: a state that advances in steps, and pictures of it.

A picture is first drawn as a whole by a function of `limelight.figures`. After that only changed numbers are sent,
which is fast enough for animation.
"""

from __future__ import annotations

import base64
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from plotly.graph_objects import Figure

from limelight.errors import InputError
from limelight.lab.address import Values, shown

Change = tuple[int, dict[str, Any]]  # index of a trace of a figure, and its new attributes
Updates = Mapping[str, Sequence[Change]]


class Figures(Mapping[str, Figure]):
    """Pictures by the id of the element that shows them. Each is drawn whenever it is read."""

    def __init__(self, draw: Mapping[str, Callable[[], Figure]]) -> None:
        self._draw = draw

    def __getitem__(self, place: str) -> Figure:
        return self._draw[place]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._draw)

    def __len__(self) -> int:
        return len(self._draw)


class Simulation(ABC):
    """Base class of simulations. Each visitor of a page has one instance, in a worker process."""

    actions_redraw: ClassVar[bool] = True  # True if all pictures are drawn anew after `handle_action`

    def __init__(self, values: Values) -> None:
        self.values = values

    @classmethod
    def preload(cls, values: Values) -> None:
        """Import every module that a worker needs before it plays, and fill the caches that all visitors share.

        This is called once, in the process that workers are forked from. It must start no thread and not call
        `backward` (see `limelight.lab.preload`). By default all pictures are drawn once.
        """
        for figure in cls(values).figures().values():
            figure.to_json()

    @abstractmethod
    def step(self) -> bool:
        """Take one step. Return False if no further step is possible."""

    @abstractmethod
    def figures(self) -> Mapping[str, Figure]:
        """All pictures, drawn as a whole."""

    @property
    def has_work(self) -> bool:
        """True if something remains to be computed before the pictures show the present settings."""
        return False

    def work(self) -> Collection[str]:
        """Compute the next piece of it, and return the pictures to redraw as a whole.

        A worker calls this only while its page is seen. It looks for messages between two pieces, so that the pieces
        of a setting that has changed meanwhile are never computed.
        """
        return ()

    def choices(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """For each field that is `Listed`, the names that it can have, with their labels."""
        return {}

    def updates(self) -> Updates | None:
        """The changes of the pictures since they were last drawn as a whole, or None if they must be redrawn."""
        return None

    def labels(self) -> Mapping[str, str]:
        """The texts with the pictures' numbers, by the id of the element that shows each."""
        return {}

    @abstractmethod
    def change(self, values: Values) -> Collection[str]:
        """Apply new settings. Return the pictures to redraw as a whole, whose changes `updates` cannot express."""

    def handle_action(self, name: str, given: Any) -> str:
        """Handle an action of a visitor other than a change of settings. Return a sentence to show, or "".

        `given` is JSON from the browser. Raises `InputError` if it is invalid.
        """
        raise InputError(f"This page has no action called {shown(name)}.")

    def differing(self, values: Values) -> set[str]:
        """The names of the values that differ from the present ones; empty if they are the values of another page."""
        if values.keys() != self.values.keys():
            return set()
        return {name for name, value in values.items() if self.values[name] != value}

    @property
    def rate(self) -> float:
        """The largest number of steps per second."""
        return float(self.values["speed"])


def load(module: str) -> type[Simulation]:
    """The class of simulation that a module defines as `SIMULATION`."""
    simulation: type[Simulation] = importlib.import_module(module).SIMULATION
    return simulation


def numbers(array: Any) -> dict[str, str]:
    """An array in Plotly's binary form: 32-bit floats in base 64, a third of the length of decimals."""
    array = np.ascontiguousarray(array, dtype="<f4")
    return {
        "dtype": "f4", "bdata": base64.b64encode(array.tobytes()).decode(), "shape": ",".join(map(str, array.shape))
    }  # fmt: skip
