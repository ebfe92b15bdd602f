"""Slopes: a gate that picks among lines learns five lines as five lines; a ReLU network tiles them with planes.

The blog post "Attention in Neural Networks from Scratch" (hayAbhay) shows data with five linear
relationships, z = a(y)·x, and argues that a feed-forward network can only cover them with many
planes, while an attention layer leaves the five lines as they are and toggles between them by y.
Here both are trained on the same points.

A gate of as many experts as there are lines often loses one: two lines share an expert, and the others find none that
is free. So three remedies compete beside it: more experts than lines, a start from clusters of y, and the best of
five starts.

The networks of ten seeds are trained side by side, each on its own points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight import figures
from limelight.data.slope_bands import CENTERS, SLOPES, X_MAX
from limelight.data.slope_points import slopes
from limelight.errors import DivergenceError
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.fresh import fresh
from limelight.models.mixture_of_linear_experts import MixtureOfLinearExperts
from limelight.models.side_by_side import descend_side_by_side
from limelight.models.stacked import StackedMLP
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

POINTS, NOISE, STEPS = 500, 0.02, 2000
RUNS = 10  # networks that are trained side by side: those of the seeds 0 to 9, of 10 to 19, and so on
GOAL = 0.1  # an error, as a share of the variance of z; the steps to reach it are counted
CLOSE = 0.2  # a slope counts as found if its error is below this
LATE = 200  # steps at the end over which it is measured whether the error still falls
SHARPNESS = 10.0  # the factor of −(y − center)² in the scores of a gate that starts from clusters of y
GRID, EVERY = 40, 25  # points along each axis of a drawn surface; steps between two points of a curve
GATE, TEN, STARTED, BEST = (
    "gate of five",
    "gate of ten",
    "gate of five, started by k-means",
    "gate of five, best of five",
)
SMALL, LARGE, DECAYED, LINE = "relu, equal", "relu, ten times", "relu, ten times, decay", "one line"
GATES = (GATE, TEN, STARTED, BEST)


@dataclass(frozen=True)
class Arm:
    """How so many networks are built side by side and prepared from their data, and how they are trained.

    Of several `starts` of each run the one with the least training error is kept.
    """

    build: Callable[[int], nn.Module]
    prepare: Callable[[nn.Module, Tensor], None] = lambda networks, points: None
    decay: float = 0.0
    starts: int = 1


@torch.no_grad()
def start_from_clusters(networks: nn.Module, points: Float[Tensor, "r n 2"]) -> None:
    """Set the keys of gates so that their experts share out the y axis: expert k is chosen where y is nearest to center k.

    ⟨(x, y, 1), (0, 2 s c_k, −s c_k²)⟩ = s y² − s (y − c_k)², of which the first term is the same for all experts.
    """
    from sklearn.cluster import KMeans  # here, since it takes a second

    for keys, mine in zip(networks.get_parameter("keys"), points, strict=True):
        found = KMeans(len(keys), random_state=0).fit(mine[:, 1:].numpy()).cluster_centers_[:, 0]
        centers = torch.tensor(found, dtype=torch.float32)
        keys.copy_(SHARPNESS * torch.stack([torch.zeros_like(centers), 2 * centers, -centers.square()], 1))


def gates(experts: int) -> Callable[[int], nn.Module]:
    """A function from a number of networks to so many gates side by side, each with this number of experts."""
    return lambda networks: MixtureOfLinearExperts(inputs=2, experts=experts, networks=networks)


def relu(*hidden: int) -> Callable[[int], nn.Module]:
    """The same for ReLU networks with hidden layers of these widths."""
    return lambda networks: StackedMLP(networks, 2, *hidden, 1)


ARMS = {
    GATE: Arm(gates(5)),
    TEN: Arm(gates(10)),
    STARTED: Arm(gates(5), start_from_clusters),
    BEST: Arm(gates(5), starts=5),
    SMALL: Arm(relu(7)),
    LARGE: Arm(relu(16, 16)),
    DECAYED: Arm(relu(16, 16), decay=1e-4),
    LINE: Arm(gates(1)),
}


class Slopes(TunedClaim):
    """The claim that a gate learns five lines, which a ReLU network has to tile with planes."""

    name = "slopes"
    title = "A gate learns five lines as five lines; a ReLU network has to tile them with planes"
    question = (
        "The slope of z = a(y)·x jumps between five values as y changes. Does a layer whose attention weights depend "
        "on the input fit this better than a ReLU network of the same size, or of ten times the size? Does it find the "
        "five slopes, and does it go on being right where no data were? What helps it to find them all?"
    )
    source = "hayAbhay, Attention in Neural Networks from Scratch (blog post, abhay.fyi; year not known)"
    arms = {
        GATE: "five linear experts, mixed by a softmax over five learned keys: 30 parameters",
        TEN: "the same with ten experts: 60 parameters",
        STARTED: "five experts whose keys start at the centers that k-means finds among the y of the data",
        BEST: "of five gates of five experts, the one with the least training error",
        SMALL: "a ReLU network with one hidden layer of 7: 29 parameters",
        LARGE: "a ReLU network with two hidden layers of 16: 337 parameters",
        DECAYED: "the same with weight decay 0.0001",
        LINE: "the gate with one expert, so that there is nothing to choose: the control",
    }
    control = LINE
    rates = (0.01, 0.03, 0.1, 0.3)
    score = "error"
    chosen = {
        GATE: 0.3, TEN: 0.1, STARTED: 0.1, BEST: 0.3, SMALL: 0.01, LARGE: 0.01, DECAYED: 0.01, LINE: 0.3,
    }  # fmt: skip
    measures = {
        "error": Measure("error inside the range of the data", "of the variance of z", "lower", np.inf, "median"),
        "outside": Measure("error at twice the range, 2 ≤ |x| < 4", "of the variance of z", "lower", np.inf, "median"),
        "slope error": Measure("mean error of the five slopes, mid-band", "slope units", "lower", np.inf, "median"),
        "slopes found": Measure(f"slopes within {CLOSE} of the truth", "of 5", "higher", 0.0, "median"),
        "steps": Measure(f"steps to an error of {GOAL:g}", f"steps, at most {STEPS}", "lower", STEPS, "median"),
        "late": Measure(
            f"error in the last {LATE} steps over that in the {LATE} before", "times", "neither", 1.0, "median"
        ),
        "parameters": Measure("trained numbers", "parameters", "neither", 0.0, "exact"),
    }

    def shares(self, arm: str, seed: int) -> tuple[str, int]:
        return arm, seed // RUNS  # networks that are trained side by side

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        first = seed - seed % RUNS
        found = measured(arm, rate, first, RUNS, STEPS)[seed - first]
        if np.isnan(found.values["late"]):
            raise DivergenceError("the loss or its gradient became NaN or infinite")
        return found

    def judge(self, results: Results) -> Verdict:
        finds_all = [
            Part(
                f"a {gate} finds all five slopes, in at least 60% of runs",
                results.share(gate, "slopes found", "at least", 5.0), "at least", 0.6, "of runs",
            )
            for gate in (TEN, GATE, STARTED, BEST)
        ]  # fmt: skip
        return Verdict.of(
            [
                finds_all[0],
                Part(
                    "outside the range a gate of ten has at most half the error of a ReLU network of 337 parameters",
                    results.ratio(TEN, LARGE, "outside"), "at most", 0.5, "times",
                ),
                Part(
                    "and at most half of it if that network is trained with weight decay",
                    results.ratio(TEN, DECAYED, "outside"), "at most", 0.5, "times",
                ),
                Part(
                    "inside the range a gate of ten fits at least as well as that network",
                    results.ratio(TEN, LARGE, "error"), "at most", 1.0, "times",
                ),
                Part(
                    "at equal size, five experts have at most half a ReLU network's error inside the range",
                    results.ratio(GATE, SMALL, "error"), "at most", 0.5, "times",
                ),
                *finds_all[1:],
            ],
            control=Part(
                "with one line to choose from, the error is at most half that of a ReLU network of 29 parameters",
                results.ratio(LINE, SMALL, "error"), "at most", 0.5, "times",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        found = {gate: f"{results.share(gate, 'slopes found', 'at least', 5.0).estimate:.0%}" for gate in GATES}
        inside, outside = (number(1 / results.ratio(TEN, LARGE, measure).estimate) for measure in ("error", "outside"))
        return (
            f"A gate of ten linear experts finds all five lines in {found[TEN]} of runs; a ReLU network of 337 parameters "
            f"has {inside} times its error inside the range of the data and {outside} times outside. A gate of five experts "
            f"finds all lines in {found[GATE]} of runs, started by k-means in {found[STARTED]}, and as the best of five "
            f"starts in {found[BEST]}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        data = slopes(POINTS, torch.Generator().manual_seed(seed), noise=NOISE)
        found = {arm: results.array(arm, "surface", seed) for arm in (GATE, TEN, SMALL, LARGE, LINE)}
        errors = {arm: results.stack(arm, "error") for arm in self.arms}
        recovered = {arm: results.stack(arm, "slopes") for arm in self.arms}
        return [
            Picture(
                f"The data of seed {seed}, and the surfaces that five arms drew through them, out to twice their range "
                "in x. Turn them.",
                *figures.surfaces(*grid(), found, data),
            ),
            Picture(
                f"The gate of ten of seed {seed} over y, at x = 0: which expert answers where.",
                figures.stacked_area(
                    grid()[1], results.array(TEN, "gate", seed), "expert", "y", "weight of each expert"
                ),
            ),
            Picture(
                "The slopes that each arm found at the middle of the five bands of y, a dot for each seed.",
                figures.strip_plot(recovered, SLOPES, CENTERS, "middle of the band of y", "slope Δz/Δx"),
            ),
            Picture(
                "Training error by step: the median over seeds, and the middle half of them.",
                figures.curves(errors, EVERY, "step", "error / variance of z", log=True),
            ),
            Picture(
                "A dot for each seed, and the median with its interval.",
                *comparison(results, ["error", "outside"], log=True),
                *comparison(results, ["slope error", "slopes found", "steps", "late"]),
            ),
        ]


@cache
def measured(arm: str, rate: float, first: int, runs: int, steps: int) -> list[Measurement]:
    """The measurements of the seeds `first`, `first` + 1, …, whose networks are trained side by side.

    They are kept, since trials ask for one seed after the other. What a network becomes does not depend on the
    others, but for rounding, and its companions are the same whichever seeds are asked for.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in range(first, first + runs)]
    train, inside = points_of(generators, POINTS, noise=NOISE), points_of(generators, 2000)
    outside = points_of(generators, 2000, x=(X_MAX, 2 * X_MAX))
    networks, errors = fit(ARMS[arm], train, rate, steps, seed=first)
    with torch.no_grad():
        found, surfaces = slopes_of(networks), surface_of(networks, *grid())
        gate = gate_of(next(networks.children()))
        error, beyond = (relative_error(networks, *data).tolist() for data in (inside, outside))
    parameters = sum(p.numel() for p in networks.parameters()) / runs * ARMS[arm].starts
    return [
        Measurement(
            values={
                "error": error[run],
                "outside": beyond[run],
                "slope error": float(np.abs(found[run] - SLOPES).mean()),
                "slopes found": float((np.abs(found[run] - SLOPES) < CLOSE).sum()),
                "steps": float((*np.flatnonzero(history <= GOAL), steps)[0]),
                "late": float(history[-LATE:].mean() / history[-2 * LATE : -LATE].mean()),
                "parameters": parameters,
            },
            arrays={"error": history[::EVERY], "slopes": found[run], "surface": surfaces[run]}
            | {name: weights[run] for name, weights in gate.items()},
        )
        for run, history in enumerate(errors)
    ]


def points_of(generators: Sequence[torch.Generator], n: int, **how: Any) -> tuple[Tensor, Tensor]:
    """n points of each generator, (r, n, 2), and their z, (r, n)."""
    points, z = zip(*(slopes(n, generator, **how) for generator in generators), strict=True)
    return torch.stack(points), torch.stack(z)


def fit(
    arm: Arm, train: tuple[Float[Tensor, "r n 2"], Float[Tensor, "r n"]], rate: float, steps: int, seed: int
) -> tuple[nn.Module, np.ndarray]:
    """Trained networks, and their errors before each step, (r, steps); of several starts those of the best one."""
    runs = len(train[0])
    points, z = (x.repeat_interleave(arm.starts, 0) for x in train)
    layer = fresh(lambda: arm.build(len(points)), 2**32 + seed)  # other random numbers than those of the data
    arm.prepare(layer, points)
    networks = nn.Sequential(layer, nn.Flatten(1))

    def losses() -> Tensor:
        return (networks(points) - z).square().mean(-1)

    history = torch.stack(list(descend_side_by_side(networks, losses, steps, rate, math.inf, arm.decay)), 1)
    late = history[:, -LATE:].mean(1).nan_to_num(nan=math.inf).view(runs, arm.starts)
    kept = late.argmin(1) + arm.starts * torch.arange(runs)
    for x in networks.parameters():
        x.data = x.data[kept]
    return networks, (history[kept] / train[1].var(-1, keepdim=True)).numpy()


def relative_error(model: nn.Module, points: Float[Tensor, "*r n 2"], z: Float[Tensor, "*r n"]) -> Float[Tensor, "*r"]:
    """The mean squared error divided by the variance of z."""
    return (model(points) - z).square().mean(-1) / z.var(-1)


def slopes_of(model: nn.Module) -> np.ndarray:
    """Δz/Δx across the range of the data, at the middle of each band of y."""
    y = torch.tensor(CENTERS)
    right, left = (model(torch.stack([torch.full_like(y, x), y], 1)) for x in (X_MAX, -X_MAX))
    return ((right - left) / (2 * X_MAX)).numpy()


def grid(reach: float = 2 * X_MAX) -> tuple[np.ndarray, np.ndarray]:
    """The x and the y of a drawn surface, which by default covers twice the range of the data in x."""
    return np.linspace(-reach, reach, GRID), np.linspace(-2.5, 2.5, GRID)


def surface_of(model: nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z on a grid, with a row for each y and a column for each x."""
    return model(grid_points(x, y)).unflatten(-1, (len(y), len(x))).numpy()


def grid_points(x: np.ndarray, y: np.ndarray) -> Tensor:
    """The points of a grid, row by row, (len(y)·len(x), 2)."""
    axes = (torch.tensor(axis, dtype=torch.float32) for axis in (x, y))
    return torch.stack(torch.meshgrid(*axes, indexing="xy"), -1).flatten(0, 1)


def gate_of(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights of a gate's experts for each y at x = 0, (y, expert)."""
    if not isinstance(model, MixtureOfLinearExperts):
        return {}
    y = torch.tensor(grid()[1], dtype=torch.float32)
    return {"gate": model.attention(torch.stack([torch.zeros_like(y), y], 1)).dense().numpy()}
