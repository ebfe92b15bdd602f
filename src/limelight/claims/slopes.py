"""Slopes: a gate that picks among five lines learns five lines; a ReLU network tiles them with planes.

The blog post "Attention in Neural Networks from Scratch" (hayAbhay) shows data with five linear
relationships, z = a(y)·x, and argues that a feed-forward network can only cover them with many
planes, while an attention layer leaves the five lines as they are and toggles between them by y.
Here both are trained on the same points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from limelight import figures
from limelight.data.slope_bands import CENTERS, SLOPES, X_MAX
from limelight.data.slope_points import slopes
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.models.mixture_of_linear_experts import MixtureOfLinearExperts
from limelight.models.mlp import mlp
from limelight.models.training import descend
from limelight.report.comparison import comparison

POINTS, NOISE, STEPS = 500, 0.02, 2000
GOAL = 0.1  # an error, as a share of the variance of z; the steps to reach it are counted
GRID, EVERY = 40, 25  # points along each axis of a drawn surface; steps between two points of a curve
GATE, SMALL, LARGE, LINE = "gate", "relu, equal", "relu, ten times", "one line"

# Learning rates: for each arm the better of 0.03, 0.05 and 0.1 on seeds 1000 to 1005, which are not judged.
ARMS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    GATE: (lambda: MixtureOfLinearExperts(inputs=2, experts=5), 0.05),
    SMALL: (lambda: mlp(2, 7, 1), 0.03),
    LARGE: (lambda: mlp(2, 16, 16, 1), 0.03),
    LINE: (lambda: MixtureOfLinearExperts(inputs=2, experts=1), 0.05),
}


class Slopes(Claim):
    """The claim that a gate learns five lines, which a ReLU network has to tile with planes."""

    name = "slopes"
    title = "A gate learns five lines as five lines; a ReLU network has to tile them with planes"
    question = (
        "The slope of z = a(y)·x jumps between five values as y changes. Does a layer whose attention weights depend "
        "on the input fit this better than a ReLU network of the same size, or of ten times the size? Does it find the "
        "five slopes, and does it go on being right where no data were?"
    )
    source = "hayAbhay, Attention in Neural Networks from Scratch (blog post, abhay.fyi; year not known)"
    arms = {
        GATE: "five linear experts, mixed by a softmax over five learned keys: 30 parameters",
        SMALL: "a ReLU network with one hidden layer of 7: 29 parameters",
        LARGE: "a ReLU network with two hidden layers of 16: 337 parameters",
        LINE: "the gate with one expert, so that there is nothing to choose: the control",
    }
    control = LINE
    measures = {
        "error": Measure("error inside the range of the data", "of the variance of z", "lower", failed=10.0),
        "outside": Measure("error at twice the range, 2 ≤ |x| < 4", "of the variance of z", "lower", failed=10.0),
        "slope error": Measure("mean error of the five slopes, mid-band", "slope units", "lower", failed=2.0),
        "slopes found": Measure("slopes within 0.2 of the truth", "of 5", "higher", failed=0.0),
        "steps": Measure(f"steps to an error of {GOAL:g}", f"steps, at most {STEPS}", "lower", failed=float(STEPS)),
        "parameters": Measure("trained numbers", "parameters", "neither", failed=float("nan")),
    }

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        train = slopes(POINTS, generator, noise=NOISE)
        inside, outside = slopes(2000, generator), slopes(2000, generator, x=(X_MAX, 2 * X_MAX))
        build, lr = ARMS[arm]
        model = nn.Sequential(build(), nn.Flatten(0))
        variance = float(train[1].var())
        losses = descend(model, lambda: (model(train[0]) - train[1]).square().mean(), STEPS, lr)
        errors = np.array(list(losses)) / variance
        reached = np.flatnonzero(errors <= GOAL)
        with torch.no_grad():
            found = slopes_of(model)
            return Measurement(
                values={
                    "error": relative_error(model, *inside),
                    "outside": relative_error(model, *outside),
                    "slope error": float(np.abs(found - SLOPES).mean()),
                    "slopes found": float((np.abs(found - SLOPES) < 0.2).sum()),
                    "steps": float(reached[0]) if len(reached) else float(STEPS),
                    "parameters": float(sum(p.numel() for p in model.parameters())),
                },
                arrays={"error": errors[::EVERY], "slopes": found, "surface": surface_of(model, *grid())}
                | gate_of(model[0]),
            )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "at equal size the gate's error inside the range is at most half the ReLU network's",
                    results.ratio(GATE, SMALL, "error"), "at most", 0.5, "times",
                ),
                Part(
                    "the gate fits at least as well as a ReLU network with ten times the parameters",
                    results.ratio(GATE, LARGE, "error"), "at most", 1.0, "times",
                ),
                Part(
                    "outside the range the gate's error is at most half that of the ten times larger ReLU network",
                    results.ratio(GATE, LARGE, "outside"), "at most", 0.5, "times",
                ),
                Part(
                    "the gate finds the slopes to within 0.2 on average",
                    results.summary(GATE, "slope error"), "at most", 0.2, "slope units",
                ),
            ],
            control=Part(
                "with one line to choose from, the error is at most half that of a ReLU network of 29 parameters",
                results.ratio(LINE, SMALL, "error"), "at most", 0.5, "times",
            ),
        )  # fmt: skip

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        data = slopes(POINTS, torch.Generator().manual_seed(seed), noise=NOISE)
        found = {arm: results.array(arm, "surface", seed) for arm in self.arms}
        errors = {arm: results.stack(arm, "error") for arm in self.arms}
        recovered = {arm: results.stack(arm, "slopes") for arm in self.arms}
        return [
            Picture(
                f"The data of seed {seed}, and the surface that each arm drew through them, out to twice their range in "
                "x. Turn them.",
                *figures.surfaces(*grid(), found, data),
            ),
            Picture(
                f"The gate of seed {seed} over y, at x = 0: which expert answers where.",
                figures.stacked_area(
                    grid()[1], results.array(GATE, "gate", seed), "expert", "y", "weight of each expert"
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
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, ["error", "outside"], log=True),
                *comparison(results, ["slope error", "slopes found", "steps", "parameters"]),
            ),
        ]


def relative_error(model: nn.Module, points: Tensor, z: Tensor) -> float:
    """The mean squared error divided by the variance of z."""
    return float((model(points) - z).square().mean() / z.var())


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
    return model(grid_points(x, y)).view(len(y), len(x)).numpy()


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
