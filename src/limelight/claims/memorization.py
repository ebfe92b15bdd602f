"""Memorization: networks of 2 to 256 hidden units learn digits with true labels, with partly wrong and with random ones.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) says that a larger network "might not generalize well, since it
might memorize training dataset instead of extracting useful patterns", and advises to "start with the smallest network
that learns". Zhang et al. (2017, 1611.03530) found that large networks memorize random labels and yet generalize from
true ones. Both are asked here: how much each size can memorize, and what it names of digits that it has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limelight import figures
from limelight.data import digits
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.models.mlp import mlp
from limelight.models.training import batch_loss, descend
from limelight.report.comparison import comparison

WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)
TRAIN, TEST, BATCH, STEPS, RATE = 300, 1000, 100, 800, 0.01  # steps and rate settled on seeds from 1000 on
SMALL, MIDDLE, LARGE = WIDTHS[1], 16, WIDTHS[-1]
LEARNED = 0.95  # the share of its training digits that a network must name to count as one that learns
TRUE, PARTLY, RANDOM = "true labels", "two fifths random", "random labels"
WRONG = {TRUE: 0.0, PARTLY: 0.4, RANDOM: 1.0}  # the share of labels that are drawn at random


class Memorization(Claim):
    """The claim that large networks memorize in place of learning, so that small ones should be tried first."""

    name = "memorization"
    title = "Large networks memorize in place of learning, so that the smallest one that learns generalizes best"
    question = (
        "Networks of more and more hidden units learn 300 digits whose labels are true, partly wrong, or drawn at random. How "
        "many random labels does each size memorize? And is the smallest network that learns better on unseen digits than a "
        "large one, which could memorize everything?"
    )
    source = (
        "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known), Fully Connected Network; "
        "Zhang, Bengio, Hardt, Recht & Vinyals 2017, Understanding deep learning requires rethinking generalization, 1611.03530"
    )
    arms = {
        TRUE: "each digit has its label",
        PARTLY: "two fifths of all labels are drawn at random",
        RANDOM: "all labels are drawn at random: the control",
    }
    control = RANDOM
    measures = {
        **{
            f"trained {width}": Measure(
                f"training labels that are learned, {width} hidden units", "share", "neither", failed=0.0, summary="median"
            )
            for width in WIDTHS
        },
        **{
            f"unseen {width}": Measure(
                f"unseen digits that are named, {width} hidden units", "share", "higher", failed=0.0, summary="median"
            )
            for width in WIDTHS
        },
        "smallest": Measure(
            f"unseen digits that are named by the smallest network that learns {LEARNED:.0%} of its labels, or by the largest",
            "share", "higher", failed=0.0, summary="median",
        ),
        "size": Measure(
            f"hidden units of the smallest network that learns {LEARNED:.0%} of its labels, or of the largest", "units",
            "neither", failed=float(LARGE), summary="median",
        ),
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        (images, labels), (unseen, truth) = digits.split(TRAIN, TEST, generator)
        wrong = torch.rand(TRAIN, generator=generator) < WRONG[arm]
        given = torch.where(wrong, torch.randint(10, (TRAIN,), generator=generator), labels)
        found = [learned(width, images, given, unseen, truth, generator) for width in WIDTHS]
        trained, tested = (np.array(each) for each in zip(*found, strict=True))
        smallest = int(np.argmax(trained >= LEARNED)) if (trained >= LEARNED).any() else len(WIDTHS) - 1
        return Measurement(
            values={
                **{f"trained {width}": float(value) for width, value in zip(WIDTHS, trained, strict=True)},
                **{f"unseen {width}": float(value) for width, value in zip(WIDTHS, tested, strict=True)},
                "smallest": float(tested[smallest]),
                "size": float(WIDTHS[smallest]),
            },
            arrays={"trained": trained, "unseen": tested},
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    f"{LARGE} hidden units memorize at least 95 % of {TRAIN} random labels",
                    results.summary(RANDOM, f"trained {LARGE}"), "at least", 0.95, "share",
                ),
                Part(
                    f"{SMALL} hidden units memorize at most half of them",
                    results.summary(RANDOM, f"trained {SMALL}"), "at most", 0.5, "share",
                ),
                Part(
                    f"with true labels the smallest network that learns names at least a point more of the unseen digits than {LARGE} units",
                    results.difference(TRUE, TRUE, "smallest", less=f"unseen {LARGE}"), "at least", 0.01, "share",
                ),
                Part(
                    f"with true labels {LARGE} hidden units, which could memorize, name at most 80 % of unseen digits",
                    results.summary(TRUE, f"unseen {LARGE}"), "at most", 0.8, "share",
                ),
                Part(
                    f"if two fifths of the labels are random, {MIDDLE} hidden units name at least five points more than {LARGE}",
                    results.difference(PARTLY, PARTLY, f"unseen {MIDDLE}", less=f"unseen {LARGE}"), "at least", 0.05, "share",
                ),
            ],
            control=Part(
                f"after random labels {LARGE} hidden units name at least 20 % of unseen digits",
                results.summary(RANDOM, f"unseen {LARGE}"), "at least", 0.2, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def share(arm: str, measure: str) -> str:
            return f"{results.summary(arm, measure).estimate:.0%}"

        return (
            f"Of {TRAIN} random labels {SMALL} hidden units memorize {share(RANDOM, f'trained {SMALL}')} and {LARGE} units "
            f"{share(RANDOM, f'trained {LARGE}')}. With true labels the smallest network that learns them, of "
            f"{results.summary(TRUE, 'size').estimate:.0f} units, names {share(TRUE, 'smallest')} of unseen digits, and {LARGE} units "
            f"name {share(TRUE, f'unseen {LARGE}')}. If two fifths of the labels are random, {MIDDLE} units name "
            f"{share(PARTLY, f'unseen {MIDDLE}')} and {LARGE} units {share(PARTLY, f'unseen {LARGE}')} (medians over runs)."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        drawn = [
            figures.curves(
                {arm: results.stack(arm, name) for arm in self.arms}, WIDTHS, "hidden units", label, log_x=True
            )
            for name, label in (("unseen", "accuracy on unseen digits"), ("trained", "training labels learned"))
        ]  # fmt: skip
        return [
            Picture(
                "By the number of hidden units, the median over seeds and the middle half: unseen digits that are named, and "
                "labels of the training digits, true or not, that are learned.",
                *drawn,
            ),
            Picture(
                "A dot for each seed, and the median with its interval.",
                *comparison(results, [f"unseen {MIDDLE}", f"unseen {LARGE}", f"trained {SMALL}", f"trained {LARGE}"]),
            ),
        ]


def learned(
    width: int, images: Tensor, labels: Tensor, unseen: Tensor, truth: Tensor, generator: torch.Generator
) -> tuple[float, float]:
    """The share of the given labels that a network of this width has learned, and of unseen digits that it names."""
    images, unseen = images.flatten(1), unseen.flatten(1)
    model = mlp(images.shape[1], width, 10)
    for _ in descend(model, batch_loss(model, images, labels, BATCH, generator), STEPS, RATE):
        pass
    with torch.no_grad():
        right = [
            (model(shown).argmax(-1) == known).float().mean() for shown, known in ((images, labels), (unseen, truth))
        ]
    return float(right[0]), float(right[1])
