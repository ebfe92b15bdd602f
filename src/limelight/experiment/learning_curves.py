"""How many training inputs one learner saves against another, read from their learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def log_inputs_saved(curve: np.ndarray, other: np.ndarray, sizes: Sequence[int]) -> float:
    """log of the inputs that `other` needs − log of those that `curve` needs, for what the worse one reaches with all.

    A curve has an accuracy for each number of inputs in `sizes`, which grow. Between two sizes it is read linearly in
    the logarithm of the number, and a learner counts as no worse with more inputs. Where the smallest number is already
    enough it is taken as the number needed, so that a larger saving than `sizes` spans is not seen.

    >>> import numpy as np
    >>> from limelight.experiment.learning_curves import log_inputs_saved
    >>> float(np.exp(log_inputs_saved(np.array([0.5, 0.7, 0.9]), np.array([0.3, 0.5, 0.7]), (100, 200, 400))))
    2.0
    """
    goal = min(curve.max(), other.max())
    return _needed(other, goal, sizes) - _needed(curve, goal, sizes)


def _needed(curve: np.ndarray, goal: float, sizes: Sequence[int]) -> float:
    """log of the number of inputs at which a curve first reaches the goal, which it does at one of `sizes`."""
    first = int(np.argmax(curve >= goal))
    if first == 0:
        return float(np.log(sizes[0]))
    least = float(curve[:first].max())
    return float(np.interp(goal, [least, curve[first]], np.log(sizes[first - 1 : first + 1])))
