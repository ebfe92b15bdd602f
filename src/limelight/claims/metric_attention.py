"""Metric attention: a learned metric is compared with a Euclidean distance, and both with a dot product.

Ruan & Zhang (2412.18288) replace the features of data points by weighted means, H ← P H, with
P ∝ exp −|φ(h_i) − φ(h_j)|² for a learned φ. They report that this trains faster, becomes more accurate and
varies less than L2 attention (with a linear φ), and that L2 attention does so in comparison with dot-product
attention. They give figures only, and no numbers.

As in their algorithm there is no residual connection and no value matrix: with a residual, points that all take
the same mean classify the digits equally well, so that the test could not distinguish the arms. Inputs are
standardized, the square maps are orthogonal at first, and dot products are not scaled down, so that every arm starts
with weights that are neither flat nor sharp. The experiment is smaller than theirs: 2 blocks, 150 steps, part of the
digits, and a learning rate for each arm.

Two more recipes show how far the order of the arms depends on this. One has the paper's own settings on the moons:
2,000 steps with the learning rate 0.001 for every arm. The other has a residual connection and a map of values, as a
Transformer has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limelight import figures
from limelight.data import digits
from limelight.data.moons import moons
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.propagation_network import (
    DotBlock,
    MetricBlock,
    PropagationNetwork,
    ResidualPropagationNetwork,
    TanhResidual,
    UniformBlock,
    linear_map,
)
from limelight.models.resumable import descend_resumably
from limelight.report.comparison import comparison

BLOCKS, STEPS, WEIGHT_DECAY = 2, 150, 1e-4
PAPER_STEPS, PAPER_RATE = 2000, 1e-3
EVERY = 3  # steps between two points of a curve
GOAL = 0.35  # a share of the loss of a guess; the steps to reach this level are counted
METRIC, EUCLIDEAN, DOT, UNIFORM = "metric", "euclidean", "dot", "uniform"
PAIRS = ((METRIC, EUCLIDEAN), (EUCLIDEAN, DOT))  # of each, the first is claimed to be better

BLOCK: dict[str, Callable[[int], nn.Module]] = {
    METRIC: lambda width: MetricBlock(TanhResidual(width)),
    EUCLIDEAN: lambda width: MetricBlock(linear_map(width)),
    DOT: DotBlock,
    UNIFORM: lambda width: UniformBlock(),
}


@dataclass(frozen=True)
class Task:
    """The points and their classes, the number of points whose class is known, and the width of the network."""

    points: Tensor
    labels: Tensor
    known: int
    width: int


def moons_of(seed: int) -> Task:
    points, labels = moons(500, noise=0.2, seed=seed)
    return Task(points, labels, known=400, width=10)


def digits_of(seed: int) -> Task:
    known, others = digits.split(200, 100, torch.Generator().manual_seed(seed))
    return Task(torch.cat([known[0], others[0]]).flatten(1), torch.cat([known[1], others[1]]), known=200, width=32)


@dataclass(frozen=True)
class Recipe:
    """What is learned by which network in how many steps; without a rate each arm has its own."""

    task_of: Callable[[int], Task]
    network: type[PropagationNetwork] = PropagationNetwork
    steps: int = STEPS
    rate: float | None = None


SEARCHED = {"moons": Recipe(moons_of), "digits": Recipe(digits_of)}  # by which the rate of each arm is chosen
PAPER, RESIDUAL = "moons, the paper's settings", "moons, with a residual"
RECIPES = {
    **SEARCHED,
    PAPER: Recipe(moons_of, steps=PAPER_STEPS, rate=PAPER_RATE),
    RESIDUAL: Recipe(moons_of, ResidualPropagationNetwork),
}


class MetricAttention(TunedClaim):
    """The claim that a learned metric is better than a Euclidean distance, and that one better than a dot product."""

    name = "metric_attention"
    title = "A learned metric trains attention faster, more accurately and more steadily than L2, and that than dot"
    question = (
        "Data points pass their features to each other, weighted by a similarity that is learned. Which similarity "
        "serves best: a learned metric, a Euclidean distance after a linear map, or a dot product? Judged by the steps it "
        "takes to learn, by the accuracy on points of unknown class, and by how much that varies from run to run."
    )
    source = "Ruan & Zhang 2024, Towards understanding how attention mechanism works in deep learning, 2412.18288"
    arms = {
        METRIC: "exp −|φ(h_i) − φ(h_j)|², φ a tanh layer with a residual",
        EUCLIDEAN: "exp −|W h_i − W h_j|²: the same with φ linear (L2 attention)",
        DOT: "exp ⟨W_q h_i, W_k h_j⟩",
        UNIFORM: "every point takes the mean of all: the control",
    }
    control = UNIFORM
    rates = (0.001, 0.003, 0.01, 0.03)
    score = "accuracy"
    chosen = {METRIC: 0.01, EUCLIDEAN: 0.03, DOT: 0.001, UNIFORM: 0.001}
    measures = {
        "accuracy": Measure(
            "accuracy on points of unknown class, the mean of moons and digits", "share", "higher", failed=0.0, summary="median"
        ),
        **{
            f"{name} {what}": measure
            for name, recipe in RECIPES.items()
            for what, measure in {
                "accuracy": Measure(
                    f"{name}: accuracy on points of unknown class", "share", "higher", failed=0.0, summary="median"
                ),
                "steps": Measure(
                    f"{name}: steps to {GOAL:.0%} of a guess's loss", f"steps, at most {recipe.steps}", "lower",
                    failed=float(recipe.steps), summary="median",
                ),
            }.items()
        },
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def measure(self, arm: str, seed: int) -> Measurement:
        found = [learned(arm, name, self.chosen[arm], seed) for name in RECIPES]
        return self._with_mean(found)

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        return self._with_mean([learned(arm, name, rate, seed) for name in SEARCHED])

    def _with_mean(self, found: Sequence[Measurement]) -> Measurement:
        """All values and arrays, and the mean accuracy over the tasks of the search."""
        values = {name: value for each in found for name, value in each.values.items()}
        mean = sum(values[f"{name} accuracy"] for name in SEARCHED) / len(SEARCHED)
        return Measurement({"accuracy": mean, **values}, {name: x for each in found for name, x in each.arrays.items()})

    def judge(self, results: Results) -> Verdict:
        better_at_the_end = [
            Part(
                f"{better} attention is at least one point more accurate than {worse} on the {name}",
                results.difference(better, worse, f"{name} accuracy"), "at least", 0.01, "share",
            )
            for name in RECIPES
            for better, worse in PAIRS
        ]  # fmt: skip
        faster = [
            Part(
                f"{better} attention reaches {GOAL:.0%} of a guess's loss in fewer steps than {worse} on the {name}",
                results.ratio(better, worse, f"{name} steps"), "at most", 1.0, "times",
            )
            for name in (*SEARCHED, PAPER)
            for better, worse in PAIRS
        ]  # fmt: skip
        steadier = [
            Part(
                f"metric attention's accuracy varies less between runs than dot's on the {name}",
                results.spread_ratio(METRIC, DOT, f"{name} accuracy"), "at most", 1.0, "times",
            )
            for name in (*SEARCHED, PAPER)
        ]  # fmt: skip
        return Verdict.of(
            [*better_at_the_end, *faster, *steadier],
            control=Part(
                "points that all take the same mean are at least one point more accurate than dot on the moons",
                results.difference(UNIFORM, DOT, "moons accuracy"), "at least", 0.01, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def right(name: str) -> str:
            return ", ".join(
                f"{results.summary(arm, f'{name} accuracy').estimate:.1%}" for arm, _ in (*PAIRS, (DOT, ""))
            )

        return (
            "Networks of attention with a learned metric, a Euclidean distance and dot products classify "
            f"{right('moons')} of the moons and {right('digits')} of the digits; with the paper's own settings "
            f"{right(PAPER)} of the moons, and with a residual connection and a map of values {right(RESIDUAL)} "
            "(medians over runs)."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        losses = [
            figures.curves(
                {arm: results.stack(arm, f"{name} loss") for arm in self.arms},
                EVERY, "step", f"loss on the {name} / loss of a guess",
            )
            for name in (*SEARCHED, PAPER)
        ]  # fmt: skip
        accuracies = [f"{name} accuracy" for name in RECIPES]
        return [
            Picture(
                "A dot for each seed, and the median with its interval. How far the dots of an arm spread counts too.",
                *comparison(results, accuracies),
            ),
            Picture("Training loss by step: the median over seeds, and the middle half of them.", *losses),
            Picture(
                "Steps to reach a third of a guess's loss, a dot for each seed.",
                *comparison(results, [f"{name} steps" for name in RECIPES]),
            ),
        ]


def learned(arm: str, name: str, rate: float, seed: int) -> Measurement:
    """The accuracy of an arm by one recipe, the steps that it took, and its loss by step."""
    recipe = RECIPES[name]
    task = recipe.task_of(seed)
    losses, predicted = learn(arm, recipe, task, rate)
    reached = np.flatnonzero(losses <= GOAL)
    return Measurement(
        {
            f"{name} accuracy": float((predicted == task.labels)[task.known :].float().mean()),
            f"{name} steps": float(reached[0]) if len(reached) else float(recipe.steps),
        },
        {f"{name} loss": losses[::EVERY]},
    )


def learn(arm: str, recipe: Recipe, task: Task, rate: float) -> tuple[np.ndarray, Tensor]:
    """(the loss after each step, divided by the loss of a guess; the predicted class of every point)."""
    points = (task.points - task.points.mean(0)) / task.points.std()
    classes = int(task.labels.max()) + 1
    known = torch.arange(len(points)) < task.known
    model = recipe.network(points.shape[1], task.width, classes, BLOCKS, lambda: BLOCK[arm](task.width))
    losses = descend_resumably(
        model,
        lambda: F.cross_entropy(model(points, known)[: task.known], task.labels[: task.known]),
        recipe.steps,
        rate if recipe.rate is None else recipe.rate,
        WEIGHT_DECAY,
    )
    history = np.array(losses) / np.log(classes)
    with torch.no_grad():
        return history, model(points, known).argmax(-1)
