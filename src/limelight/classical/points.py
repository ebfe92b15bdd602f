"""Common parts of the estimators: points as tensors, samples that do not depend on the order of rows, bandwidths."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from limelight.classical.parameters import require_positive

_SAMPLE = 1000  # the median distance is computed from at most so many points

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def undisturbed(method: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """The method, run without autocast, gradients and inference mode, so that its result does not depend on them."""

    @functools.wraps(method)
    def wrapped(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            return method(*args, **kwargs)

    return wrapped


def points(estimator: BaseEstimator, X: Any, *, reset: bool, **checks: Any) -> Float[Tensor, "n d"]:
    """X (n, d), checked as scikit-learn checks it, float32 or float64 (anything else becomes float64).

    A sparse X, if `accept_sparse` allows it, is made dense.
    """
    X = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32], **checks)
    return as_tensor(X)


def points_and_targets(
    estimator: BaseEstimator, X: Any, y: Any, **checks: Any
) -> tuple[Float[Tensor, "n d"], np.ndarray]:
    """(X, y) to fit, checked as scikit-learn checks them; y keeps its dtype unless `y_numeric`."""
    X, y = validate_data(estimator, X, y, dtype=[np.float64, np.float32], **checks)
    return as_tensor(X), y


def as_tensor(array: Any) -> Tensor:
    """The array as a tensor, which shares its memory if it is contiguous and writable."""
    array = np.ascontiguousarray(array.toarray() if issparse(array) else array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def sample(X: Float[Tensor, "n d"], most: int, *beside: Float[Tensor, "n e"]) -> Int[Tensor, " m"]:
    """The indices of at most `most` random points, which are the same points for every order of the rows."""
    # Random positions would give other points if the rows are shuffled, and every k-th row would depend on the order of
    # the data. So rows are sorted by their values, and equal ones by `beside`, and then drawn with a fixed seed: the
    # original order has no effect.
    if len(X) <= most:
        return torch.arange(len(X))
    columns = torch.cat([X, *(each.to(X.dtype) for each in beside)], 1).numpy()
    order = np.lexsort(columns.T[::-1])
    return torch.from_numpy(order[np.sort(np.random.default_rng(0).permutation(len(X))[:most])])


def pair_distances(X: Float[Tensor, "n d"]) -> Float[Tensor, " pairs"]:
    """The distances of every two different points among at most 1000 of them; empty if all coincide."""
    some = X[sample(X, _SAMPLE)].double()
    apart: Tensor = torch.nn.functional.pdist(some)
    return apart[apart > 0]


def median_distance(X: Float[Tensor, "n d"]) -> float:
    """The median distance between two different points, over at most 1000 of them; 0 if all coincide."""
    apart = pair_distances(X)
    return float(apart.median()) if len(apart) else 0.0


def bandwidth_for(estimator: BaseEstimator, X: Float[Tensor, "n d"], given: float | None) -> float:
    """The bandwidth h of exp −|x − y|²/2h²: the given one, or the median distance (1 if all points coincide).

    Raises `InputError` for one that is not positive and finite.
    """
    if given is None:
        return median_distance(X) or 1.0  # where all points coincide every bandwidth gives the same weights
    require_positive(estimator, "bandwidth", given, "a positive number or None")
    return float(given)
