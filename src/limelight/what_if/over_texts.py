"""The measures of each head over several texts: means, intervals, and the texts in which they are least and most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.stats

from limelight.errors import InputError
from limelight.experiment.statistics import CONFIDENCE
from limelight.microscope.head_table import PLACES, Table


@dataclass(frozen=True)
class Spread:
    """A measure of one head over the texts in which it has a meaning.

    `low` and `high` are the interval mean ± t · s/√texts at the confidence of `limelight.experiment.statistics`; it is
    (−∞, ∞) for a single text, and where all texts have the same value, which says nothing of how much others may
    differ. `least_in` and `most_in` are numbers of texts, counted from 0.
    """

    mean: float
    low: float
    high: float
    texts: int
    least: float
    least_in: int
    most: float
    most_in: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where the measure has a meaning in no text."""
        known = [(x, text) for text, x in enumerate(values) if not math.isnan(x)]
        if not known:
            return None
        least, most = min(known), max(known, key=lambda one: (one[0], -one[1]))
        x = np.array([value for value, _ in known])
        mean, reach = float(x.mean()), math.inf
        if len(x) > 1 and np.ptp(x) > 0:
            reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
        return cls(mean, mean - reach, mean + reach, len(x), *least, *most)


@dataclass(frozen=True)
class OverTexts:
    """The measures of the heads of a model over several texts, from its table on each of them.

    `texts` say which text is which. Raises `InputError` for tables of other heads or measures.

    >>> from limelight.microscope import Table
    >>> from limelight.what_if.over_texts import OverTexts
    >>> tables = [Table(step=[0], text=[0], layer=[0], name=["a"], head=[1], entropy=[x]) for x in (1.0, 2.0, 1.5)]
    >>> found = OverTexts(("one", "two", "three"), tuple(tables))
    >>> found.table()["entropy"], found.spread("entropy")[0].most_in
    ([1.5], 1)
    """

    texts: tuple[str, ...]
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        if not self.tables or len(self.tables) != len(self.texts):
            raise InputError(f"OverTexts expects a table for each text, got {len(self.tables)} for {len(self.texts)}")
        heads, first = ("layer", "head"), self.tables[0]
        for table in self.tables:
            if table.measures != first.measures or any(table[name] != first[name] for name in heads):
                raise InputError("OverTexts expects tables of the same heads and measures, one for each text")

    @property
    def measures(self) -> tuple[str, ...]:
        return self.tables[0].measures

    @cached_property
    def _spreads(self) -> dict[str, list[Spread | None]]:
        rows = {name: zip(*(table[name] for table in self.tables), strict=True) for name in self.measures}
        return {name: [Spread.of(values) for values in of_heads] for name, of_heads in rows.items()}

    def spread(self, measure: str) -> list[Spread | None]:
        """A measure of each head, in the order of the tables; None for a head where it has a meaning in no text."""
        self.tables[0].require(measure)
        return self._spreads[measure]

    def table(self) -> Table:
        """The means over texts, with a row for each head."""
        columns: dict[str, list[Any]] = {name: [*self.tables[0][name]] for name in PLACES}
        for name in self.measures:
            columns[name] = [math.nan if one is None else one.mean for one in self.spread(name)]
        return Table(columns)
