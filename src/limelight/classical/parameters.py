"""Checks that the parameters of an estimator are in range. They run in `fit`, as scikit-learn's do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from limelight.errors import InputError


def require_whole(estimator: BaseEstimator, name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise `InputError` unless value is a whole number in least … most."""
    good = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (good and least <= value and (most is None or value <= most)):
        upto = "" if most is None else f" and ≤ {most} for these points"
        raise InputError(f"{type(estimator).__name__}({name}=…) expects a whole number ≥ {least}{upto}, got {value!r}")


def require_tolerance(estimator: BaseEstimator, name: str, value: Any) -> None:
    """Raise `InputError` unless value is a finite number ≥ 0."""
    good = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not (good and 0 <= value < math.inf):
        raise InputError(f"{type(estimator).__name__}({name}=…) expects a finite number ≥ 0, got {value!r}")


def require_positive(estimator: BaseEstimator, name: str, value: Any, expected: str = "a positive number") -> None:
    """Raise `InputError` unless the parameter of this name is a positive finite number."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))
    if not number or not 0 < float(value) < math.inf:
        raise InputError(f"{type(estimator).__name__}({name}=…) expects {expected}, got {value!r}")
