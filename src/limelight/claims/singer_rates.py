"""Singer's rates: the distance of one attention step from the Laplacian, by bandwidth and number of points.

On points of uniform density on a manifold of dimension d, with scores −|x − y|²/2ε,

    (P h − h)/(ε/2) = Δh + O(ε) + O(N^{−½} ε^{−½−d/4}),

where the first error is a bias, which falls with the bandwidth, and the second a scatter over random draws of the N
points, which grows as the bandwidth falls (Singer 2006; Theorem 1 of 2412.18288). The bias is measured on fixed points
that integrate exactly, up to rounding, where nothing is random. The scatter is the standard deviation over many draws,
to which the bias does not contribute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from plotly.graph_objects import Figure
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.continuum import Field, Harmonic, Manifold, Sphere, Torus, VonMises, Wave, diffusion, order
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.propagation import trajectory
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.report.orders import orders
from limelight.similarity import Bias, Euclidean

DRAWS, QUERIES = 64, 12  # the number of draws for one standard deviation; the number of points where it is measured
HALVES = np.array([1.0, 0.5, 0.25, 0.125])
SLACK = 0.15  # the largest difference between a measured order and theory that is accepted
CIRCLE, SPHERE, TORUS, UNEVEN = "circle", "sphere", "3-torus", "circle, density not uniform"


@dataclass(frozen=True)
class Setting:
    """The manifold, the test functions for bias (`field`) and scatter (`slow`), the bandwidths and numbers of points."""

    manifold: Manifold
    keys: Callable[
        [float, VonMises | None], tuple[Tensor, Tensor | None]
    ]  # keys that integrate exactly, and their shares
    field: Callable[[torch.Generator], Field]
    slow: Callable[[torch.Generator], Field]
    bias_epsilons: np.ndarray
    epsilons: np.ndarray
    points: int  # the largest number of points, which is used for the fit in ε
    concentration: float = 0.0  # the concentration of the density; 0 is uniform


def wave(*k: float) -> Callable[[torch.Generator], Field]:
    """A function that draws random waves with these wave numbers."""
    return lambda generator: Wave.drawn(torch.tensor(k, dtype=torch.float64), generator)


def harmonic(degree: int) -> Callable[[torch.Generator], Field]:
    """A function that draws random spherical harmonics of this degree."""
    return lambda generator: Harmonic.drawn(degree, 2, generator)


def grid(torus: Torus, n: int) -> Callable[[float, VonMises | None], tuple[Tensor, None]]:
    """A function that gives keys at the quantiles of the density, all with equal shares."""
    return lambda start, density: (torus.grid(n, density, start), None)


def sphere(start: float, density: VonMises | None) -> tuple[Tensor, Tensor]:
    """Keys on S² with their shares of the area."""
    return Sphere(2).quadrature(64)


# The wave (1, 1, 0) cannot be used for the bias, since on a product of circles its terms of order ε cancel.
SETTINGS = {
    CIRCLE: Setting(Torus(1), grid(Torus(1), 1000), wave(2), wave(1), 0.02 * HALVES, 0.04 * HALVES, 2000),
    SPHERE: Setting(Sphere(2), sphere, harmonic(2), harmonic(1), 0.08 * HALVES, 0.1 * HALVES, 4000),
    TORUS: Setting(
        Torus(3), grid(Torus(3), 40), wave(2, 1, 0), wave(1, 0, 0), 0.12 * HALVES ** (2 / 3), 0.2 * HALVES**0.5, 12000
    ),
    UNEVEN: Setting(
        Torus(1), grid(Torus(1), 1000), wave(2), wave(1), 0.02 * HALVES, 0.04 * HALVES, 2000, concentration=0.8
    ),
}


class SingerRates(Claim):
    """The claim about the bias and the scatter of one attention step."""

    name = "singer_rates"
    title = "One attention step is a heat step, to the bias and the scatter that Singer's theorem gives"
    question = (
        "On N points of a manifold of dimension d, is (P h − h)/(ε/2) the Laplacian up to a bias of order ε, and a "
        "scatter over draws of the points of order N to the −½ and ε to the −½ − d/4? For dimensions 1, 2 and 3?"
    )
    source = "Theorem 1 of 2412.18288 (Ruan & Zhang), after Singer, From graph to manifold Laplacian (2006)"
    arms = {
        CIRCLE: "the circle, d = 1",
        SPHERE: "the sphere, d = 2",
        TORUS: "the flat torus of three angles, d = 3",
        UNEVEN: "the circle with points denser on one side, where the limit is not the Laplacian: the control",
    }
    control = UNEVEN
    measures = {
        "bias": Measure("order of the bias in ε; theory 1", "order", "neither", failed=0.0),
        "bias off": Measure(
            "how far the order of the bias is from theory", "of an order", "lower", failed=9.0, summary="exact"
        ),
        "scatter in N": Measure("order of the scatter in N; theory −½", "order", "neither", failed=0.0),
        "scatter in N off": Measure(
            "how far the order of the scatter in N is from theory", "of an order", "lower", failed=9.0
        ),
        "scatter in ε": Measure("order of the scatter in ε; theory −½ − d/4", "order", "neither", failed=0.0),
        "scatter in ε off": Measure(
            "how far the order of the scatter in ε is from theory", "of an order", "lower", failed=9.0
        ),
    }

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        setting, (turn, start) = SETTINGS[arm], torch.rand(2, generator=generator).tolist()
        density = None
        if setting.concentration:
            density = VonMises(torch.tensor([setting.concentration]), torch.tensor([6.28 * turn]))
        errors = biases(setting, density, start, generator)
        # All measurements share one function and one set of queries, so that only the measured quantity varies.
        queries, h = setting.manifold.uniform(QUERIES, generator), setting.slow(generator)
        numbers, most, middle = setting.points * HALVES, setting.points, float(setting.epsilons[1])

        def scatters(pairs: Sequence[tuple[int, float]]) -> np.ndarray:
            return np.array([scatter(setting.manifold, h, queries, density, n, e, generator) for n, e in pairs])

        in_number = scatters([(int(n), middle) for n in numbers])
        in_epsilon = scatters([(most, epsilon) for epsilon in setting.epsilons.tolist()])
        found = {
            "bias": (order(setting.bias_epsilons, errors), 1.0),
            "scatter in N": (order(numbers, in_number), -0.5),
            "scatter in ε": (order(setting.epsilons, in_epsilon), predicted(arm)),
        }
        return Measurement(
            values={name: got for name, (got, _) in found.items()}
            | {f"{name} off": abs(got - theory) for name, (got, theory) in found.items()},
            arrays={"bias": errors, "scatter in N": in_number, "scatter in ε": in_epsilon},
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    f"on the {arm} the order of the {name} is within {SLACK} of theory",
                    results.summary(arm, f"{name} off"), "at most", SLACK, "of an order",
                )
                for name in ("bias", "scatter in N", "scatter in ε")
                for arm in (CIRCLE, SPHERE, TORUS)
            ],
            control=Part(
                f"without uniform density the order of the bias is within {SLACK} of theory",
                results.summary(UNEVEN, "bias off"), "at most", SLACK, "of an order",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        bias, in_number = (
            [number(results.summary(arm, name).estimate) for arm in (CIRCLE, SPHERE, TORUS)]
            for name in ("bias", "scatter in N")
        )
        return (
            f"On the circle, the sphere and the torus one attention step differs from a heat step by a bias of order "
            f"{', '.join(bias)} in the bandwidth ε (theory: 1) and a scatter of order {', '.join(in_number)} in the number of "
            f"points (theory: −½), as Singer's theorem says."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        stacks = {
            name: {arm: results.stack(arm, name) for arm in self.arms}
            for name in ("bias", "scatter in N", "scatter in ε")
        }
        return [
            Picture(
                "A bump of heat on 600 points of the sphere, and what attention makes of it step by step: play it, and turn it.",
                heat_on_a_sphere(results.seeds()[0]),
            ),
            Picture(
                "Bias against ε, and scatter against N and ε: the mean over seeds, all seeds as a band, and the predicted slope dashed.",
                orders(
                    stacks["bias"], {arm: SETTINGS[arm].bias_epsilons.tolist() for arm in self.arms},
                    dict.fromkeys(self.arms, 1.0), "ε", "bias",
                ),
                orders(
                    stacks["scatter in N"], {arm: (SETTINGS[arm].points * HALVES).tolist() for arm in self.arms},
                    dict.fromkeys(self.arms, -0.5), "points N", "standard deviation",
                ),
                orders(
                    stacks["scatter in ε"], {arm: SETTINGS[arm].epsilons.tolist() for arm in self.arms},
                    {arm: predicted(arm) for arm in self.arms}, "ε", "standard deviation",
                ),
            ),
            Picture(
                "How far each order is from theory: a dot for each seed, and the mean with its interval.",
                *comparison(results, [f"{name} off" for name in stacks]),
            ),
        ]  # fmt: skip


def predicted(arm: str) -> float:
    """The order of the scatter in ε that theory predicts."""
    return -0.5 - SETTINGS[arm].manifold.dimension / 4


def biases(setting: Setting, density: VonMises | None, start: float, generator: torch.Generator) -> np.ndarray:
    """The root mean square over queries of (P h − h)/(ε/2) − Δh, for each ε, with keys that integrate exactly."""
    keys, shares = setting.keys(start, density)
    queries, h = setting.manifold.uniform(QUERIES, generator), setting.field(generator)
    table = None if shares is None else shares.log()[None]
    errors = [
        rate(setting.manifold, h, queries, keys[None], epsilon, table)[0] - h.laplacian(queries)
        for epsilon in setting.bias_epsilons.tolist()
    ]
    return np.array([float(error.square().mean().sqrt()) for error in errors])


def scatter(
    manifold: Manifold,
    h: Field,
    queries: Float[Tensor, "n c"],
    density: VonMises | None,
    points: int,
    epsilon: float,
    generator: torch.Generator,
) -> float:
    """The standard deviation of (P h − h)/(ε/2) over draws of the points, as the root mean square over queries."""
    keys = manifold.sample(DRAWS * points, generator, density).view(DRAWS, points, -1)
    return float(rate(manifold, h, queries, keys, epsilon).var(0).mean().sqrt())


def rate(
    manifold: Manifold,
    h: Field,
    queries: Float[Tensor, "n c"],
    keys: Float[Tensor, "draws m c"],
    epsilon: float,
    log_shares: Float[Tensor, "1 m"] | None = None,
) -> Float[Tensor, "draws n"]:
    """(P h − h)/(ε/2) at the queries, for each draw of the keys."""
    similarity = Euclidean(epsilon**0.5)
    flat = keys.flatten(0, 1)
    values = h.value(flat).view(*keys.shape[:-1], 1)
    places = manifold.embed(flat).view(*keys.shape[:-1], -1)
    A = Attention(manifold.embed(queries), places, similarity if log_shares is None else similarity + Bias(log_shares))
    return ((A @ values)[..., 0] - h.value(queries)) / (epsilon / 2)


def heat_on_a_sphere(seed: int) -> Figure:
    """A bump of heat at the north pole, and the states after each step."""
    sphere, epsilon, frames = Sphere(2), 0.05, 16
    x = sphere.uniform(600, torch.Generator().manual_seed(seed))
    bump = (8 * (x[:, 2:] - 1)).exp()
    path = trajectory(diffusion(x, epsilon), bump, frames)
    steps = torch.cat(list(path), -1).T
    return figures.animated_scatter(x.numpy(), steps.numpy(), [str(k) for k in range(frames + 1)], "heat", "steps")
