"""The results of one claim for each arm and seed, and the comparisons between arms that a judgment uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

import numpy as np

from limelight.experiment.measure import Measure
from limelight.experiment.statistics import SUMMARIES, Interval, share, spread_ratio

Status = Literal["done", "diverged", "error"]


@dataclass(frozen=True)
class Record:
    """The outcome of one trial. The status `diverged` is a result of the arm; `error` is a fault of the program."""

    claim: str
    arm: str
    seed: int
    status: Status
    reason: str = ""
    seconds: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, list] = field(default_factory=dict)  # type: ignore[type-arg]
    versions: Mapping[str, str] = field(default_factory=dict)  # of packages; `commit` is that of a clone of Limelight
    machine: str = ""  # the processor that computed it


def as_record(given: Mapping[str, Any]) -> Record:
    """The record with these fields, which were read from a file. A field that is missing takes its default, so that
    files written before the field was added can be read.

    Raises `TypeError` or `ValueError` where a field without default is missing, or a field is unknown or of
    another type than was written.
    """
    record = Record(**given)
    if not all(isinstance(part, dict) for part in (record.values, record.arrays, record.versions)) or not (
        all(
            isinstance(text, str)
            for text in (record.claim, record.arm, record.reason, record.machine, *record.versions.values())
        )
        and type(record.seed) is int
        and record.status in get_args(Status)
        and all(_is_finite(value) for value in (record.seconds, *record.values.values()))
    ):
        raise TypeError("a field of a record is of another type than was written")
    for array in record.arrays.values():
        if not isinstance(array, list) or not _holds_numbers(array):
            raise TypeError("an array of a record holds something other than numbers")
        np.array(array, dtype=float)  # raises ValueError where rows are of different lengths
    return record


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _holds_numbers(array: list[Any]) -> bool:
    return all(_holds_numbers(part) if isinstance(part, list) else part is None or _is_finite(part) for part in array)


class Results:
    """The records of all trials of a claim that have one. Comparisons between arms are paired by seed.

    >>> from limelight.experiment.measure import Measure
    >>> from limelight.experiment.results import Record, Results
    >>> measures = {'error': Measure('mean error', 'cm', 'lower', failed=100.0)}
    >>> found = [('a', 0, 1.0), ('a', 1, 2.0), ('b', 0, 3.0), ('b', 1, 4.0)]
    >>> records = [Record('toy', arm, seed, 'done', values={'error': value}) for arm, seed, value in found]
    >>> Results(['a', 'b'], measures, records).difference('a', 'b', 'error').estimate
    -2.0
    """

    def __init__(self, arms: Iterable[str], measures: Mapping[str, Measure], records: Iterable[Record]) -> None:
        self.arms, self.measures = tuple(arms), measures
        place = {arm: number for number, arm in enumerate(self.arms)}
        self.records = sorted(records, key=lambda record: (place[record.arm], record.seed))
        self._of: dict[str, dict[int, Record]] = {arm: {} for arm in self.arms}  # the records of an arm, by seed
        for record in self.records:
            self._of[record.arm][record.seed] = record

    @property
    def failures(self) -> list[Record]:
        """The records of trials that diverged or raised an error."""
        return [record for record in self.records if record.status != "done"]

    def seeds(self, *arms: str) -> list[int]:
        """The seeds for which each of these arms (by default every arm) has a record whose status is not `error`."""
        counting = [self._counting(arm) for arm in arms or self.arms]
        return sorted(set.intersection(*counting)) if counting else []

    def values(self, arm: str, measure: str, seeds: Iterable[int] | None = None) -> np.ndarray:
        """The values of a measure, one for each seed. For a run that diverged it is the measure's `failed`."""
        chosen = self.seeds(arm) if seeds is None else seeds
        return np.array([self._value(self._of[arm][seed], measure) for seed in chosen])

    def summary(self, arm: str, measure: str) -> Interval:
        """The summary of a measure over seeds that the measure declares: its mean, median or share, or all values."""
        return self._summarized(self.values(arm, measure), measure)

    def share(self, arm: str, measure: str, expects: Literal["at least", "at most"], level: float) -> Interval:
        """The share of seeds for which a measure is at least, or at most, a level."""
        values = self.values(arm, measure)
        return share(values >= level if expects == "at least" else values <= level)

    def difference(self, first: str, second: str, measure: str, less: str | None = None) -> Interval:
        """The measure of `first` minus that of `second`, or minus the measure `less` of it, summarized over seeds."""
        seeds = self.seeds(first, second)
        with np.errstate(invalid="ignore"):  # two runs that failed are equal, though ∞ − ∞ is not defined
            differences = self.values(first, measure, seeds) - self.values(second, less or measure, seeds)
        return self._summarized(np.nan_to_num(differences, nan=0.0, posinf=np.inf, neginf=-np.inf), measure)

    def ratio(self, first: str, second: str, measure: str) -> Interval:
        """The ratio first / second of a measure that is at least 0: its geometric mean over seeds, or its median.

        The ratio of two zeros, and of two runs that count as infinite, is 1.
        """
        seeds = self.seeds(first, second)
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log(self.values(first, measure, seeds)) - np.log(self.values(second, measure, seeds))
        return self._summarized(np.nan_to_num(logs, nan=0.0, posinf=np.inf, neginf=-np.inf), measure).map(np.exp)

    def spread_ratio(self, first: str, second: str, measure: str) -> Interval:
        """The standard deviation of `first` over seeds divided by that of `second`; seeds are resampled in pairs."""
        seeds = self.seeds(first, second)
        return spread_ratio(self.values(first, measure, seeds), self.values(second, measure, seeds))

    def array(self, arm: str, name: str, seed: int) -> np.ndarray | None:
        """The array with this name that a trial kept to be drawn, or None if it kept none."""
        record = self._of.get(arm, {}).get(seed)
        return None if record is None or name not in record.arrays else np.array(record.arrays[name], dtype=float)

    def stack(self, arm: str, name: str) -> np.ndarray:
        """The arrays with this name of all seeds that have one, as one array (seeds, …)."""
        found = [self.array(arm, name, seed) for seed in self.seeds(arm)]
        return np.array([array for array in found if array is not None])

    def _summarized(self, values: np.ndarray, measure: str) -> Interval:
        return SUMMARIES[self.measures[measure].summary](values)

    def _counting(self, arm: str) -> set[int]:
        """The seeds for which an arm has a record whose status is not `error`."""
        return {seed for seed, record in self._of.get(arm, {}).items() if record.status != "error"}

    def _value(self, record: Record, measure: str) -> float:
        if record.status == "diverged":
            return self.measures[measure].failed
        return float(record.values[measure])
