"""Symmetry: how many images it saves to know one, and what it costs to assume one that is not there.

A comment in an online discussion (candiodari) says that "a model that is aware of this symmetry only has half as much
data to look at", and that "assuming symmetries works pretty well even if the assumption is wrong". Here fully connected
networks learn digits that are mirrored or turned at random, and sets of digits in random order. Some are told the
symmetry: by images that are moved at random while they train (augmentation), or by the mean of their answers to all
that the symmetry makes of an image (invariance).

Then the symmetry is wrong. Fewer and fewer of the images are mirrored, down to none, while networks assume that half
of them are; and digits that are never shifted are assumed to be shifted. The last arm assumes nonsense: a symmetry
between pixels that were exchanged at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limelight import figures
from limelight.data import digits
from limelight.data.pixel_symmetries import drawn, mirror, nonsense, quarter_turns, reorderings, shifts
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.learning_curves import log_inputs_saved
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.statistics import Interval, mean
from limelight.experiment.verdict import Part, Verdict
from limelight.models.parallel_mlp import ParallelMLP, cross_entropy
from limelight.models.training import descend
from limelight.report.comparison import comparison

SIZES = (50, 100, 200, 400, 800)  # numbers of training images
TEST, HIDDEN, BATCH, STEPS, RATE = 500, 128, 64, 300, 0.01  # settled on seeds from 1000 on
MEMBERS = 3  # digits of a set
PLAIN, AUGMENTED, INVARIANT, NONSENSE = "plain", "augmented", "invariant", "nonsense"
MIRRORED, NEVER_MIRRORED, TURNED, SET, NEVER_SHIFTED = (
    "half mirrored",
    "never mirrored",
    "turned",
    "set",
    "never shifted",
)
HARDLY_MIRRORED = "a tenth mirrored"
FEW, MANY = SIZES[0], SIZES[-1]


@dataclass(frozen=True)
class Task:
    """A symmetry that networks assume, as a table of pixels, and the share of images to which it applies."""

    symmetry: Tensor
    share: float
    members: int = 1  # digits of an input; a set has several, of which it must be told whether a certain one is there


# Of the images to which the mirror applies, half are mirrored.
TASKS = {
    MIRRORED: Task(mirror(), 1.0),
    "a quarter mirrored": Task(mirror(), 0.5),
    HARDLY_MIRRORED: Task(mirror(), 0.2),
    "a twentieth mirrored": Task(mirror(), 0.1),
    NEVER_MIRRORED: Task(mirror(), 0.0),
    NEVER_SHIFTED: Task(shifts(), 0.0),
    TURNED: Task(quarter_turns(), 1.0),
    SET: Task(reorderings(MEMBERS), 1.0, MEMBERS),
}
MIRROR_TASKS = [name for name in reversed(TASKS) if "mirrored" in name]  # from no mirrored digit to a half
MIRROR_SHARES = [TASKS[name].share / 2 for name in MIRROR_TASKS]
RIGHT = {MIRRORED: 2, TURNED: 4, SET: 6}  # tasks whose symmetry is there, and its elements


class Symmetry(Claim):
    """The claim that knowing a symmetry saves images, and that assuming a wrong one does little harm."""

    name = "symmetry"
    title = "A network that knows a symmetry needs fewer images, and assuming one that is wrong does little harm"
    question = (
        "Half of all digits are mirrored, or all are turned at random, or three of them come as a set in any order. How many "
        "training images are saved by a network that is told so? And if hardly any digit is mirrored, or none, what does it "
        "cost to assume that half of them are, with few images and with many?"
    )
    source = "candiodari, a comment in an online discussion on why architectures help (page and year not known)"
    arms = {
        PLAIN: "64 pixels → 128 → 10, trained on the images as they are",
        AUGMENTED: "the same, and each image is moved by a random element of the symmetry when it is trained on",
        INVARIANT: "the same, and its answer is the mean over all elements of the symmetry, in training and in the test",
        NONSENSE: "augmented by a symmetry with as many elements, between pixels that were exchanged at random: the control",
    }
    control = NONSENSE
    measures = {
        f"{task} {size}": Measure(f"{task}: accuracy after {size} training inputs", "share", "higher", failed=0.0)
        for task in TASKS
        for size in SIZES
    }

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def measure(self, arm: str, seed: int) -> Measurement:
        curves = {name: learning_curve(arm, task, seed) for name, task in TASKS.items()}
        return Measurement(
            {f"{name} {size}": float(curve[i]) for name, curve in curves.items() for i, size in enumerate(SIZES)},
            arrays=curves,
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                *(
                    Part(
                        f"told that half of all digits are mirrored, {how} networks need at most two thirds of the images",
                        images_saved(results, how, MIRRORED), "at least", 1.5, "times fewer images",
                    )
                    for how in (AUGMENTED, INVARIANT)
                ),
                *(
                    Part(
                        f"told that {what}, {how} networks need at most half of the {inputs}",
                        images_saved(results, how, task), "at least", 2.0, f"times fewer {inputs}",
                    )
                    for task, what, inputs in (
                        (TURNED, "digits are turned by quarter turns", "images"), (SET, "the order of a set does not matter", "sets")
                    )
                    for how in (AUGMENTED, INVARIANT)
                ),
                *(
                    Part(
                        f"assuming mirrored digits where there are none costs at most two points with {size} images",
                        gain(results, AUGMENTED, NEVER_MIRRORED, size), "at least", -0.02, "share",
                    )
                    for size in (FEW, MANY)
                ),
                Part(
                    f"where a tenth of the digits is mirrored, assuming a half is worth at least a point with {FEW} images",
                    gain(results, AUGMENTED, HARDLY_MIRRORED, FEW), "at least", 0.01, "share",
                ),
                Part(
                    f"assuming shifted digits where there are none is worth at least a point with {FEW} images",
                    gain(results, AUGMENTED, NEVER_SHIFTED, FEW), "at least", 0.01, "share",
                ),
            ],
            control=Part(
                "told a symmetry that makes no sense, networks need at most two thirds of the images",
                images_saved(results, NONSENSE, MIRRORED), "at least", 1.5, "times fewer images",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def saved(task: str) -> str:
            found = [images_saved(results, how, task) for how in (AUGMENTED, INVARIANT)]
            return " and ".join(f"{each.estimate:.1f} times [{each.low:.1f}, {each.high:.1f}]" for each in found)

        def points(task: str, size: int) -> str:
            return f"{100 * gain(results, AUGMENTED, task, size).estimate:+.1f}".replace("-", "−")

        return (
            f"To be as accurate as a network that is told nothing, augmented and invariant networks need {saved(MIRRORED)} "
            f"fewer images where half of the digits are mirrored, {saved(TURNED)} where they are turned by quarter turns, and "
            f"{saved(SET)} fewer sets of three. Assumed where no digit is mirrored, the mirror changes accuracy by "
            f"{points(NEVER_MIRRORED, FEW)} points with {FEW} images and by {points(NEVER_MIRRORED, MANY)} with {MANY}; "
            f"assumed where none is shifted, shifts change it by {points(NEVER_SHIFTED, FEW)} and {points(NEVER_SHIFTED, MANY)}. "
            f"To assume the mirror pays where more than {self._break_even(results, FEW):.0%} of the digits are mirrored with {FEW} "
            f"images, and more than {self._break_even(results, MANY):.0%} with {MANY}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        learned = [
            figures.curves(
                {arm: results.stack(arm, task) for arm in self.arms},
                SIZES,
                f"training inputs ({task})",
                "accuracy",
                log_x=True,
            )
            for task in RIGHT
        ]
        gained = {f"{size} images": self._gains(results, size) for size in SIZES}
        wrong = {
            f"{how}, {task}": results.stack(how, task) - results.stack(PLAIN, task)
            for task in (NEVER_MIRRORED, NEVER_SHIFTED)
            for how in (AUGMENTED, INVARIANT)
        }
        wrong["nonsense"] = results.stack(NONSENSE, NEVER_MIRRORED) - results.stack(PLAIN, NEVER_MIRRORED)
        return [
            Picture(
                "Accuracy on unseen inputs by the number of training inputs, where the symmetry is there: the median over seeds, "
                "and the middle half.",
                *learned,
            ),
            Picture(
                "What it is worth to assume that half of all digits are mirrored (augmentation), by the share that is: the "
                "median over seeds, and the middle half. Below zero the assumption costs accuracy.",
                figures.curves(gained, MIRROR_SHARES, "share of mirrored digits", "accuracy gained"),
            ),
            Picture(
                "What it is worth to assume a symmetry that is not there, by the number of training images.",
                figures.curves(wrong, SIZES, "training images", "accuracy gained", log_x=True),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, [f"{task} {FEW}" for task in (MIRRORED, TURNED, SET)]),
            ),
        ]

    def _gains(self, results: Results, size: int) -> np.ndarray:
        """What augmentation adds to the accuracy, for each seed by the share of mirrored digits."""
        seeds, i = results.seeds(PLAIN, AUGMENTED), SIZES.index(size)
        told, plain = (
            [_curves(results, arm, task, seeds)[:, i] for task in MIRROR_TASKS] for arm in (AUGMENTED, PLAIN)
        )
        return np.stack(told, 1) - np.stack(plain, 1)

    def _break_even(self, results: Results, size: int) -> float:
        """The share of mirrored digits from which on augmentation helps, linear between the shares that were tried."""
        gains = self._gains(results, size).mean(0)
        before = int(np.flatnonzero(gains < 0).max(initial=-1))
        if before in (-1, len(gains) - 1):
            return MIRROR_SHARES[max(before, 0)]
        return float(np.interp(0, gains[before : before + 2], MIRROR_SHARES[before : before + 2]))


def learning_curve(arm: str, task: Task, seed: int) -> np.ndarray:
    """The accuracy on unseen inputs of networks that learn from each number of inputs. Arms of a seed share the data."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    known, others = digits.split(len(digits.digits()[0]) - TEST, TEST, generator)
    (inputs, labels), (unseen, truth) = (
        examples(task, images, classes, count, seed, generator)
        for (images, classes), count in ((known, MANY), (others, TEST))
    )
    assumed = nonsense(task.symmetry, generator) if arm == NONSENSE else task.symmetry
    model = ParallelMLP(len(SIZES), inputs.shape[1], HIDDEN, 10 if task.members == 1 else 2)
    sizes = torch.tensor(SIZES)[:, None]

    def answers(x: Tensor) -> Tensor:
        if arm != INVARIANT:
            return model(x)
        orbit = x[..., assumed]  # networks, inputs, elements, pixels
        return model(orbit.flatten(1, 2)).unflatten(1, orbit.shape[1:3]).mean(2)

    def loss() -> Tensor:
        chosen = (torch.rand(len(SIZES), BATCH, generator=generator) * sizes).long()
        batch = inputs[chosen]
        moved = drawn(batch, assumed, generator) if arm in (AUGMENTED, NONSENSE) else batch
        return cross_entropy(answers(moved), labels[chosen])

    for _ in descend(model, loss, STEPS, RATE):
        pass
    with torch.no_grad():
        found = answers(unseen.expand(len(SIZES), -1, -1)).argmax(-1)
    return (found == truth).float().mean(1).numpy()


def examples(
    task: Task, images: Tensor, labels: Tensor, count: int, seed: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(inputs, classes) of a task: digits, or sets of digits with the class 1 if a certain digit is among them."""
    if task.members == 1:
        return drawn(images[:count].flatten(1), task.symmetry, generator, task.share), labels[:count]
    wanted, others = (images[at] for at in (labels == seed % 10, labels != seed % 10))
    sets = others[torch.randint(len(others), (count, task.members), generator=generator)]
    is_there = torch.rand(count, generator=generator) < 0.5
    sets[is_there, 0] = wanted[torch.randint(len(wanted), (int(is_there.sum()),), generator=generator)]
    return drawn(sets.flatten(1), task.symmetry, generator, task.share), is_there.long()


def gain(results: Results, arm: str, task: str, size: int) -> Interval:
    """By how much an arm is more accurate than the plain network with so many training inputs."""
    return results.difference(arm, PLAIN, f"{task} {size}")


def images_saved(results: Results, arm: str, task: str) -> Interval:
    """The factor by which an arm needs fewer inputs than the plain network for the same accuracy, over seeds.

    The accuracy is what the worse of the two reaches with all inputs. How many the better one needs for it is read from
    its curve, linearly in the logarithm of the number. Where the arm is worse the factor is less than one.
    """
    seeds = results.seeds(PLAIN, arm)
    curves = zip(*(_curves(results, name, task, seeds) for name in (PLAIN, arm)), strict=True)
    return mean([log_inputs_saved(told, plain, SIZES) for plain, told in curves]).map(np.exp)


def _curves(results: Results, arm: str, task: str, seeds: Sequence[int]) -> np.ndarray:
    values = [results.values(arm, f"{task} {size}", seeds) for size in SIZES]
    return np.stack(values, 1)
