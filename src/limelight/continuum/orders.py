"""The order of convergence: the slope of the logarithm of an error over the logarithm of a size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limelight.errors import InputError


def order(sizes: Sequence[float] | np.ndarray, errors: Sequence[float] | np.ndarray) -> float:
    """r of errors ≈ C · sizes^r: the least-squares slope in log–log.

    Raises `InputError` unless there are at least two sizes, all different, and all numbers are positive and finite.

    >>> from limelight.continuum import order
    >>> round(order([0.1, 0.05, 0.025], [0.01, 0.0025, 0.000625]), 6)  # errors fall as the square
    2.0
    """
    x, y = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or len(np.unique(x)) < max(2, len(x)):
        raise InputError(f"order expects two or more sizes, all different, and an error for each; got {x} and {y}")
    if not ((x > 0) & np.isfinite(x) & (y > 0) & np.isfinite(y)).all():
        raise InputError(f"order expects positive finite sizes and errors, got {x} and {y}")
    # errors = C · sizes^r is the line log errors = log C + r log sizes, whose slope a least-squares fit finds, so that
    # all sizes count, not only the last two. The slope is the order only if the leading term of the error dominates:
    # the line bends at sizes that are too large, and where the error has reached rounding.
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
