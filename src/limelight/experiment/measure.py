"""What is measured, and what a trial found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Measure:
    """One number that every trial yields: what it is, its unit, which way is better, what a failed run counts as.

    >>> from limelight.experiment.measure import Measure
    >>> Measure('error inside the range of the data', 'of the variance', 'lower', failed=10.0).better
    'lower'
    """

    description: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    failed: float  # a run that diverged takes this value: it is a result, and never dropped


@dataclass(frozen=True)
class Measurement:
    """What one trial found: a value for each measure, and arrays to draw.

    >>> from limelight.experiment.measure import Measurement
    >>> Measurement({'error': 0.1}).values
    {'error': 0.1}
    """

    values: Mapping[str, float]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
