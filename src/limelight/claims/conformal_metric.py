"""The conformal metric: the drift of softmax attention is a change of metric, in every dimension but two.

In dimension n the limit of a softmax step on points of density p is a heat flow without drift in
another metric (Theorem 4 of 2412.18288):

    Δh + 2⟨∇log p, ∇h⟩ = p^{4/(n−2)} Δ_ḡ h,   ḡ = p^{4/(n−2)} g.

The reason is that for ḡ = e^{2u} g, Δ_ḡ h = e^{−2u}(Δh + (n − 2)⟨∇u, ∇h⟩), so u must satisfy (n − 2) u = 2 log p.
In dimension two the factor n − 2 of the drift is 0, so no conformal metric gives a drift. Here Δ_ḡ is computed from
the definition |ḡ|^{−½} ∂_i (|ḡ|^{½} ḡ^{ij} ∂_j h), independently of this formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limelight.continuum import Torus, VonMises, Wave, diffusion, laplace_beltrami, order
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.statistics import mean
from limelight.experiment.verdict import Part, Verdict
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.report.orders import orders

QUERIES = 24
SLACK = 0.15  # the largest difference between a measured order and theory that is accepted
THREE, FOUR, WRONG, TWO = "3-torus", "4-torus", "3-torus, exponent of dimension 4", "2-torus, exponent of dimension 3"


@dataclass(frozen=True)
class Setting:
    """The dimension, the exponent a of ḡ = p^a g, the points for each angle, the bandwidths, and the concentration.

    The concentration is the largest of the random densities: 0 is uniform.
    """

    n: int
    exponent: float
    points: int
    epsilons: np.ndarray
    concentration: float


SETTINGS = {
    THREE: Setting(3, 4.0, 56, 0.12 * 0.75 ** np.arange(4), 0.7),
    FOUR: Setting(4, 2.0, 24, 0.16 * 0.75 ** np.arange(4), 0.35),
    WRONG: Setting(3, 2.0, 56, 0.12 * 0.75 ** np.arange(4), 0.7),
    TWO: Setting(2, 4.0, 80, 0.12 * 0.75 ** np.arange(4), 0.7),
}


class ConformalMetric(Claim):
    """The claim that the drift of softmax attention is a heat flow in another metric."""

    name = "conformal_metric"
    title = "Softmax attention is a heat flow without drift in another metric, in any dimension but two"
    question = (
        "Attention on unevenly dense points drifts up the density. Is this drift no more than the heat flow of a space "
        "whose distances are stretched by a power of the density, p to the 4/(n − 2)? And what of dimension two, where "
        "that exponent is infinite?"
    )
    source = "Theorem 4 of 2412.18288 (Ruan & Zhang)"
    arms = {
        THREE: "dimension 3: ḡ = p⁴ g",
        FOUR: "dimension 4: ḡ = p² g",
        WRONG: "dimension 3 with dimension 4's exponent, ḡ = p² g",
        TWO: "dimension 2 with dimension 3's exponent; any other gives the same, as Δ_ḡ = p^{−a} Δ: the control",
    }
    control = TWO
    measures = {
        "order": Measure("order in ε of the distance from p^a Δ_ḡ h; theory 1", "order", "neither", failed=0.0),
        "order off": Measure("how far the order is from theory", "of an order", "lower", failed=9.0),
        "error": Measure("distance from p^a Δ_ḡ h at the smallest ε", "of its size", "lower", failed=9.0),
        "identity": Measure(
            "distance of p^a Δ_ḡ h from Δh + 2⟨∇log p, ∇h⟩, both exact",
            "of its size", "lower", failed=9.0, summary="exact",
        ),
    }  # fmt: skip

    def measure(self, arm: str, seed: int) -> Measurement:
        setting, torus = SETTINGS[arm], Torus(SETTINGS[arm].n)
        density, wave, x, start = drawn(setting, seed)
        goal = heat_of(setting, density, wave, x)
        exact = wave.laplacian(x) + 2 * (density.gradient(x) * wave.gradient(x)).sum(-1)
        keys = torus.grid(setting.points, density, start)
        places, values = torus.embed(keys), wave.value(keys)[:, None]
        errors = []
        for epsilon in setting.epsilons.tolist():
            step = diffusion(torus.embed(x), epsilon, keys=places) @ values
            errors.append(relative((step[:, 0] - wave.value(x)) / (epsilon / 2), goal))
        slope = order(setting.epsilons, errors)
        return Measurement(
            values={
                "order": slope,
                "order off": abs(slope - 1),
                "error": errors[-1],
                "identity": relative(exact, goal),
            },
            arrays={"error": np.array(errors)},
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "in dimension 3 a step tends to p⁴ Δ_ḡ h as ε to the power of 1, to 0.15",
                    results.summary(THREE, "order off"), "at most", SLACK, "of an order",
                ),
                Part(
                    "in dimension 4 a step tends to p² Δ_ḡ h as ε to the power of 1, to 0.15",
                    results.summary(FOUR, "order off"), "at most", SLACK, "of an order",
                ),
                Part(
                    "in dimension 3 the drift–diffusion is p⁴ Δ_ḡ h to rounding",
                    results.summary(THREE, "identity"), "at most", 1e-9, "of its size",
                ),
                Part(
                    "with dimension 4's exponent in dimension 3 it is off by at least 5 %",
                    mean(results.values(WRONG, "identity")), "at least", 0.05, "of its size",
                ),
            ],
            control=Part(
                "in dimension 2 a step tends to p⁴ Δ_ḡ h as ε to the power of 1, to 0.15",
                results.summary(TWO, "order off"), "at most", SLACK, "of an order",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        order = {arm: number(results.summary(arm, "order").estimate) for arm in (TWO, THREE, FOUR)}
        return (
            f"In dimension 3 the drift and diffusion of softmax attention equal a heat flow in another metric to "
            f"{number(results.summary(THREE, 'identity').high)} in every run, and a step tends to it at the order "
            f"{order[THREE]} in ε, in dimension 4 at the order {order[FOUR]}; in dimension 2, where no metric has a drift, "
            f"it does not (order {order[TWO]})."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        errors = {arm: results.stack(arm, "error") for arm in self.arms}
        at = {arm: SETTINGS[arm].epsilons.tolist() for arm in self.arms}
        return [
            Picture(
                "The distance of a step from the heat flow of ḡ against ε: the mean over seeds, all seeds as a band, and "
                "slope 1 dashed. With the wrong exponent, or in dimension 2, it stays.",
                orders(errors, at, dict.fromkeys(self.arms, 1.0), "ε", "relative error"),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, ["order", "error", "identity"]),
            ),
        ]


def drawn(setting: Setting, seed: int) -> tuple[VonMises, Wave, Tensor, float]:
    """The density, the function and the queries of a seed, and the angle at which its grid of keys starts."""
    n, generator = setting.n, torch.Generator().manual_seed(seed)
    kappa, mu = torch.rand(2, n, generator=generator, dtype=torch.float64)
    numbers = torch.zeros(n, dtype=torch.float64)
    numbers[torch.randperm(n, generator=generator)[:2]] = torch.tensor([2.0, 1.0], dtype=torch.float64)
    phase, start = torch.rand(2, generator=generator).tolist()
    density = VonMises(setting.concentration * (1 + kappa) / 2, 6.28 * mu)
    return density, Wave(numbers, 6.28 * phase), Torus(n).uniform(QUERIES, generator), start


def heat_of(setting: Setting, density: VonMises, wave: Wave, x: Tensor) -> Tensor:
    """p^a Δ_ḡ h for ḡ = p^a g, by the definition of Δ_ḡ. Constant factors of p cancel, so p need not be normalized."""

    def metric(at: Tensor) -> Tensor:
        identity = torch.eye(setting.n, dtype=at.dtype)
        return (setting.exponent * density.value(at)).exp()[:, None, None] * identity

    return (setting.exponent * density.value(x)).exp() * laplace_beltrami(metric, wave.value, x)


def relative(found: Tensor, truth: Tensor) -> float:
    """The root mean square of the difference, divided by the root mean square of the truth."""
    return float((found - truth).square().mean().sqrt() / truth.square().mean().sqrt())
