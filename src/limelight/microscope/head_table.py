"""A table of measures, as a dict of columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from limelight.errors import InputError
from limelight.microscope.head_measures import Measure
from limelight.microscope.watched_attention import WatchedAttention

PLACES = ("step", "text", "layer", "name", "head")


class Table(dict[str, list[Any]]):
    """Columns by name, all of the same length: `table["entropy"]`, or `pandas.DataFrame(table)`."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The same as a list of rows."""
        return [dict(zip(self, row, strict=True)) for row in zip(*self.values(), strict=True)]

    @property
    def measures(self) -> tuple[str, ...]:
        """The columns that are measures."""
        return tuple(name for name in self if name not in PLACES)

    def require(self, measure: str) -> None:
        """Raise `InputError` for a measure that the table does not have."""
        if measure not in self.measures:
            raise InputError(f"this table has no measure {measure!r}; it has {', '.join(self.measures)}")

    def strongest(self, measure: str, count: int = 5) -> list[dict[str, Any]]:
        """The rows with the largest values of a measure, largest first, without those in which it has no meaning."""
        self.require(measure)
        rows = [row for row in self.rows if not math.isnan(row[measure])]
        return sorted(rows, key=lambda row: -row[measure])[:count]


def tabulate(attentions: Iterable[WatchedAttention], measures: Sequence[Measure]) -> Table:
    """The measures of every head of these attentions."""
    for measure in measures:
        if not isinstance(measure, Measure):
            raise InputError(f"table(measures=…) expects Measure objects, got {measure!r}; try Measure(name, function)")
    names = [measure.name for measure in measures]
    if doubled := sorted({name for name in names if names.count(name) > 1 or name in PLACES}):
        raise InputError(f"table(measures=…) expects a name of its own for each measure, got {doubled[0]!r} twice")
    table = Table({name: [] for name in (*PLACES, *names)})
    for P in attentions:
        assert P.place is not None
        assert P.heads is not None
        values = {measure.name: _values(measure, P) for measure in measures}
        place = P.place
        for head in range(P.heads):
            row = (place.step, place.text, place.layer, place.name, head, *(values[name][head] for name in names))
            for column, value in zip(table.values(), row, strict=True):
                column.append(value)
    return table


@torch.no_grad()
def _values(measure: Measure, P: WatchedAttention) -> list[float]:
    """One number for each head; NaN for a text without any token that is seen."""
    if 0 in P.shape:
        return [math.nan] * P.shape[0]
    found = measure.of(P)
    if not isinstance(found, Tensor) or found.shape != P.shape[:-2]:
        got = tuple(found.shape) if isinstance(found, Tensor) else f"{found!r}, which is no tensor"
        raise InputError(
            f"the measure {measure.name!r} must return one number for each head, {tuple(P.shape[:-2])}, got {got}"
        )
    return [float(x) for x in found.tolist()]
