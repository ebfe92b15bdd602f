"""Inputs saved are the distance between two learning curves, at what the worse one reaches."""

import numpy as np
import pytest

from limelight.experiment.learning_curves import log_inputs_saved

SIZES = (50, 100, 200, 400, 800)
SLOW, FAST = np.array([0.5, 0.6, 0.7, 0.8, 0.9]), np.array([0.7, 0.8, 0.9, 0.95, 0.97])


@pytest.mark.parametrize(
    ("curve", "other", "factor"),
    [
        (FAST, SLOW, 4.0),  # 200 inputs in place of 800
        (SLOW, FAST, 0.25),
        (SLOW, SLOW, 1.0),
        (SLOW - 0.05, SLOW, 2**-0.5),  # what 800 inputs give is given by 400 · √2
        (FAST, SLOW - 0.3, 16.0),  # the least number is enough, and no smaller one was tried
        (np.array([0.7, 0.9, 0.8, 0.85, 0.88]), SLOW, 8.0),  # more inputs count as no worse
    ],
)
def test_inputs_saved(curve, other, factor):
    assert np.exp(log_inputs_saved(curve, other, SIZES)) == pytest.approx(factor)
