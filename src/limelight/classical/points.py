"""What the estimators share: points as tensors, a bandwidth where none is given, what is too small to compute with."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from limelight.attention import Attention
from limelight.errors import InputError
from limelight.similarity import Euclidean

_SAMPLE = 1000  # points that a median distance is taken over
_LARGEST = 1e-2  # error of a squared distance in units of the squared bandwidth


def points(estimator: BaseEstimator, X: Any, *, reset: bool, **checks: Any) -> Float[Tensor, "n d"]:
    """X (n, d), checked as scikit-learn checks it, float32 or float64 (anything else becomes float64)."""
    X = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32], **checks)
    return as_tensor(X)


def points_and_targets(
    estimator: BaseEstimator, X: Any, y: Any, **checks: Any
) -> tuple[Float[Tensor, "n d"], np.ndarray]:
    """(X, y) to fit, checked as scikit-learn checks them; y keeps its dtype unless `y_numeric`."""
    X, y = validate_data(estimator, X, y, dtype=[np.float64, np.float32], **checks)
    return as_tensor(X), y


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
        h = median_distance(X) or 1.0  # where all points coincide every bandwidth gives the same weights
        told = f"the median distance, {h:.3g}, which {name} takes as its bandwidth,"
    else:
        require_positive(estimator, "bandwidth", given, "a positive number or None")
        h, told = float(given), f"{name}(bandwidth={given:g})"
    require_told_apart(X, X, h, told)
    return h


def require_positive(estimator: BaseEstimator, name: str, value: Any, expected: str = "a positive number") -> None:
    """Raise `InputError` unless the parameter of this name is a positive finite number."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))
    if not number or not 0 < float(value) < math.inf:
        raise InputError(f"{type(estimator).__name__}({name}=…) expects {expected}, got {value!r}")


def require_told_apart(
    Q: Float[Tensor, "n d"], X: Float[Tensor, "m d"], h: float, told: str, remedy: str = "a bandwidth near that"
) -> None:
    """Raise `InputError` where |q − x|² cannot be computed to within a hundredth of h² in the dtype of the points."""
    if not told_apart(Q, X, h, X.dtype):
        far = 2 * max(_reach(Q, X), _reach(X, X))
        raise InputError(
            f"{told} is so small that distances up to {far:.3g} cannot be computed in its units in {X.dtype}; "
            f"the median distance is {median_distance(X):.3g}: try {remedy}, or scale the features"
        )


def told_apart(Q: Float[Tensor, "n d"], X: Float[Tensor, "m d"], h: float, dtype: torch.dtype) -> bool:
    """Is the rounding of ⟨q, x⟩ and |x|² about the mean of X less than a hundredth of h²?"""
    return bool(_reach(Q, X) * _reach(X, X) * torch.finfo(dtype).eps <= _LARGEST * h**2)


def gaussian(estimator: BaseEstimator, Q: Float[Tensor, "n d"], X: Float[Tensor, "m d"], h: float) -> Attention:
    """P_ij = softmax_j(−|q_i − x_j|²/2h²), in float64 where a query is so far off that float32 would not do.

    Raises `InputError` where float64 would not do either.
    """
    if Q.dtype != X.dtype or not told_apart(Q, X, h, X.dtype):
        Q, X = Q.double(), X.double()
        require_told_apart(Q, X, h, f"{type(estimator).__name__}'s bandwidth {h:.3g}")
    return Attention(Q, X, Euclidean(h))


def warn_of_underflow(
    estimator: BaseEstimator, log_sums: Float[Tensor, " n"], X: Float[Tensor, "m d"], h: float
) -> None:
    """Say of how many queries all exp −|q − x|²/2h² are zero in this dtype, so that the nearest point alone counts."""
    lost = int((log_sums < math.log(torch.finfo(log_sums.dtype).tiny)).sum())
    if lost:
        warnings.warn(
            f"{type(estimator).__name__}: the bandwidth {h:.3g} is so small that every weight of {lost} of "
            f"{len(log_sums)} points underflows; theirs is the answer of the nearest point. The median distance is "
            f"{median_distance(X):.3g}: try a bandwidth near that.",
            stacklevel=3,
        )


def _reach(Q: Float[Tensor, "n d"], X: Float[Tensor, "m d"]) -> float:
    """How far does the farthest of Q stand from the mean of X?"""
    return float((Q - X.mean(0)).norm(dim=1).max())
