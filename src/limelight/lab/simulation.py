"""What a page plays: something that steps, and pictures of where it stands.

A picture is drawn whole by the library's own figure functions; between two such, only numbers in it change, which is
what lets it move.
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

Change = tuple[int, dict[str, Any]]  # the trace of a figure, and its new attributes
Updates = Mapping[str, Sequence[Change]]


class Figures(Mapping[str, Figure]):
    """Pictures by the id of their place on the page, each drawn when it is asked for."""

    def __init__(self, draw: Mapping[str, Callable[[], Figure]]) -> None:
        self._draw = draw

    def __getitem__(self, place: str) -> Figure:
        return self._draw[place]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._draw)

    def __len__(self) -> int:
        return len(self._draw)


class Simulation(ABC):
    """One visitor's copy of what a page shows."""

    actions_redraw: ClassVar[bool] = True  # True if all pictures are drawn anew after `handle_action`

    def __init__(self, values: Values) -> None:
        self.values = values

    @abstractmethod
    def step(self) -> bool:
        """Go on by one step; False where there is nowhere to go."""

    @abstractmethod
    def figures(self) -> Mapping[str, Figure]:
        """The pictures, whole."""

    def updates(self) -> Updates | None:
        """What has changed in the pictures since they were drawn whole; None where they must be drawn anew."""
        return None

    def labels(self) -> Mapping[str, str]:
        """Numbers told in words, by the id of their place."""
        return {}

    @abstractmethod
    def change(self, values: Values) -> Collection[str]:
        """Take other values; the pictures that must be drawn whole, for more has changed than `updates` can say."""

    def handle_action(self, name: str, given: Any) -> str:
        """Something that a visitor did other than setting a value; what to say of it, or nothing.

        `given` is JSON from outside. Raises `InputError` for what has no meaning.
        """
        raise InputError(f"This page does not know what {shown(name)} is.")

    def differing(self, values: Values) -> set[str]:
        """The names of the values that are other than now; none where they are another page's."""
        if values.keys() != self.values.keys():
            return set()
        return {name for name, value in values.items() if self.values[name] != value}

    @property
    def rate(self) -> float:
        """Steps in a second at most, while it plays."""
        return float(self.values["speed"])


def load(module: str) -> type[Simulation]:
    """The class of simulation that a module plays, its `SIMULATION`."""
    simulation: type[Simulation] = importlib.import_module(module).SIMULATION
    return simulation


def numbers(array: Any) -> dict[str, str]:
    """An array as the page takes it: 32-bit floats in base 64, a third of the length of decimals."""
    array = np.ascontiguousarray(array, dtype="<f4")
    return {
        "dtype": "f4", "bdata": base64.b64encode(array.tobytes()).decode(), "shape": ",".join(map(str, array.shape))
    }  # fmt: skip
