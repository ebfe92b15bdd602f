"""Attention to near points predicts a noisy curve: write here what your claim is about."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limelight import Attention, Euclidean
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.report.comparison import comparison

POINTS, BANDWIDTH, NOISE = 200, 0.05, 0.2
NEAR, MEAN, SHUFFLED = "near", "mean", "shuffled"


class MyClaim(Claim):
    name = "claim_template"  # also the name of its folder of results
    title = "Attention to near points predicts a noisy curve better than the mean of all points"
    question = "Does a point's prediction get better if it attends to the points near it, in place of all alike?"
    source = "where the statement comes from"
    arms = {  # what is compared; the last arm is the control, which is expected to fail the test
        NEAR: f"Euclidean attention of bandwidth {BANDWIDTH}",
        MEAN: "the mean of all values",
        SHUFFLED: "the same attention to values that have been shuffled: the control",
    }
    control = SHUFFLED
    measures = {  # what a trial measures; `failed` is the value that counts for a run that diverges
        "error": Measure("mean squared error on new points", "of the variance of the curve", "lower", failed=10.0),
    }

    def measure(self, arm: str, seed: int) -> Measurement:
        """One trial. All arms have the same data for the same seed, so that nothing but the arm differs."""
        generator = torch.Generator().manual_seed(seed)
        x, new = torch.rand(2, POINTS, 1, generator=generator)
        y = curve(x) + NOISE * torch.randn(POINTS, 1, generator=generator)
        if arm == SHUFFLED:
            y = y[torch.randperm(POINTS, generator=generator)]
        predicted = y.mean() if arm == MEAN else Attention(new, x, Euclidean(BANDWIDTH)) @ y
        error = (predicted - curve(new)).square().mean() / curve(new).var()
        return Measurement({"error": float(error)})

    def judge(self, results: Results) -> Verdict:
        """The verdict. Write the thresholds before you see a result, and leave them as they are from then on."""
        return Verdict.of(
            [
                Part(
                    "attention's error is at most half that of the mean",
                    results.ratio(NEAR, MEAN, "error"), "at most", 0.5, "times",
                ),
            ],
            control=Part(
                "with shuffled values, attention's error is at most half that of the mean",
                results.ratio(SHUFFLED, MEAN, "error"), "at most", 0.5, "times",
            ),
        )  # fmt: skip

    def figures(self, results: Results) -> Sequence[Picture]:
        """What the report shows."""
        return [Picture("A dot for each seed, and the mean with its interval.", *comparison(results, ["error"]))]


def curve(x: Tensor) -> Tensor:
    """The curve that is to be predicted: two waves on the interval from 0 to 1."""
    return (4 * torch.pi * x).sin()
