"""The quantities that a claim measures, and the values of them that one trial found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from limelight.experiment.statistics import Summary


@dataclass(frozen=True)
class Measure:
    """One number that every trial yields: its description, its unit, whether lower or higher is better.

    >>> from limelight.experiment.measure import Measure
    >>> Measure('error inside the range of the data', 'of the variance', 'lower', failed=10.0).better
    'lower'
    """

    description: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    failed: float  # the value of a run that diverged, ±∞ for a median: such a run is a result, and is never dropped
    summary: Summary = "mean"  # how its values are summarized over seeds


@dataclass(frozen=True)
class Measurement:
    """What one trial found: a value for each measure, and arrays for the pictures.

    >>> from limelight.experiment.measure import Measurement
    >>> Measurement({'error': 0.1}).values
    {'error': 0.1}
    """

    values: Mapping[str, float]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
