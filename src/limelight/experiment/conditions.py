"""The conditions under which a trial is measured, and the digits to which its arrays are kept.

They are the same on every worker. This code is part of a result's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["plain", "prepare"]


def prepare(seed: int) -> None:
    """Set torch to one thread, and seed torch and NumPy."""
    import torch  # here, since it takes a second, which a page that lists claims need not wait

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (for libraries that draw from it)


def plain(arrays: Mapping[str, np.ndarray]) -> dict[str, list]:  # type: ignore[type-arg]
    """Arrays as nested lists of numbers with six significant digits; None stands for a value that is not finite."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(part) for part in value]
        return float(f"{value:.6g}") if math.isfinite(value) else None

    return {name: rounded(np.asarray(array).tolist()) for name, array in arrays.items()}
