"""What the estimators share: points as tensors, a bandwidth where none is given, and what is too small to compute with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from limelight.errors import InputError

_SAMPLE = 1000  # points that a median distance is taken over
_LARGEST = 1e-2  # error of a squared distance in units of the squared bandwidth


def points(estimator: BaseEstimator, X: Any, *, reset: bool, **checks: Any) -> Float[Tensor, "n d"]:
    """X (n, d), checked as scikit-learn checks it, float32 or float64 (anything else becomes float64)."""
    X = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32], **checks)
    return as_tensor(X)


def as_tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; shared memory where it is contiguous and may be written to."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def median_distance(X: Float[Tensor, "n d"]) -> float:
    """The median distance between two different points, over at most 1000 of them, evenly spaced in the data."""
    some = X[:: max(1, math.ceil(len(X) / _SAMPLE))].double()
    distances = torch.nn.functional.pdist(some)
    apart = distances[distances > 0]
    return float(apart.median()) if len(apart) else 0.0


def bandwidth_for(estimator: BaseEstimator, X: Float[Tensor, "n d"], given: float | None) -> float:
    """The bandwidth h of exp −|x − y|²/2h²: the given one, or the median distance (1 where all points coincide).

    Raises `InputError` for one that is not positive and
    finite, or so small that distances cannot be told apart in the precision of the points.
    """
    name = type(estimator).__name__
    if given is None:
        h = median_distance(X)
        if h == 0:
            return 1.0  # all points coincide: every bandwidth gives the same weights
        return h
    if isinstance(given, bool) or not isinstance(given, (int, float, np.number)) or not 0 < float(given) < math.inf:
        raise InputError(f"{name}(bandwidth=…) expects a positive number or None, got {given!r}")
    h = float(given)
    spread = float((X - X.mean(0)).square().sum(1).max())
    if spread * torch.finfo(X.dtype).eps > _LARGEST * h**2:
        raise InputError(
            f"{name}(bandwidth={h:g}) is so small that distances up to {2 * math.sqrt(spread):.3g} cannot be computed in "
            f"its units in {X.dtype}; the median distance is {median_distance(X):.3g}: try a bandwidth near that, "
            "or scale the features"
        )
    return h
