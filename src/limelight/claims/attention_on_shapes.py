"""Attention on shapes: the points of a body's surface attend to each other, to find which part of it each is.

Ruan & Zhang (2412.18288) say of their metric-attention that it outperforms self-attention in training efficiency,
accuracy and robustness. One of their experiments labels scanned human bodies with their parts; they show curves and no
numbers. Here a body is made of capsules, in a random pose and with random proportions, and stands in for the scanned
bodies of Maron et al. (2017), which would have to be downloaded. Each point of its surface is a token with its
coordinates and its normal, and attends to all points of the body.

There are two networks. One has the blocks of a Transformer: a residual, a map of values and a fully connected layer. A
body is turned at random each time it is seen, so that a point cannot know from its place alone what it is. All arms
have a learning rate of their own, and distances and dot products have the same scale 1/√width. The other network is the
paper's, H ← P H with one rate for all arms and unscaled scores. It learns hardly anything from bodies that lie in any
direction, so that its bodies stand upright and are turned about the vertical axis only.

With the scanned bodies, a file of one's own runs the same trials on them, with `limelight run ./attention_on_scans.py`:

    from limelight.claims.attention_on_shapes import POINTS, TRAIN, AttentionOnShapes
    from limelight.data.human_bodies import human_bodies

    class AttentionOnScans(AttentionOnShapes):
        name = "attention_on_scans"
        title = "The same on scanned bodies"

        def bodies(self, generator):
            return human_bodies("folder/of/bodies", TRAIN, POINTS, generator)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from plotly.graph_objects import Figure
from torch import Tensor, nn

from limelight import figures
from limelight.data.articulated_bodies import PARTS, Bodies, articulated_bodies, random_rotations
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.propagation_network import TanhResidual, linear_map
from limelight.models.surface_network import (
    Alone,
    DotProducts,
    EqualWeights,
    PlainSurfaceNetwork,
    Similar,
    SurfaceNetwork,
    Weights,
)
from limelight.models.training import descend
from limelight.report.comparison import comparison
from limelight.similarity import Metric, Scaled

TRAIN, TEST, POINTS = 60, 20, 100  # bodies to learn from, unseen bodies, and points of each
BEND = 0.5  # of the joints: a share of the angles that a generated body can have
WIDTH, BLOCKS, BATCH, WEIGHT_DECAY = 32, 2, 8, 1e-4
STEPS, PAPER_STEPS, PAPER_RATE = 200, 80, 0.01
EVERY = 4  # steps between two points of a curve
GOAL, OVER = 0.5, 10  # a share of the loss of a guess, and the steps over whose mean loss it has to be reached
NOISE = (0.0, 0.1, 0.2, 0.3, 0.4)  # added to coordinates of unseen bodies, in standard deviations of a coordinate
NOISY = 2  # the place in `NOISE` of the level at which robustness is judged
METRIC, EUCLIDEAN, DOT, MEAN, ALONE = "metric", "euclidean", "dot", "mean", "alone"
ATTENTIONS = (METRIC, EUCLIDEAN, DOT)
PAIRS = ((METRIC, EUCLIDEAN), (METRIC, DOT), (EUCLIDEAN, DOT))  # of each, the first is claimed to be better
PAPER = "the paper's network"


@dataclass(frozen=True)
class Recipe:
    """A network, the weights of each arm at its width, how bodies are turned, and the number of steps."""

    network: type[PlainSurfaceNetwork]
    weights: dict[str, Callable[[], nn.Module]]
    upright: bool
    steps: int


def distance(phi: nn.Module) -> Similar:
    """Scores −½|φ(h_i) − φ(h_j)|²/√width: at the scale of dot products."""
    return Similar(Scaled(Metric(phi), 1 / math.sqrt(WIDTH)))


WEIGHTS: dict[str, Callable[[], nn.Module]] = {
    METRIC: lambda: distance(TanhResidual(WIDTH)),
    EUCLIDEAN: lambda: distance(linear_map(WIDTH)),
    DOT: lambda: DotProducts(WIDTH),
    MEAN: EqualWeights,
    ALONE: Alone,
}
PAPER_WEIGHTS: dict[str, Callable[[], nn.Module]] = {
    **WEIGHTS,
    METRIC: lambda: Similar(Metric(TanhResidual(WIDTH))),
    EUCLIDEAN: lambda: Similar(Metric(linear_map(WIDTH))),
    DOT: lambda: DotProducts(WIDTH, scale=1.0),
}


def transformer() -> Recipe:
    """The blocks of a Transformer, and bodies that lie in any direction."""
    return Recipe(SurfaceNetwork, WEIGHTS, upright=False, steps=STEPS)


def papers() -> Recipe:
    """The network of Ruan & Zhang, and upright bodies."""
    return Recipe(PlainSurfaceNetwork, PAPER_WEIGHTS, upright=True, steps=PAPER_STEPS)


class AttentionOnShapes(TunedClaim):
    """The claim that a learned metric is better than other attention where points of a surface attend to each other."""

    name = "attention_on_shapes"
    title = "On shapes a learned metric learns faster, more accurately and more robustly than L2 and dot products"
    question = (
        "Points on the surface of a body in a random pose have to say which part of it they are: head, torso, an arm, a "
        "hand, a leg, a foot. Each attends to all points of its body. Which similarity gives the weights that serve best: "
        "a learned metric, a Euclidean distance after a linear map, or a dot product? Is any better than equal weights, "
        "or than no look at the other points? Judged on unseen bodies, by accuracy, steps to learn, spread over runs, and "
        "accuracy when the points are moved by noise."
    )
    source = (
        "Ruan & Zhang 2024, Towards understanding how attention mechanism works in deep learning, 2412.18288; scanned "
        "bodies are those of Maron et al. 2017, Convolutional neural networks on surfaces via seamless toric covers"
    )
    arms = {
        METRIC: "exp −|φ(h_i) − φ(h_j)|²/2√width, φ a tanh layer with a residual",
        EUCLIDEAN: "the same with φ linear, a learned metric WᵀW (L2 attention)",
        DOT: "exp ⟨W_q h_i, W_k h_j⟩/√width",
        MEAN: "equal weights for all points of the body: no attention",
        ALONE: "every point sees itself only, a fully connected network: the control",
    }
    control = ALONE
    rates = (0.001, 0.003, 0.01, 0.03)
    score = "accuracy"
    chosen = {METRIC: 0.01, EUCLIDEAN: 0.01, DOT: 0.003, MEAN: 0.01, ALONE: 0.003}
    measures = {
        "accuracy": Measure("accuracy on the points of unseen bodies", "share", "higher", failed=0.0, summary="median"),
        "noisy accuracy": Measure(
            f"the same where points are moved by noise of {NOISE[NOISY]:g} standard deviations of a coordinate",
            "share", "higher", failed=0.0, summary="median",
        ),
        "lost": Measure("accuracy lost to that noise", "share", "lower", failed=1.0, summary="median"),
        "steps": Measure(
            f"steps to {GOAL:.0%} of a guess's loss", f"steps, at most {STEPS}", "lower", failed=float(STEPS),
            summary="median",
        ),
        "own part": Measure(
            "weight that a point gives to points of its own part, itself included, the mean over both blocks", "share",
            "neither", failed=0.0, summary="median",
        ),
        f"{PAPER}: accuracy": Measure(
            "accuracy on the points of unseen upright bodies, by the paper's network with one rate for all", "share",
            "higher", failed=0.0, summary="median",
        ),
    }  # fmt: skip

    def bodies(self, generator: torch.Generator) -> tuple[Bodies, Bodies]:
        """The bodies of a trial: those to learn from, and unseen ones."""
        found = articulated_bodies(TRAIN + TEST, POINTS, generator, bend=BEND).standardized()
        return found[:TRAIN], found[TRAIN:]

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        bodies = self.bodies(generator)
        found = trained(arm, transformer(), *bodies, self.chosen[arm], generator)
        other = trained(arm, papers(), *bodies, PAPER_RATE, generator)
        return Measurement(
            {**found.values, f"{PAPER}: accuracy": other.values["accuracy"]},
            {**found.arrays, f"{PAPER}: loss": other.arrays["loss"]},
        )

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        return trained(arm, transformer(), *self.bodies(generator), rate, generator)

    def judge(self, results: Results) -> Verdict:
        accuracy = [
            Part(
                f"{better} attention is at least one point more accurate than {worse}{where}",
                results.difference(better, worse, measure), "at least", 0.01, "share",
            )
            for measure, where in (("accuracy", ""), (f"{PAPER}: accuracy", f" in {PAPER}"))
            for better, worse in PAIRS
        ]  # fmt: skip
        context = [
            Part(
                f"{arm} attention is at least five points more accurate than the mean over all points of the body",
                results.difference(arm, MEAN, "accuracy"), "at least", 0.05, "share",
            )
            for arm in ATTENTIONS
        ]  # fmt: skip
        speed = [
            Part(
                f"{better} attention reaches {GOAL:.0%} of a guess's loss in fewer steps than {worse}",
                results.ratio(better, worse, "steps"), "at most", 1.0, "times",
            )
            for better, worse in PAIRS
        ]  # fmt: skip
        steadiness = [
            Part(
                f"metric attention's accuracy varies less between runs than that of {other}",
                results.spread_ratio(METRIC, other, "accuracy"), "at most", 1.0, "times",
            )
            for other in (EUCLIDEAN, DOT)
        ]  # fmt: skip
        noise = [
            part
            for other in (EUCLIDEAN, DOT)
            for part in (
                Part(
                    f"with noise metric attention is at least one point more accurate than {other}",
                    results.difference(METRIC, other, "noisy accuracy"), "at least", 0.01, "share",
                ),
                Part(
                    f"metric attention loses no more accuracy to noise than {other}",
                    results.difference(METRIC, other, "lost"), "at most", 0.0, "share",
                ),
            )
        ]  # fmt: skip
        return Verdict.of(
            [*accuracy, *context, *speed, *steadiness, *noise],
            control=Part(
                "points that see themselves only are at most five points less accurate than with metric attention",
                results.difference(ALONE, METRIC, "accuracy"), "at least", -0.05, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def listed(measure: str, arms: Sequence[str], form: str = ".1%") -> str:
            return ", ".join(f"{arm} {results.summary(arm, measure).estimate:{form}}" for arm in arms)

        def one(arm: str, measure: str = "accuracy") -> str:
            return f"{results.summary(arm, measure).estimate:.1%}"

        paper = f"{PAPER}: accuracy"
        return (
            "On unseen bodies in random poses, turned in any direction, points name their part of the body by attention "
            f"to the other points ({listed('accuracy', ATTENTIONS)}), by the mean over them ({one(MEAN)}) and alone "
            f"({one(ALONE)}); with noise attention names {listed('noisy accuracy', ATTENTIONS)}; half of a guess's loss "
            f"takes {listed('steps', ATTENTIONS, '.0f')} of at most {STEPS} steps. {PAPER.capitalize()}, on upright "
            f"bodies, names {listed(paper, ATTENTIONS)}, and each point alone {one(ALONE, paper)} (medians over runs)."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        arms = [arm for arm in self.arms if results.array(arm, "predicted", seed) is not None]
        confusion = {arm: results.array(arm, "part to part", seed) for arm in arms}
        return [
            Picture(
                "A dot for each seed, and the median with its interval.",
                *comparison(results, ["accuracy", "noisy accuracy"]),
            ),
            Picture(
                "At the left training loss by step, at the right accuracy on unseen bodies whose points are moved by more and "
                "more noise: the median over seeds, and the middle half of them.",
                figures.curves(
                    {arm: results.stack(arm, "loss") for arm in self.arms}, EVERY, "step",
                    "training loss / loss of a guess",
                ),
                figures.curves(
                    {arm: results.stack(arm, "accuracy by noise") for arm in self.arms}, NOISE,
                    "noise added / standard deviation of a coordinate", "accuracy",
                ),
            ),
            Picture(
                f"The first unseen body of seed {seed}, each point colored by its part, from head (0) to foot (7): first as "
                "it is, then as each arm says.",
                *body_pictures(results, arms, seed),
            ),
            Picture(
                f"What is said of the points of each part, on the unseen bodies of seed {seed}: each row is a true part, "
                f"in the order {', '.join(PARTS)}, and its numbers are shares of that part's points.",
                *figures.matrices(confusion, "part that is said", "true part", "share", first=0),
            ),
            Picture(
                "Steps to half of a guess's loss, weight within a point's own part, and the accuracy of the paper's "
                "network, a dot for each seed.",
                *comparison(results, ["steps", "own part", f"{PAPER}: accuracy"]),
            ),
        ]  # fmt: skip


def body_pictures(results: Results, arms: Sequence[str], seed: int) -> list[Figure]:
    """An animation whose frames are the true parts of a body and those that each arm names; none without a result."""
    if not arms:
        return []
    points, truth = (results.array(arms[0], name, seed) for name in ("points", "true parts"))
    said = [results.array(arm, "predicted", seed) for arm in arms]
    frames = [np.asarray(parts) for parts in (truth, *said)]
    return [figures.animated_scatter(np.asarray(points), np.stack(frames), ["true parts", *arms], "part", "")]


def inputs(bodies: Bodies) -> Tensor:
    """Coordinates and normals of each point, (bodies, n, 6)."""
    return torch.cat([bodies.points, bodies.normals], -1)


def trained(
    arm: str, recipe: Recipe, seen: Bodies, unseen: Bodies, rate: float, generator: torch.Generator
) -> Measurement:
    """What an arm's network says of unseen bodies after it has learned from others, and its loss by step."""

    def turned(some: Bodies) -> Bodies:
        return some.rotated(random_rotations(len(some), generator, upright=recipe.upright))

    parts = int(max(seen.parts.max(), unseen.parts.max())) + 1
    unseen = turned(unseen)
    noise = torch.randn(unseen.points.shape, generator=generator)
    model = recipe.network(6, WIDTH, parts, BLOCKS, recipe.weights[arm])

    def loss() -> Tensor:
        batch = turned(seen[torch.randint(len(seen), (BATCH,), generator=generator)])
        return F.cross_entropy(model(inputs(batch)).flatten(0, 1), batch.parts.flatten())

    losses = np.array(list(descend(model, loss, recipe.steps, rate, WEIGHT_DECAY))) / math.log(parts)
    with torch.no_grad():
        model.eval()
        noisy = [Bodies(unseen.points + level * noise, unseen.normals, unseen.parts) for level in NOISE]
        predicted = [model(inputs(each)).argmax(-1) for each in noisy]
        own = [own_part(P, unseen.parts, parts) for P in model.weights(inputs(unseen))]
    accuracies = np.array([float((each == unseen.parts).float().mean()) for each in predicted])
    return Measurement(
        {
            "accuracy": float(accuracies[0]),
            "noisy accuracy": float(accuracies[NOISY]),
            "lost": float(accuracies[0] - accuracies[NOISY]),
            "steps": steps_to(losses, GOAL),
            "own part": float(np.mean(own)),
        },
        {
            "loss": losses[::EVERY],
            "accuracy by noise": accuracies,
            "part to part": part_to_part(predicted[0], unseen.parts, parts).numpy(),
            "points": unseen.points[0].numpy(),
            "true parts": unseen.parts[0].numpy().astype(float),
            "predicted": predicted[0][0].numpy().astype(float),
        },
    )


def steps_to(losses: np.ndarray, goal: float) -> float:
    """The first step at which the mean of the last `OVER` losses is at most the goal; all steps where it never is."""
    means = np.convolve(losses, np.full(OVER, 1 / OVER), mode="valid")
    reached = np.flatnonzero(means <= goal)
    return float(reached[0] + OVER - 1) if len(reached) else float(len(losses))


def own_part(P: Weights, parts: Tensor, count: int) -> float:
    """The mean over points of the weight that goes to points of their own part."""
    to_part = P @ F.one_hot(parts, count).float()
    return float(to_part.gather(-1, parts[..., None]).mean())


def part_to_part(predicted: Tensor, parts: Tensor, count: int) -> Tensor:
    """The share of the points of each true part (rows) that are said to be of each part (columns)."""
    pairs = (parts * count + predicted).flatten().bincount(minlength=count**2).view(count, count).float()
    return pairs / pairs.sum(1, keepdim=True).clamp(min=1)
