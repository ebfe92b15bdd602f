"""Translation prior: a network need not learn from data what its architecture assumes.

A comment in an online discussion (thisiszilff) argues that a convolution needs fewer images because
its architecture assumes that neighboring pixels belong together and that positions do not matter; that
self-attention plays a similar role; and, in a reply, that assuming a symmetry helps even if it is wrong. Here
digits are placed at random in a larger frame. Then the pixels of the same digits are permuted, with one
permutation for all images, so that neighboring pixels are unrelated.

Self-attention over patches knows neither neighborhoods nor that positions do not matter. Two arms give it one of the
two: a convolutional stem makes its tokens, or a bias for each offset of two patches takes the place of vectors that
tell where each patch is.

Every arm has the best of the learning rates that all arms tried, and trains until its loss has settled or the steps of
its architecture are used up. How many images an arm saves against another is read from their accuracies after 50 to
1,200 images, at the accuracy that the worse of the two reaches with all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from limelight import figures
from limelight.data import digits
from limelight.data.digits import FRAME
from limelight.experiment.claim import Picture
from limelight.experiment.learning_curves import log_inputs_saved
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.statistics import Interval, mean
from limelight.experiment.verdict import Part, Verdict
from limelight.models.image_classifiers import Convolutional, fully_connected
from limelight.models.image_transformer import ConvolutionalStem, GridBias, ImageTransformer, Patches
from limelight.models.positions import LearnedPositions
from limelight.models.training import batch_loss, descend
from limelight.models.transformer import EncoderLayer
from limelight.report.comparison import comparison
from limelight.similarity import Dot

SIZES = (50, 150, 400, 1200)  # numbers of training images
TEST, BATCH = 500, 64
SETTLED, WINDOW = 0.01, 25  # a loss has settled when its mean over so many steps is below this
PATCH, WIDTH, HEADS, HIDDEN, CHANNELS = 4, 32, 4, 64, 8
GRID = FRAME // PATCH  # patches, each way
FULL, CONV, ATTENTION = "fully connected", "convolution", "self-attention"
STEM, RELATIVE = "self-attention, convolutional stem", "self-attention, relative positions"
SHUFFLED, NO_LABELS = "convolution, shuffled", "convolution, random labels"


def _places() -> nn.Module:
    """A learned vector for each patch, small at first, so that it does not drown what the patch shows."""
    places = LearnedPositions(GRID**2, WIDTH)
    nn.init.normal_(places.table, std=0.1)
    return places


def _plain() -> nn.Module:
    return ImageTransformer(Patches(PATCH, WIDTH), _places(), [EncoderLayer(WIDTH, HEADS, HIDDEN)], WIDTH, 10)


def _with_stem() -> nn.Module:
    stem = ConvolutionalStem(CHANNELS, WIDTH)
    return ImageTransformer(stem, _places(), [EncoderLayer(WIDTH, HEADS, HIDDEN)], WIDTH, 10)


def _relative() -> nn.Module:
    layer = EncoderLayer(WIDTH, HEADS, HIDDEN, Dot() + GridBias(GRID, GRID, HEADS))
    return ImageTransformer(Patches(PATCH, WIDTH), nn.Identity(), [layer], WIDTH, 10)


# For each arm: its model, and the number of steps after which it stops even if its loss has not settled.
CONVOLUTION = (lambda: Convolutional(classes=10, channels=16), 200)
MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    FULL: (lambda: fully_connected(FRAME, classes=10), 800),
    CONV: CONVOLUTION,
    ATTENTION: (_plain, 600),
    STEM: (_with_stem, 600),
    RELATIVE: (_relative, 600),
    SHUFFLED: CONVOLUTION,
    NO_LABELS: CONVOLUTION,
}


class TranslationPrior(TunedClaim):
    """The claim that a prior saves training images where it is right, and costs accuracy where it is wrong."""

    name = "translation_prior"
    things = "digits"
    title = "A prior saves training images where it is right, and costs accuracy where it is wrong"
    question = (
        "Digits stand anywhere in a frame. How many training images does each network need: one that connects "
        "everything to everything, one that looks at neighborhoods wherever they are, one that relates patches to each "
        "other, and one that relates what a convolution makes of them, or knows only how they lie to each other? And when all images are shuffled in one way, so that neighbors mean nothing, does the prior still help?"
    )
    source = (
        "thisiszilff, a comment in an online discussion on why self-attention and convolutions need less data than "
        "fully connected layers, and the replies to it (page and year not known)"
    )
    arms = {
        FULL: "144 pixels → 64 → 10: 9,930 parameters, no prior; shuffling the pixels changes nothing for it",
        CONV: "two 3×3 convolutions and a maximum over places: 5,130 parameters",
        ATTENTION: "self-attention over nine 4×4 patches with learned places: 9,706 parameters",
        STEM: "the same, but two 3×3 convolutions make the patches' tokens: 10,954 parameters",
        RELATIVE: "the same over plain patches, with a bias for each offset of two patches in place of places: 9,518 parameters",
        SHUFFLED: "the convolution, on images whose pixels are all shuffled in one way",
        NO_LABELS: "the convolution, trained on labels drawn at random: the control",
    }
    control = NO_LABELS
    rates = (0.002, 0.006, 0.02)
    score = "accuracy"
    chosen = {
        FULL: 0.02, CONV: 0.02, ATTENTION: 0.006, STEM: 0.006, RELATIVE: 0.006, SHUFFLED: 0.02, NO_LABELS: 0.006
    }  # fmt: skip
    measures = {
        "accuracy": Measure(
            f"accuracy on unseen images, mean over {', '.join(map(str, SIZES))} training images",
            "share",
            "higher",
            failed=0.0,
        ),
        **{
            f"accuracy at {size}": Measure(f"accuracy after {size} training images", "share", "higher", failed=0.0)
            for size in SIZES
        },
    }

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def drawn(self, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """((images, labels) to train on, (images, labels) to test on), 8×8 pixels, drawn without overlap."""
        return digits.split(SIZES[-1], TEST, generator)

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        (images, labels), (unseen, truth) = self.drawn(generator)
        images, unseen = digits.in_frame(images, generator), digits.in_frame(unseen, generator)
        if arm == SHUFFLED:
            images, unseen = digits.permuted(torch.cat([images, unseen]), generator).split([SIZES[-1], TEST])
        if arm == NO_LABELS:
            labels = labels[torch.randperm(len(labels), generator=generator)]
        accuracy, steps = [], []
        for size in SIZES:
            model, taken = trained(arm, rate, images[:size], labels[:size], generator)
            with torch.no_grad():
                accuracy.append(float((model(unseen).argmax(-1) == truth).float().mean()))
            steps.append(taken)
        arrays = {"accuracy": np.array(accuracy), "steps": np.array(steps), "images": unseen[:8].numpy()}
        if arm == RELATIVE:
            arrays["bias"] = bias_of(model)
        by_size = {f"accuracy at {size}": share for size, share in zip(SIZES, accuracy, strict=True)}
        return Measurement({"accuracy": float(np.mean(accuracy)), **by_size}, arrays)

    def judge(self, results: Results) -> Verdict:
        most = f"accuracy at {SIZES[-1]}"
        return Verdict.of(
            [
                Part(
                    "a convolution needs at most a quarter of the images that a fully connected network needs",
                    images_saved(results, CONV), "at least", 4.0, "times fewer images",
                ),
                *(
                    Part(
                        f"self-attention over patches{how} needs at most half of the images that it needs",
                        images_saved(results, arm), "at least", 2.0, "times fewer images",
                    )
                    for arm, how in ((ATTENTION, ""), (STEM, " with a convolutional stem"), (RELATIVE, " with relative positions"))
                ),
                Part(
                    "a convolutional stem saves self-attention at least half of its images",
                    images_saved(results, STEM, ATTENTION), "at least", 2.0, "times fewer images",
                ),
                Part(
                    "relative positions save self-attention at least a fifth of its images",
                    images_saved(results, RELATIVE, ATTENTION), "at least", 1.25, "times fewer images",
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
        def needs(arm: str, than: str = FULL) -> str:
            found = images_saved(results, than, arm)  # the factor by which the other needs fewer is the share
            return f"{found.estimate:.0%} [{found.low:.0%}, {found.high:.0%}]"

        cost = results.difference(FULL, SHUFFLED, f"accuracy at {SIZES[-1]}").estimate
        return (
            f"For {self.things} that stand anywhere in the image, and equal accuracy, a convolution needs {needs(CONV)} of the "
            f"training images of a fully connected network, self-attention over patches {needs(ATTENTION)}, with relative "
            f"positions {needs(RELATIVE)}, and with a convolutional stem {needs(STEM)}; the stem's is {needs(STEM, ATTENTION)} of "
            f"what self-attention needs without it. Where all images are shuffled in one way, so that the convolution's prior is "
            f"wrong, it is {100 * cost:.0f} points less accurate than the fully connected network."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        seen = {"as they are": results.array(CONV, "images", seed), "shuffled": results.array(SHUFFLED, "images", seed)}
        bias = results.array(RELATIVE, "bias", seed)
        offsets = {f"head {head}": weights for head, weights in enumerate([] if bias is None else bias, start=1)}
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
                f"What relative positions learned from {SIZES[-1]} images on seed {seed}: the weight of a patch for each head by "
                "where it lies to the one that looks, which is the cell in row 3 and column 3; contents left aside.",
                *figures.matrices(offsets, "column", "row", "weight"),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, [f"accuracy at {size}" for size in SIZES]),
            ),
        ]


def trained(arm: str, rate: float, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[nn.Module, int]:
    """The arm's model, trained on random batches of these images until its loss has settled, and the steps it took."""
    build, most = MODELS[arm]
    model, recent = build(), deque[float](maxlen=WINDOW)
    for step, loss in enumerate(
        descend(model, batch_loss(model, images, labels, BATCH, generator), most, rate), start=1
    ):
        recent.append(loss)
        if step >= WINDOW and sum(recent) < SETTLED * WINDOW:
            return model, step
    return model, most


@torch.no_grad()
def bias_of(model: nn.Module) -> np.ndarray:
    """exp b / Σ exp b over all offsets, for each head: what the bias alone would make of equal scores."""
    (bias,) = (part for part in model.modules() if isinstance(part, GridBias))
    return bias.table.flatten(1).softmax(-1).view_as(bias.table).numpy()


def images_saved(results: Results, arm: str, than: str = FULL) -> Interval:
    """The factor by which `arm` needs fewer images than another arm, for what the worse of the two reaches with all.

    It is read from both accuracies as functions of log(images) for each seed, and averaged over seeds as a logarithm.
    Where `arm` is the worse one the factor is below one.
    """
    seeds = results.seeds(arm, than)
    curves = zip(*(_curves(results, each, seeds) for each in (arm, than)), strict=True)
    return mean([log_inputs_saved(own, other, SIZES) for own, other in curves]).map(np.exp)


def _curves(results: Results, arm: str, seeds: Sequence[int]) -> np.ndarray:
    return np.stack([results.values(arm, f"accuracy at {size}", seeds) for size in SIZES], 1)
