"""Drift and diffusion: a step of the α family tends to Δ + 2(1 − α)⟨∇log p, ∇·⟩, and a step of Sinkhorn to α = ½.

    (P h − h)/(ε/2) → Δh + 2(1 − α)⟨∇log p, ∇h⟩   as ε → 0

(Coifman & Lafon 2006; Theorems 2 and 3 of 2412.18288 are the case α = 0). The points are the quantiles of a density
on the circle, each of which stands for the same share of it, so that there is no random scatter. The two coefficients
are found by regression of the result of a step on Δh and ⟨∇log p, ∇h⟩. Where a step fits a line instead of taking the
mean (local linear regression), the drift should vanish, although no density is divided out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from plotly.graph_objects import Figure
from torch import Tensor

from limelight import figures
from limelight.continuum import Torus, VonMises, Wave, diffusion, drift_diffusion, order
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.local_linear import LocalLinear
from limelight.normalization import Normalization, Softmax, SymmetricSinkhorn
from limelight.propagation import generator
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.report.orders import orders

POINTS = 600
EPSILONS = 0.02 * 0.5 ** np.arange(5)
SLACK, CLOSE = 0.15, 0.05  # the largest accepted errors of an order, and of a coefficient at the smallest ε
ZERO, HALF, ONE, SINKHORN, LINE = "α = 0", "α = ½", "α = 1", "Sinkhorn", "a fitted line"
WRONG = "α = 1, held to the drift of α = 0"

# The normalization, and the α whose drift it is compared with. Sinkhorn's tolerance is small, so that an iteration which
# has not converged does not add to the measured error.
ARMS: dict[str, tuple[Normalization, float]] = {
    ZERO: (Softmax(), 0.0),
    HALF: (Softmax(0.5), 0.5),
    ONE: (Softmax(1.0), 1.0),
    SINKHORN: (SymmetricSinkhorn(tolerance=1e-9), 0.5),
    LINE: (Softmax(), 1.0),
    WRONG: (Softmax(1.0), 0.0),
}


class DriftDiffusion(Claim):
    """The claim about drift and diffusion of a step of attention on points of uneven density."""

    name = "drift_diffusion"
    title = "A step of attention diffuses, and drifts up the density by 2(1 − α); Sinkhorn drifts as α = ½"
    question = (
        "Where points are denser on one side, softmax attention does not only smooth: it also pulls towards the dense "
        "side. Is the pull 2(1 − α)⟨∇log p, ∇h⟩, so that doubly-normalized attention has none? What does Sinkhorn do? "
        "Does a step that fits a line to the values, in place of their mean, drift? And does the step approach its limit as fast as ε?"
    )
    source = "Theorems 2 and 3 of 2412.18288 (Ruan & Zhang); Coifman & Lafon, Diffusion maps (2006)"
    arms = {
        ZERO: "softmax",
        HALF: "the column sums' square root divided out",
        ONE: "doubly-normalized attention: the density divided out",
        SINKHORN: "columns and rows scaled until both sum to one, held to the drift of α = ½",
        LINE: "softmax weights, with which a line is fitted instead of taking the mean: said not to drift",
        WRONG: "doubly-normalized attention, said to drift as softmax does: the control",
    }
    control = WRONG
    measures = {
        "drift": Measure("coefficient of ⟨∇log p, ∇h⟩ at the smallest ε", "coefficient", "neither", failed=9.0),
        "drift off": Measure(
            "how far the coefficient of ⟨∇log p, ∇h⟩ is from 2(1 − α)", "coefficient", "lower", failed=9.0
        ),
        "diffusion off": Measure("how far the coefficient of Δh is from 1", "coefficient", "lower", failed=9.0),
        "order": Measure("order of the error in ε; theory 1", "order", "neither", failed=0.0),
        "order off": Measure("how far the order is from theory", "of an order", "lower", failed=9.0),
    }

    def measure(self, arm: str, seed: int) -> Measurement:
        _, alpha = ARMS[arm]
        density, waves, start = drawn(seed)
        circle = Torus(1)
        x = circle.grid(POINTS, density, start)
        h = torch.stack([wave.value(x) for wave in waves], -1)
        laplacian = torch.stack([wave.laplacian(x) for wave in waves], -1)
        limit = torch.stack([drift_diffusion(wave, x, density, alpha) for wave in waves], -1)
        pull = torch.stack([(density.gradient(x) * wave.gradient(x)).sum(-1) for wave in waves], -1)
        errors, found = [], []
        for epsilon in EPSILONS.tolist():
            rate = step_rate(arm, x, h, epsilon)
            errors.append(float((rate - limit).square().mean().sqrt()))
            terms = torch.stack([laplacian.flatten(), pull.flatten()], -1)
            found.append(torch.linalg.lstsq(terms, rate.flatten()[:, None]).solution[:, 0].numpy())
        spread, drift = found[-1]
        slope = order(EPSILONS, errors)
        return Measurement(
            values={
                "drift": float(drift),
                "drift off": abs(float(drift) - 2 * (1 - alpha)),
                "diffusion off": abs(float(spread) - 1),
                "order": slope,
                "order off": abs(slope - 1),
            },
            arrays={"error": np.array(errors), "drift": np.array(found)[:, 1]},
        )

    def judge(self, results: Results) -> Verdict:
        right = (ZERO, HALF, ONE, SINKHORN, LINE)
        drifts = [
            Part(
                f"{arm} drifts by {2 * (1 - ARMS[arm][1]):g} times ⟨∇log p, ∇h⟩, to {CLOSE}",
                results.summary(arm, "drift off"), "at most", CLOSE,
            )
            for arm in right
        ]  # fmt: skip
        spreads = [
            Part(f"{arm} diffuses by Δh, to {CLOSE}", results.summary(arm, "diffusion off"), "at most", CLOSE)
            for arm in right
        ]
        orders = [
            Part(
                f"the error of {arm} falls with ε to the power of 1, to {SLACK}",
                results.summary(arm, "order off"), "at most", SLACK, "of an order",
            )
            for arm in right
        ]  # fmt: skip
        factor = Part(
            "softmax drifts by 2 times ⟨∇log p, ∇h⟩ and not by 1, as appendix B of 2412.18288 prints: by at least 1.5",
            results.summary(ZERO, "drift"), "at least", 1.5,
        )  # fmt: skip
        return Verdict.of(
            [*drifts, factor, *spreads, *orders],
            control=Part(
                f"doubly-normalized attention drifts by 2 times ⟨∇log p, ∇h⟩, to {CLOSE}",
                results.summary(WRONG, "drift off"), "at most", CLOSE,
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        zero, half, one, sinkhorn, line = (
            number(results.summary(arm, "drift").estimate) for arm in (ZERO, HALF, ONE, SINKHORN, LINE)
        )
        return (
            f"Where points are unevenly dense, a step of softmax attention drifts up the density by {zero} times ∇log p, with "
            f"α = ½ by {half} times, and doubly-normalized attention by {one} times; Sinkhorn's normalization drifts by "
            f"{sinkhorn} times, as α = ½ does. A step that fits a line in place of the mean drifts by {line} times, although "
            "no density is divided out."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        errors = {arm: results.stack(arm, "error") for arm in self.arms}
        drifts = {arm: results.stack(arm, "drift") for arm in self.arms if arm != WRONG}
        return [
            Picture(
                "The drift over a density on the torus of two angles: where one step of attention moves the points, less what "
                "diffusion does. Arrows share one scale.",
                *drift_fields(),
            ),
            Picture(
                "Root mean square of the error against ε: the mean over seeds, all seeds as a band, and slope 1 dashed. "
                "The control's error stays.",
                orders(
                    errors, dict.fromkeys(self.arms, EPSILONS.tolist()), dict.fromkeys(self.arms, 1.0), "ε", "error"
                ),
            ),
            Picture(
                "The coefficient of the drift against ε: the median over seeds, and the middle half of them.",
                figures.curves({**drifts, "": np.empty((0, 0))}, EPSILONS.tolist(), "ε", "coefficient of ⟨∇log p, ∇h⟩"),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, ["drift", "order"]),
            ),
        ]


def step_rate(arm: str, x: Float[Tensor, "n 1"], h: Float[Tensor, "n e"], epsilon: float) -> Float[Tensor, "n e"]:
    """(P h − h)/(ε/2) at the points with the angles x, where P is a step of the arm's attention."""
    if arm != LINE:
        return generator(diffusion(Torus(1).embed(x), epsilon, ARMS[arm][0]), h, epsilon)
    # The line is fitted in the angle, which is repeated for three turns, so that the circle has no edge. In the plane
    # the line would have a second slope, across the circle, where points lie by the square of the angle further in:
    # it would take the diffusion away too.
    turns = torch.cat([x - 2 * math.pi, x, x + 2 * math.pi])
    fitted = LocalLinear(diffusion(x, epsilon, ARMS[arm][0], turns)) @ h.repeat(3, 1)
    return (fitted - h) / (epsilon / 2)


def drawn(seed: int) -> tuple[VonMises, list[Wave], float]:
    """The density of a seed, the functions to which a step is applied, and the angle at which its points start."""
    generator = torch.Generator().manual_seed(seed)
    kappa, mu, *phases, start = torch.rand(5, generator=generator).tolist()
    density = VonMises(torch.tensor([0.4 + 0.8 * kappa]), torch.tensor([6.28 * mu]))
    waves = [Wave(torch.tensor([float(k)]), 6.28 * phase) for k, phase in enumerate(phases, start=1)]
    return density, waves, start


def drift_fields() -> tuple[Figure, ...]:
    """The tangential part of what a step does to the coordinates on a torus, which is the drift.

    The diffusion term, Δ of a coordinate, is normal to the torus.
    """
    torus, epsilon, n = Torus(2), 0.05, 36
    density = VonMises(torch.tensor([0.9, 0.6]), torch.tensor([3.1, 3.1]))
    x = torus.grid(n, density)
    places = torus.embed(x)
    angle = torch.linspace(0, 6.28, 60, dtype=torch.float64)
    plane = torch.cartesian_prod(angle, angle)
    heights = density.value(plane).exp().view(60, 60)
    heights = heights / heights.mean() / 6.2832**2
    tangent = torch.stack([-x.sin(), x.cos()], -1)
    some = (torch.arange(len(x)) // n % 3 == 1) & (torch.arange(len(x)) % 3 == 1)
    fields = {}
    for arm in (ZERO, HALF, ONE, SINKHORN):
        moved = generator(diffusion(places, epsilon, ARMS[arm][0]), places, epsilon)
        fields[arm] = (moved.view(-1, 2, 2) * tangent).sum(-1)[some]
    longest = max(float(field.norm(dim=-1).max()) for field in fields.values())
    axes = (angle.numpy(), angle.numpy())
    return tuple(
        figures.drift(
            axes, heights.T.numpy(), x[some].numpy(), field.numpy(), ("first angle", "second angle"), longest, arm
        )
        for arm, field in fields.items()
    )
