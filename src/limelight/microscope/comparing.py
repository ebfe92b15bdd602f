"""The measures of the same heads in two models that read the same text, such as before and after fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from limelight.errors import InputError
from limelight.microscope.head_table import PLACES, Table
from limelight.microscope.reading import Reading


@dataclass(frozen=True)
class Difference:
    """A measure in two models: its means over heads, and the head that differs most, with its values in both."""

    measure: str
    mean: float
    other_mean: float
    layer: int
    head: int
    value: float
    other: float


@dataclass(frozen=True)
class Comparison:
    """Two readings of a text by models with the same layers and heads; raises `InputError` for others."""

    first: Reading
    second: Reading

    def __post_init__(self) -> None:
        mine, theirs = (_layout(reading) for reading in (self.first, self.second))
        if mine != theirs:
            raise InputError(
                f"{self.first.model} has {_described(mine)} and {self.second.model} has {_described(theirs)}; only "
                "models with the same layers and heads can be compared head by head"
            )

    @property
    def table(self) -> Table:
        """The second model's measures minus the first's, a row for each head."""
        columns: dict[str, list[Any]] = {name: [*self.first.table[name]] for name in PLACES}
        for name in self._measures():
            pairs = zip(self.first.table[name], self.second.table[name], strict=True)
            columns[name] = [other - own for own, other in pairs]
        return Table(columns)

    def differences(self) -> Iterator[Difference]:
        """One for each measure that has a meaning in both."""
        table = self.table
        for name in self._measures():
            rows = [i for i, x in enumerate(table[name]) if math.isfinite(x)]
            if not rows:
                continue
            most = max(rows, key=lambda i: abs(table[name][i]))
            own, other = self.first.table[name], self.second.table[name]
            means = [sum(column[i] for i in rows) / len(rows) for column in (own, other)]
            place = table["layer"][most], table["head"][most]
            yield Difference(name, means[0], means[1], *place, own[most], other[most])

    def _measures(self) -> list[str]:
        return [name for name in self.first.table.measures if name in self.second.table.measures]


def _layout(reading: Reading) -> list[tuple[int, int]]:
    return [*zip(reading.table["layer"], reading.table["head"], strict=True)]


def _described(layout: list[tuple[int, int]]) -> str:
    return f"{len(layout)} heads in {len({layer for layer, _ in layout})} attention layers"
