"""A step toward the minimizer: attention with any pseudo-metric, to first order.

With weights exp(−f(x, y)/ε) and one minimizer y*(x) of f(x, ·), the result of a step tends to h(y*). In one dimension,
with the second and third derivatives c and d of f with respect to y at y*, the expansion is

    P h(x) = h(y*) + (ε/2) [h''/c + (2 p'/(p c) − d/c²) h'] + O(ε²),

by Laplace's method: y = y* + √ε z has weights exp(−c z²/2)(1 − √ε d z³/6)(1 + √ε z p'/p), of which E z² = 1/c
and E z = √ε (p'/(p c) − d/2c²). The term with d comes from E z⁴ = 3/c²: if f is not symmetric about y*, the step is
shifted to the flatter side. A first-order term that contains only first and second derivatives misses it (Theorem 5 and
Proposition 1 of 2412.18288 are about this expansion). If the minimizers are a whole set, {y : g(y) = x}, a step
is the conditional expectation E[h(Y) | g(Y) = x] up to O(ε) (Theorem 6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from limelight.attention import Attention
from limelight.continuum import Pseudometric, Torus, VonMises, Wave, diffusion, first_order, minimizer, order
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.report.orders import orders

POINTS, QUERIES = 800, 16
EPSILONS = 0.016 * 0.5 ** np.arange(4)
SLACK = 0.15  # the largest difference between a measured order and theory that is accepted
LEANING, MAPS, SET, PLAIN = "leaning f", "two maps", "a set of minimizers", "leaning f, no third derivative"
BEND = 0.6  # how much the curves are bent on which the function g of the arm SET is constant


def leaning(x: Tensor, y: Tensor) -> Tensor:
    """e^{y−x} − (y − x) (linex): minimal at y = x, where c = d = 1, and steeper for y > x; so it is not symmetric."""
    gap = (y - x)[..., 0]
    return gap.exp() - gap


def two_maps(x: Tensor, y: Tensor) -> Tensor:
    """½ (φ(y) − ψ(x))² with φ(y) = y + 0.3 sin y and ψ(x) = 0.8 x + 0.2: different maps for keys and queries, y* ≠ x."""
    return (0.5 * (y + 0.3 * y.sin() - 0.8 * x - 0.2).square())[..., 0]


# The pseudo-metric, and whether the limit that it is compared with contains the third derivative.
ARMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]] = {
    LEANING: (leaning, True),
    MAPS: (two_maps, True),
    PLAIN: (leaning, False),
}


class MinimizerStep(Claim):
    """The claim about the limit and the first-order term of a step with a general pseudo-metric."""

    name = "minimizer_step"
    title = "With any pseudo-metric a step fetches the value at its minimizer, and leans as its third derivative does"
    question = (
        "Attention need not measure a distance: its pseudo-metric f(x, y) may be least elsewhere than at y = x, and lean to "
        "one side. What does a step do then, beyond fetching the value at the minimizer? Are the second derivatives of f "
        "enough to say, or does the third belong to the first order? And where f is least on a whole curve?"
    )
    source = "Theorems 5 and 6 and Proposition 1 of 2412.18288 (Ruan & Zhang), the proposition corrected"
    arms = {
        LEANING: "f = e^{y−x} − (y − x), held to the expansion with the third derivative",
        MAPS: "f = ½(φ(y) − ψ(x))², with φ not linear and y* ≠ x, held to the same",
        SET: "f = ½(g(y) − x)² on a torus, held to the conditional expectation given g",
        PLAIN: "f = e^{y−x} − (y − x), held to the expansion without the third derivative: the control",
    }
    control = PLAIN
    measures = {
        "order": Measure("order in ε of the distance from the limit; theory 1", "order", "neither", failed=0.0),
        "order off": Measure("how far the order is from theory", "of an order", "lower", failed=9.0),
        "error": Measure("distance from the limit at the smallest ε", "of its size", "lower", failed=9.0),
    }

    def measure(self, arm: str, seed: int) -> Measurement:
        errors = of_a_set(seed) if arm == SET else of_a_point(*ARMS[arm], seed)
        slope = order(EPSILONS, errors)
        return Measurement(
            {"order": slope, "order off": abs(slope - 1), "error": float(errors[-1])}, {"error": np.array(errors)}
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    f"with {says} the distance from the limit falls as ε to the power of 1, to {SLACK}",
                    results.summary(arm, "order off"), "at most", SLACK, "of an order",
                )
                for arm, says in (
                    (LEANING, "an f that leans"),
                    (MAPS, "maps of their own for queries and keys"),
                    (SET, "a curve of minimizers"),
                )
            ],
            control=Part(
                "without the third derivative the distance from the limit falls as ε to the power of 1, to 0.15",
                results.summary(PLAIN, "order off"), "at most", SLACK, "of an order",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        right = " and ".join(number(results.summary(arm, "order").estimate) for arm in (LEANING, MAPS))
        return (
            f"A step of attention with a general pseudo-metric fetches the value at its minimizer. Its first-order term needs "
            f"the third derivative: with it the error falls at the orders {right} in ε (theory: 1), without it at the order "
            f"{number(results.summary(PLAIN, 'order').estimate)}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        errors = {arm: results.stack(arm, "error") for arm in self.arms}
        return [
            Picture(
                "The distance of a step from its limit against ε: the mean over seeds, all seeds as a band, and slope 1 dashed. "
                "Without the third derivative it stays.",
                orders(
                    errors, dict.fromkeys(self.arms, EPSILONS.tolist()), dict.fromkeys(self.arms, 1.0), "ε",
                    "relative error",
                ),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, ["order"]),
                *comparison(results, ["error"], log=True),
            ),
        ]  # fmt: skip


def of_a_point(f: Callable[[Tensor, Tensor], Tensor], skew: bool, seed: int) -> np.ndarray:
    """The distance of (P h − h(y*))/(ε/2) from its limit for each ε: the root mean square over queries, relative."""
    generator = torch.Generator().manual_seed(seed)
    mean, kappa, phase, start = torch.rand(4, generator=generator).tolist()
    # The line is represented by angles around 0: its ends are so far from every query that they get no weight.
    density = VonMises(torch.tensor([0.5 + 0.5 * kappa]), torch.tensor([0.6 * mean - 0.3]))
    h = Wave(torch.tensor([2.0]), 6.28 * phase)
    x = 1.6 * torch.rand(QUERIES, generator=generator, dtype=torch.float64) - 0.8
    y = Torus(1).grid(POINTS, density, start)
    at = minimizer(f, x, x)
    limit = first_order(h, at, density, skew=skew)
    errors = []
    for epsilon in EPSILONS.tolist():
        A = Attention(x[:, None], y, Pseudometric(f), scale=1 / epsilon)
        rate = ((A @ h.value(y)[:, None])[:, 0] - h.value(at.y[:, None])) / (epsilon / 2)
        errors.append(relative(rate, limit))
    return np.array(errors)


def of_a_set(seed: int) -> np.ndarray:
    """The distance of P h from E[h(Y) | g(Y) = x] for each ε, for Y on a torus and g(y) = y_1 + BEND sin y_2."""
    generator = torch.Generator().manual_seed(seed)
    *kappa, first, second, phase, start = torch.rand(6, generator=generator).tolist()
    density = VonMises(0.4 + 0.4 * torch.tensor(kappa), torch.tensor([0.6 * first - 0.3, 6.28 * second]))
    h = Wave(torch.tensor([1.0, 1.0]), 6.28 * phase)
    x = torch.rand(QUERIES, generator=generator, dtype=torch.float64) - 0.5
    y = Torus(2).grid(200, density, start)
    feature = y[:, :1] + BEND * y[:, 1:].sin()
    truth = torch.stack([given(h, density, float(value)) for value in x])
    values = h.value(y)[:, None]
    return np.array(
        [relative((diffusion(x[:, None], e, keys=feature) @ values)[:, 0], truth) for e in EPSILONS.tolist()]
    )


def given(h: Wave, density: VonMises, x: float) -> Tensor:
    """E[h(Y) | g(Y) = x], the mean over the curve y_1 = x − BEND sin y_2 with weights p/|∂g/∂y_1| = p along y_2."""
    second = 2 * np.pi * torch.arange(400, dtype=torch.float64) / 400
    curve = torch.stack([x - BEND * second.sin(), second], -1)
    weights = density.value(curve).exp()
    return (weights * h.value(curve)).sum() / weights.sum()


def relative(found: Tensor, truth: Tensor) -> float:
    """The root mean square of the difference, divided by the root mean square of the truth."""
    return float((found - truth).square().mean().sqrt() / truth.square().mean().sqrt())
