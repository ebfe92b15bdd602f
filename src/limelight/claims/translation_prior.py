"""Translation prior: a network need not learn from data what its architecture assumes.

A comment in an online discussion (thisiszilff) argues that a convolution needs fewer images because
its architecture assumes that neighboring pixels belong together and that positions do not matter; that
self-attention plays a similar role; and, in a reply, that assuming a symmetry helps even if it is wrong. Here
digits are placed at random in a larger frame. Then the pixels of the same digits are permuted, with one
permutation for all images, so that neighboring pixels are unrelated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from limelight import figures
from limelight.data import digits
from limelight.data.digits import FRAME
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.statistics import Interval, mean
from limelight.experiment.verdict import Part, Verdict
from limelight.models.image_classifiers import Convolutional, SmallViT, fully_connected
from limelight.models.training import batch_loss, descend
from limelight.report.comparison import comparison

SIZES = (50, 250, 1200)  # numbers of training images
TEST, BATCH = 500, 64
FULL, CONV, ATTENTION = "fully connected", "convolution", "self-attention"
SHUFFLED, NO_LABELS = "convolution, shuffled", "convolution, random labels"

# For each arm: its model, steps and learning rate, with which the loss had settled on seeds 1000 to 1002, not judged.
FULLY_CONNECTED = (lambda: fully_connected(FRAME, classes=10), 800, 0.003)
CONVOLUTION = (lambda: Convolutional(classes=10, channels=16), 150, 0.01)
MODELS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    FULL: FULLY_CONNECTED,
    CONV: CONVOLUTION,
    ATTENTION: (lambda: SmallViT(FRAME, patch=4, classes=10, blocks=1), 600, 0.005),
    SHUFFLED: CONVOLUTION,
    NO_LABELS: CONVOLUTION,
}


class TranslationPrior(Claim):
    """The claim that a prior saves training images where it is right, and costs accuracy where it is wrong."""

    name = "translation_prior"
    title = "A prior saves training images where it is right, and costs accuracy where it is wrong"
    question = (
        "Digits stand anywhere in a frame. How many training images does each network need: one that connects "
        "everything to everything, one that looks at neighborhoods wherever they are, one that relates patches to each "
        "other? And when all images are shuffled in one way, so that neighbors mean nothing, does the prior still help?"
    )
    source = (
        "thisiszilff, a comment in an online discussion on why self-attention and convolutions need less data than "
        "fully connected layers, and the replies to it (page and year not known)"
    )
    arms = {
        FULL: "144 pixels → 64 → 10: 9,930 parameters, no prior; shuffling the pixels changes nothing for it",
        CONV: "two 3×3 convolutions and a maximum over places: 5,130 parameters",
        ATTENTION: "self-attention over nine 4×4 patches with learned places: 9,706 parameters",
        SHUFFLED: "the convolution, on images whose pixels are all shuffled in one way",
        NO_LABELS: "the convolution, trained on labels drawn at random: the control",
    }
    control = NO_LABELS
    measures = {
        f"accuracy at {size}": Measure(f"accuracy after {size} training images", "share", "higher", failed=0.0)
        for size in SIZES
    }

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        (images, labels), (unseen, truth) = digits.split(SIZES[-1], TEST, generator)
        images, unseen = digits.in_frame(images, generator), digits.in_frame(unseen, generator)
        if arm == SHUFFLED:
            images, unseen = digits.permuted(torch.cat([images, unseen]), generator).split([SIZES[-1], TEST])
        if arm == NO_LABELS:
            labels = labels[torch.randperm(len(labels), generator=generator)]
        values = {}
        for size in SIZES:
            model = train(arm, images[:size], labels[:size], generator)
            with torch.no_grad():
                right = model(unseen).argmax(-1) == truth
            values[f"accuracy at {size}"] = float(right.float().mean())
        return Measurement(
            values,
            arrays={"accuracy": np.array(list(values.values())), "images": unseen[:8].numpy()},
        )

    def judge(self, results: Results) -> Verdict:
        most = f"accuracy at {SIZES[-1]}"
        return Verdict.of(
            [
                Part(
                    "a convolution needs at most a quarter of the images for a fully connected network's best accuracy",
                    images_saved(results, CONV), "at least", 4.0, "times fewer images",
                ),
                Part(
                    "self-attention over patches needs at most half of the images for it",
                    images_saved(results, ATTENTION), "at least", 2.0, "times fewer images",
                ),
                Part(
                    "where neighbors mean nothing the convolution's prior costs at least five points of accuracy",
                    results.difference(FULL, SHUFFLED, most), "at least", 0.05, "share",
                ),
            ],
            control=Part(
                "trained on random labels, a convolution is right twice as often as chance",
                results.summary(NO_LABELS, most), "at least", 0.2, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        conv, attention = (f"{1 / images_saved(results, arm).estimate:.0%}" for arm in (CONV, ATTENTION))
        cost = results.difference(FULL, SHUFFLED, f"accuracy at {SIZES[-1]}").estimate
        return (
            f"To be as accurate as a fully connected network on digits that stand anywhere in the image, a convolution needs "
            f"{conv} of its training images, and self-attention over patches {attention}. Where all images are shuffled in "
            f"one way, so that the convolution's prior is wrong, it is {100 * cost:.0f} points less accurate than that network."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        seen = {"as they are": results.array(CONV, "images", seed), "shuffled": results.array(SHUFFLED, "images", seed)}
        accuracies = {arm: results.stack(arm, "accuracy") for arm in self.arms}
        return [
            Picture(
                "Accuracy on unseen images by the number of training images: the median over seeds, and the middle half.",
                figures.curves(accuracies, SIZES, "training images", "accuracy", log_x=True),
            ),
            Picture(
                f"Eight test images of seed {seed}: somewhere in the frame, and with their pixels shuffled in one way.",
                *figures.images(seen),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, list(self.measures)),
            ),
        ]


def train(arm: str, images: Tensor, labels: Tensor, generator: torch.Generator) -> nn.Module:
    """The arm's model, trained on random batches of these images."""
    build, steps, lr = MODELS[arm]
    model = build()

    for _ in descend(model, batch_loss(model, images, labels, BATCH, generator), steps, lr):
        pass
    return model


def images_saved(results: Results, arm: str) -> Interval:
    """The factor by which `arm` needs fewer images than the fully connected network for the latter's best accuracy.

    It is read from the arm's accuracy as a function of log(images), for each seed. If the smallest number of images is
    enough, the factor is the ratio to that number. If the largest number is not enough, the factor is below one, and
    the smaller the more accuracy is missing.
    """
    seeds = results.seeds(FULL, arm)
    saved = []
    for seed in seeds:
        goal = results.values(FULL, f"accuracy at {SIZES[-1]}", [seed])[0]
        curve = np.maximum.accumulate([results.values(arm, f"accuracy at {size}", [seed])[0] for size in SIZES])
        needed = np.interp(goal, curve, np.log(SIZES))
        short = max(goal - curve[-1], 0.0)
        saved.append(np.log(SIZES[-1]) - needed - short)
    return mean(saved).map(np.exp)
