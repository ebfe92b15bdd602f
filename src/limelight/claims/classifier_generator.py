"""Classifier to generator: a classifier makes a generator draw the class that is asked for, and the examples teach.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) lists as unproven that a classifier could be combined with a
GAN to generate more examples of each class. Here a classifier steers a GAN and a diffusion model, neither of which has
seen a label. An independent judge says whether the digits are those that were asked for, and a third classifier, which has
only fifty real images, learns from them.

Whose knowledge is it? The classifier that steers has learned from 900 labeled images, and the generators from the same
images without labels. So the third classifier learns at second hand from 900 labels, and a gain over its fifty images
alone does not show that examples come from nothing. Three other arms say more: samples that are not steered, but
labeled by the same classifier afterwards; examples that are steered by a classifier that knows only the same fifty
images, though the generator has still seen all 900; and the fifty images, shifted and with noise, which needs neither
classifier nor generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import shift
from sklearn.svm import SVC
from torch import Tensor

from limelight import figures
from limelight.data import digits
from limelight.data.digit_levels import MIDDLE, SPREAD, as_scanned, bounded, unbounded
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.models import digit_training as trained
from limelight.models.denoiser import Denoiser, NoisyClassifier
from limelight.models.diffusion import ddim_samples, guided
from limelight.models.fresh import fresh
from limelight.models.judges import judge_accuracies
from limelight.models.mlp import mlp
from limelight.models.training import descend
from limelight.report.comparison import comparison

POOL, FEW, JUDGING, TEST = (
    900,
    50,
    397,
    500,
)  # images for classifier and generators, of which few, for the judge, for tests
EXAMPLES = 500  # that the third classifier gets beside the few real images
SCALE, STEPS = 3.0, 25  # of the guidance, and steps of the sampler
# The sampler starts a little below T = 100. In the last timesteps nearly nothing is left of the image, √ᾱ is below 0.1,
# and a step divides by it: what guidance adds would grow a hundredfold. Without guidance the start makes no difference.
START = 95
SHIFT, NOISE = 0.3, 0.05  # the most that an image is shifted, in pixels, and the standard deviation of its noise
LEARNING = (300, 0.003, 1e-3)  # steps, learning rate and weight decay of the third classifier
SHOWN, WATCHED = 20, (0, 8, 14, 18, 21, 25)  # images in a picture, and steps of the sampler in another

GUIDED, STEERED, UNGUIDED, FIFTY = "guided diffusion", "steered GAN", "unguided diffusion", "guided by the fifty"
SHIFTED, REAL, SHUFFLED = "shifts and noise", "real images", "guided, shuffled labels"


@dataclass(frozen=True)
class Data:
    """The images and the digits of a seed, without overlap but for `few`, which are the first of the pool."""

    pool: tuple[Tensor, Tensor]
    few: tuple[Tensor, Tensor]
    judging: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def data_of(seed: int) -> Data:
    """The data of a seed."""
    pool, (images, labels) = digits.split(POOL, JUDGING + TEST, torch.Generator().manual_seed(seed))
    few = pool[0][:FEW], pool[1][:FEW]
    return Data(pool, few, (images[:JUDGING], labels[:JUDGING]), (images[JUDGING:], labels[JUDGING:]))


# The arms of a seed share the networks that they have in common.


@lru_cache(maxsize=2)
def classifier(seed: int) -> NoisyClassifier:
    """The classifier that steers: it has seen the pool with its labels."""
    return trained.noisy_classifier(*data_of(seed).pool, seed)


@lru_cache(maxsize=2)
def denoiser(seed: int) -> Denoiser:
    """The diffusion model: it has seen the pool without labels."""
    return trained.denoiser(data_of(seed).pool[0], seed)


@lru_cache(maxsize=2)
def _by_diffusion(seed: int, scale: float, few: bool) -> Tensor:
    """Images of 0, 1, …, 9, 0, … by diffusion, steered by the classifier of the pool, or by one of the few images."""
    steering = trained.noisy_classifier(*data_of(seed).few, seed) if few else classifier(seed)
    return bounded(_walk(seed, scale, steering, EXAMPLES, []))


def _walk(seed: int, scale: float, steering: NoisyClassifier, count: int, seen: list[Tensor]) -> Tensor:
    """The unbounded images that steered diffusion makes of noise; `seen` gets the images on the way, noise first."""
    asked, model = _asked()[:count], denoiser(seed)
    steered = guided(model, model.schedule, lambda x, t: steering.log_probability(x, t, asked), scale)

    def noise_of(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        return steered(x, t) if scale else model(x, t)

    noise = torch.randn(EXAMPLES, 8, 8, generator=torch.Generator().manual_seed(seed))[:count]
    return ddim_samples(noise_of, model.schedule, noise, STEPS, START)


def _guided_path(seed: int) -> np.ndarray:
    """Ten images of guided diffusion at some of the steps, as gray values."""
    seen: list[Tensor] = []
    last = _walk(seed, SCALE, classifier(seed), trained.CLASSES, seen)
    values = torch.stack([*(seen[step] for step in WATCHED[:-1]), last])
    return (values * SPREAD + MIDDLE).clamp(0, 1).numpy()


def _asked() -> Tensor:
    return torch.arange(EXAMPLES) % trained.CLASSES


Examples = tuple[Tensor, Tensor]  # images and the digits that they are given for


def _guided(seed: int) -> Examples:
    return _by_diffusion(seed, SCALE, False), _asked()


def _steered(seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    painter = trained.steered_generator(data_of(seed).pool[0], classifier(seed), seed)
    with torch.no_grad():
        return bounded(painter(torch.randn(EXAMPLES, trained.CODES, generator=generator), _asked())), _asked()


def _unguided(seed: int) -> Examples:
    images = _by_diffusion(seed, 0.0, False)
    with torch.no_grad():
        return images, classifier(seed)(unbounded(images), torch.zeros(EXAMPLES, dtype=torch.long)).argmax(-1)


def _by_the_fifty(seed: int) -> Examples:
    return _by_diffusion(seed, SCALE, True), _asked()


def _shifted(seed: int) -> Examples:
    """Each of the few images ten times, shifted by a part of a pixel, with noise."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = (part.repeat(EXAMPLES // FEW, *[1] * (part.dim() - 1)) for part in data_of(seed).few)
    moves = SHIFT * (2 * torch.rand(EXAMPLES, 2, generator=generator) - 1)
    moved = torch.stack([_moved(*pair) for pair in zip(images, moves, strict=True)])
    return as_scanned(moved + NOISE * torch.randn(moved.shape, generator=generator)), labels


def _moved(image: Tensor, by: Tensor) -> Tensor:
    return torch.tensor(shift(image.numpy(), by.numpy(), order=1))  # linear between pixels, white outside


def _real(seed: int) -> Examples:
    images, labels = data_of(seed).pool
    return images[FEW : FEW + EXAMPLES], labels[FEW : FEW + EXAMPLES]


def _shuffled(seed: int) -> Examples:
    images, labels = _guided(seed)
    return images, labels[torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed))]


ARMS: dict[str, Callable[[int], Examples]] = {
    GUIDED: _guided, STEERED: _steered, UNGUIDED: _unguided, FIFTY: _by_the_fifty, SHIFTED: _shifted, REAL: _real,
    SHUFFLED: _shuffled,
}  # fmt: skip


class ClassifierGenerator(Claim):
    """The claim that a classifier makes a generator draw examples of each class, which help to train another."""

    name = "classifier_generator"
    title = "A classifier can steer a generator to draw examples of each class, and these teach another classifier"
    question = (
        "A GAN and a diffusion model have seen digits, but no labels. Steered by a classifier, do they draw the digit that "
        "is asked for, by an independent judge? How much does a third classifier gain that has fifty real images and learns from five "
        "hundred drawn ones? And does it gain because examples are steered, or because the classifier that steers knows more than it?"
    )
    source = "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known)"
    arms = {
        GUIDED: "diffusion, whose steps climb the log-probability of the digit asked for; the classifier knows 900 labels",
        STEERED: "a GAN whose generator also learns to be classified as the digit asked for; the same classifier",
        UNGUIDED: "diffusion that is not steered, and its samples labeled by the same classifier",
        FIFTY: "guided diffusion, by a classifier that knows only the fifty labels of the third classifier",
        SHIFTED: "no generator: each of the fifty images ten times, shifted by up to 0.3 pixels, with noise",
        REAL: "five hundred other real images with their labels: the ceiling",
        SHUFFLED: "the examples of guided diffusion with shuffled labels: the control",
    }
    control = SHUFFLED
    measures = {
        "accepted": Measure("examples that an independent judge takes for their digit", "share", "higher", failed=0.0),
        "accuracy": Measure("accuracy of the third classifier on real images", "share", "higher", failed=0.0),
        "gain": Measure("accuracy gained over fifty real images alone", "share", "higher", failed=0.0),
        "variety": Measure(
            "distance of two examples of a class", "times that of two real images", "neither", failed=0.0
        ),
        "told": Measure("examples told from real images by the sharpest of three judges", "share", "lower", failed=1.0),
    }

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the networks

    def measure(self, arm: str, seed: int) -> Measurement:
        data = data_of(seed)
        images, labels = ARMS[arm](seed)
        judge = SVC().fit(data.judging[0].flatten(1).numpy(), data.judging[1].numpy())
        agrees = judge.predict(images.flatten(1).numpy()) == labels.numpy()
        alone = _accuracy(*data.few, data.test, seed)
        taught = _accuracy(torch.cat([data.few[0], images]), torch.cat([data.few[1], labels]), data.test, seed)
        return Measurement(
            values={
                "accepted": float(agrees.mean()),
                "accuracy": taught,
                "gain": taught - alone,
                "variety": _variety(images, labels) / _variety(*data.test),
                "told": max(judge_accuracies(data.test[0], images, seed).values()),
            },
            arrays={
                "images": images[:SHOWN].numpy(),
                "alone": np.array([alone]),
                **({"way": _guided_path(seed)} if arm == GUIDED else {}),
            },
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                *(
                    Part(
                        f"an independent judge accepts at least 90% of the examples of the {name}",
                        results.summary(arm, "accepted"), "at least", 0.9, "share",
                    )
                    for arm, name in ((GUIDED, "guided diffusion model"), (STEERED, "steered GAN"))
                ),
                *(
                    Part(
                        f"with those of the {name} a third classifier gains at least ten points over fifty real images alone",
                        results.summary(arm, "gain"), "at least", 0.1, "share",
                    )
                    for arm, name in ((GUIDED, "guided diffusion model"), (STEERED, "steered GAN"))
                ),
                Part(
                    "that is at least five points more than shifts and noise of the fifty images give",
                    results.difference(GUIDED, SHIFTED, "accuracy"), "at least", 0.05, "share",
                ),
                Part(
                    "steering helps: at least two points more than samples that the same classifier labels afterwards",
                    results.difference(GUIDED, UNGUIDED, "accuracy"), "at least", 0.02, "share",
                ),
                Part(
                    "it needs no more knowledge: steered by a classifier of the same fifty images, the gain is at least five points",
                    results.summary(FIFTY, "gain"), "at least", 0.05, "share",
                ),
            ],
            control=Part(
                "with shuffled labels the gain is at least ten points",
                results.summary(SHUFFLED, "gain"), "at least", 0.1, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        taken = {arm: f"{results.summary(arm, 'accepted').estimate:.0%}" for arm in self.arms}
        right = {arm: f"{results.summary(arm, 'accuracy').estimate:.0%}" for arm in self.arms}
        alone = results.stack(GUIDED, "alone")
        return (
            f"Steered by a classifier of 900 images, a diffusion model draws the digit that is asked for in {taken[GUIDED]} of "
            f"examples and a GAN in {taken[STEERED]}. A classifier of fifty real images, right on {alone.mean():.0%} of others, is right on "
            f"{right[GUIDED]} with 500 examples of the diffusion model and on {right[STEERED]} with those of the GAN; on {right[UNGUIDED]} with "
            f"samples that were not steered but labeled by the same classifier, on {right[SHIFTED]} with its own images shifted, and on "
            f"{right[FIFTY]} if the classifier that steers knows only the same fifty. 500 real images bring it to {right[REAL]}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        drawn = {arm: results.array(arm, "images", seed) for arm in self.arms}
        way = results.array(GUIDED, "way", seed)
        steps = (
            {} if way is None else {f"after {step} of {STEPS} steps": x for step, x in zip(WATCHED, way, strict=True)}
        )
        return [
            Picture(
                "How many examples an independent judge takes for the digit that they are given for, and how much a third "
                "classifier gains from 500 of them over its fifty real images alone. A dot for each seed, and the mean with its interval.",
                *comparison(results, ["accepted", "gain"]),
            ),
            Picture(
                f"The first twenty examples of each arm, seed {seed}. Those that were asked for are 0 to 9, twice.",
                *figures.images(drawn),
            ),
            Picture(
                f"How guided diffusion draws 0 to 9 from noise, seed {seed}.",
                *figures.images(steps),
            ),
            Picture(
                "The accuracy of the third classifier, how often the sharpest of three judges tells examples from real images, and how "
                "much two examples of a class differ.",
                *comparison(results, ["accuracy", "told", "variety"]),
            ),
        ]


def _variety(images: Tensor, labels: Tensor) -> float:
    """The mean distance of two images of a class, over all classes that have two."""
    classes = [images[labels == label].flatten(1) for label in range(trained.CLASSES)]
    return float(torch.stack([torch.pdist(one).mean() for one in classes if len(one) > 1]).mean())


def _accuracy(images: Tensor, labels: Tensor, test: tuple[Tensor, Tensor], seed: int) -> float:
    """How often a small network is right that learned from these images."""
    steps, rate, decay = LEARNING
    network = fresh(lambda: mlp(64, 64, trained.CLASSES), seed)
    pixels = images.flatten(1)
    for _ in descend(network, lambda: F.cross_entropy(network(pixels), labels), steps, rate, decay):
        pass
    with torch.no_grad():
        return float((network(test[0].flatten(1)).argmax(-1) == test[1]).float().mean())
