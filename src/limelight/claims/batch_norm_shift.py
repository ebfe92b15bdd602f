"""Batch norm under a shift: does it account for test images that are brighter, or have less contrast, than those learned?

daulet's "Neural Net Intuition" (nn-intuition on GitHub) says of batch norm that "although the reason for its usefulness
is debatable, intuitively it normalizes the input to account for distribution shift between training and evaluation
data". As it is used, batch norm stores means and variances in training and keeps them in evaluation, so that it does
the same to every image. It can account for a shift only if its statistics are taken anew from the images of the test
(Schneider et al. 2020, 2006.16971), and then an answer depends on what else is in the batch.

Small convolutional networks learn the digits as they are. Then a constant is added to all pixels of the test images, or
all are multiplied by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from limelight import figures
from limelight.data import digits
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.normalized_network import NormalizedNetwork, layer_norm, no_norm, with_statistics_of
from limelight.models.training import batch_loss, descend
from limelight.report.comparison import comparison

TRAIN, TEST, BATCH, STEPS = 1200, 500, 64, 250
BRIGHTER = (0.0, 0.25, 0.5, 0.75, 1.0)  # what is added to gray values, which are between 0 and 1
FADED = (1.0, 0.5, 0.25, 0.125, 0.0625)  # what they are multiplied by
ADDED, FACTOR = 0.5, 0.25  # of the shifts that are judged
STORED, ANEW, LAYER, NONE = "batch norm, stored", "batch norm, taken anew", "layer norm", "no norm"
NOISE = "batch norm, of noise"

# For each arm: its normalization, and how the trained network is prepared for the images of a test.
ARMS: dict[str, tuple[Callable[[int], nn.Module], Callable[[nn.Module, Tensor], nn.Module]]] = {
    STORED: (nn.BatchNorm2d, lambda model, images: model),
    ANEW: (nn.BatchNorm2d, with_statistics_of),
    LAYER: (layer_norm, lambda model, images: model),
    NONE: (no_norm, lambda model, images: model),
    NOISE: (nn.BatchNorm2d, lambda model, images: with_statistics_of(model, torch.randn_like(images))),
}


class BatchNormShift(TunedClaim):
    """The claim that batch norm accounts for a shift between training and evaluation."""

    name = "batch_norm_shift"
    title = "Batch norm accounts for a shift between training and evaluation"
    question = (
        "Networks have learned digits. Then all images of the test become brighter, or lose contrast. Is a network with batch "
        "norm more accurate on them than one without? With the statistics that it stored in training, as it is used, or with "
        "statistics that are taken anew from the images of the test? And with layer norm?"
    )
    source = "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known), Batch Norm"
    arms = {
        STORED: "each channel is normalized by the mean and variance that were stored in training, as is usual",
        ANEW: "the same network, with the mean and variance of the images of the test, without their labels",
        LAYER: "each image is normalized by the mean and variance of its own features",
        NONE: "the same convolutions without a normalization",
        NOISE: "batch norm, with the mean and variance of images of noise: the control",
    }
    control = NOISE
    rates = (0.001, 0.003, 0.01, 0.03)
    score = "as they are"
    chosen = {STORED: 0.01, ANEW: 0.01, LAYER: 0.003, NONE: 0.01, NOISE: 0.003}
    measures = {
        name: Measure(description, "share", "higher", failed=0.0, summary="median")
        for name, description in {
            "as they are": "accuracy on unseen digits",
            "brighter": f"accuracy where {ADDED} is added to all gray values",
            "faded": f"accuracy where all gray values are multiplied by {FACTOR}",
            "one digit": f"accuracy where {ADDED} is added, on batches of one digit each",
        }.items()
    }

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the trained networks

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        norm, prepared = ARMS[arm]
        model = trained(norm, STEPS, rate, seed)
        _, (images, labels) = split(seed)

        def right(shown: Tensor, truth: Tensor) -> Tensor:
            with torch.no_grad():
                return prepared(model, shown)(shown).argmax(-1) == truth

        brighter, faded = (
            [float(right(shown, labels).float().mean()) for shown in shifted]
            for shifted in ([images + by for by in BRIGHTER], [images * by for by in FADED])
        )
        alone = [right(images[labels == digit] + ADDED, labels[labels == digit]) for digit in range(10)]
        return Measurement(
            values={
                "as they are": brighter[0],
                "brighter": brighter[BRIGHTER.index(ADDED)],
                "faded": faded[FADED.index(FACTOR)],
                "one digit": float(torch.cat(alone).float().mean()),
            },
            arrays={"brighter": np.array(brighter), "faded": np.array(faded), "images": images[:6].numpy()},
        )

    def judge(self, results: Results) -> Verdict:
        shifts = {
            "brighter": f"where {ADDED} is added to all gray values",
            "faded": f"where they are multiplied by {FACTOR}",
        }
        gains = {
            STORED: "batch norm with stored statistics, as it is used, is at least five points more accurate than no norm",
            ANEW: "with statistics taken anew it is at least five points more accurate than no norm",
            LAYER: "layer norm is at least five points more accurate than no norm",
        }
        return Verdict.of(
            [
                *(
                    Part(f"{says} {where}", results.difference(arm, NONE, shift), "at least", 0.05, "share")
                    for arm, says in gains.items()
                    for shift, where in shifts.items()
                ),
                *(
                    Part(
                        f"with statistics taken anew batch norm loses at most two points {where}",
                        results.difference(ANEW, ANEW, "as they are", less=shift), "at most", 0.02, "share",
                    )
                    for shift, where in shifts.items()
                ),
                Part(
                    "and at most ten points more if a batch holds one digit only",
                    results.difference(ANEW, ANEW, "brighter", less="one digit"), "at most", 0.1, "share",
                ),
            ],
            control=Part(
                "with the statistics of noise it is at least five points more accurate than no norm where gray values are added",
                results.difference(NOISE, NONE, "brighter"), "at least", 0.05, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def each(measure: str) -> str:
            return ", ".join(f"{results.summary(arm, measure).estimate:.0%}" for arm in (STORED, ANEW, LAYER, NONE))

        return (
            f"Networks with batch norm as it is used, with its statistics taken anew from the test, with layer norm and with no "
            f"norm name {each('as they are')} of unseen digits, {each('brighter')} where {ADDED} is added to all gray values, and "
            f"{each('faded')} where these are multiplied by {FACTOR}. If the statistics come from batches of one digit, batch "
            f"norm names {results.summary(ANEW, 'one digit').estimate:.0%} (medians over runs)."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        found = {name: {arm: results.stack(arm, name) for arm in self.arms} for name in ("brighter", "faded")}
        images = np.asarray(results.array(STORED, "images", results.seeds()[0]))[:3]
        shown = np.concatenate([images, images + ADDED, images * FACTOR])
        return [
            Picture(
                "Accuracy on unseen digits by what is added to their gray values, and by what these are multiplied by: the "
                "median over seeds, and the middle half.",
                figures.curves(found["brighter"], BRIGHTER, "added to gray values", "accuracy"),
                figures.curves(found["faded"], FADED, "gray values multiplied by", "accuracy"),
            ),
            Picture(
                f"Three digits of the test: as they are, with {ADDED} added, and multiplied by {FACTOR}, in one scale of gray.",
                *figures.images({"": shown}),
            ),
            Picture(
                "A dot for each seed, and the median with its interval.", *comparison(results, list(self.measures))
            ),
        ]


def split(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((images, digits) to train on, (images, digits) to test on) of a seed."""
    return digits.split(TRAIN, TEST, torch.Generator().manual_seed(seed))


@cache
def trained(norm: Callable[[int], nn.Module], steps: int, rate: float, seed: int) -> nn.Module:
    """A network that has learned digits as they are. Arms of one normalization share it."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    (images, labels), _ = split(seed)
    model = NormalizedNetwork(10, norm)

    for _ in descend(model, batch_loss(model, images, labels, BATCH, generator), steps, rate):
        pass
    return model.eval()
