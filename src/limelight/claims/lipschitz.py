"""Lipschitz: the slope of dot-product attention grows as the square of its tokens; that of tied L2 attention is bounded.

Kim, Papamakarios & Mnih (2006.04710) show that dot-product self-attention is not Lipschitz: a token at zero gives all
tokens the same weight however far they are, and a small change of it moves weight between tokens that are far apart.
With the distance in place of the product, and one map for queries and keys (tied L2 attention), the weight of far tokens
falls faster than their effect grows. With two maps this need not be so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import lambertw
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.interpret.jacobian import jacobian
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.similarity import Dot, Euclidean, Similarity

WIDTH = 6
SIZES = tuple(2.0**i for i in range(10))  # s, the distance of the tokens from zero
FITTED = 4  # the number of the largest sizes to which the order is fitted
CLOUDS, TOKENS = 150, 8
SMALLEST, LARGEST = 0.1, 100.0  # standard deviations of random clouds
DOT, TIED, UNTIED = "dot product", "tied L2", "untied L2"


class Lipschitz(Claim):
    """The claim about the largest slope of self-attention, with dot products and with distances."""

    name = "lipschitz"
    title = "Tied L2 attention is Lipschitz; dot-product attention is not: its slope grows as the square of its tokens"
    question = (
        "Self-attention maps tokens x to P(x) W x. How much can it magnify a small change of its tokens, and does that "
        "stay bounded as tokens grow? On three tokens 0, s·u and −s·u the dot product's slope is known exactly, "
        "⅓ + ⅔ scale·s² for W = 1. For the distance with one map there is a bound for all tokens whatever. Is it kept, "
        "and is the one map needed?"
    )
    source = "Kim, Papamakarios & Mnih 2021 (2006.04710), theorems 3.1 and 3.2"
    arms = {
        DOT: "P ∝ exp ⟨W x_i, W x_j⟩, values W x",
        TIED: "P ∝ exp −½|W x_i − W x_j|², values W x",
        UNTIED: "P ∝ exp −½|W x_i − W' x_j|², values W x: the control",
    }
    control = UNTIED
    measures = {
        "order": Measure(
            "order p in slope ∝ sᵖ, over the largest tokens", "power of s", "lower", failed=10.0, summary="median"
        ),
        "share of the bound": Measure(
            f"largest slope at {CLOUDS} random clouds of tokens and at 0, ±s·u",
            "of the bound", "lower", failed=1e9, summary="exact",
        ),
        "formula": Measure(
            "slope at the token 0 against the dot product's formula",
            "relative gap", "neither", failed=1.0, summary="exact",
        ),
    }  # fmt: skip

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        own, other = maps(generator)
        f = layer(arm, own, other)
        along = direction(own, other)
        found, at_zero = zip(*(slopes(f, opposed(along, s, arm)) for s in SIZES), strict=True)
        clouds = [float(torch.linalg.matrix_norm(jacobian(f, x), 2)) for x in random_clouds(generator)]
        worst = max(max(found) / bound(own, 3), max(clouds) / bound(own, TOKENS))
        expected = formula(own, along, SIZES[-1])
        return Measurement(
            values={
                "order": order(found[-FITTED:]),
                "share of the bound": worst,
                "formula": abs(at_zero[-1] - expected) / expected,
            },
            arrays={"slope": np.array(found)},
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "the slope of dot-product attention grows at least as s^1.85",
                    results.summary(DOT, "order"), "at least", 1.85, "power of s",
                ),
                Part(
                    "and at most as s^2.15",
                    results.summary(DOT, "order"), "at most", 2.15, "power of s",
                ),
                Part(
                    "at a token at zero it is ⅓W + ⅔s²·(Wu)(Wu)ᵀW, to rounding",
                    results.summary(DOT, "formula"), "at most", 1e-12, "relative gap",
                ),
                Part(
                    "the slope of tied L2 attention does not grow with s",
                    results.summary(TIED, "order"), "at most", 0.15, "power of s",
                ),
                Part(
                    "wherever it was looked for it is below √n (1 + 4 W₀((n − 1)/e)) ‖W‖",
                    results.summary(TIED, "share of the bound"), "at most", 1.0, "of the bound",
                ),
                Part(
                    "dot-product attention exceeds that bound tenfold",
                    results.summary(DOT, "share of the bound"), "at least", 10.0, "of the bound",
                ),
            ],
            control=Part(
                "with two maps, the slope of L2 attention does not grow with s",
                results.summary(UNTIED, "order"), "at most", 0.15, "power of s",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        tied, dot = (results.summary(arm, "share of the bound") for arm in (TIED, DOT))
        return (
            f"The slope of dot-product self-attention grows with the size s of the tokens as s to the power of "
            f"{number(results.summary(DOT, 'order').estimate)}; that of L2 attention with one map for queries and keys does not grow, "
            f"and in every run it stayed below {number(tied.high)} of its proven bound, which dot-product attention exceeds "
            f"{number(dot.low)} times or more."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        slope = {arm: results.stack(arm, "slope") for arm in self.arms}
        return [
            Picture(
                "The slope of the layer, which is the operator norm of its Jacobian, on tokens at distance s from zero: the "
                "median over seeds, and the middle half. Two decades upwards for each decade to the right is s².",
                figures.curves(slope, SIZES, "s, distance of tokens from zero", "slope ‖J‖₂", log=True, log_x=True),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, ["order"]),
                *comparison(results, ["share of the bound"], log=True),
            ),
        ]


Layer = Callable[[Tensor], Tensor]


def maps(generator: torch.Generator) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]:
    """W and W', Gaussian with variance 1/d, drawn again until there is a unit u with ⟨W u, W' u⟩ = 0."""
    while True:
        own, other = torch.randn(2, WIDTH, WIDTH, generator=generator, dtype=torch.float64) / WIDTH**0.5
        curvature = torch.linalg.eigvalsh(symmetric(own.mT @ other))
        if curvature[0] < 0 < curvature[-1]:
            return own, other


def symmetric(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    return (matrix + matrix.mT) / 2


def direction(own: Float[Tensor, "d d"], other: Float[Tensor, "d d"]) -> Float[Tensor, " d"]:
    """A unit vector u with ⟨W u, W' u⟩ = 0, so that W u is as far from W' u as from −W' u."""
    values, vectors = torch.linalg.eigh(symmetric(own.mT @ other))
    u = (-values[0]).sqrt() * vectors[:, -1] + values[-1].sqrt() * vectors[:, 0]
    return u / u.norm()


def opposed(along: Float[Tensor, " d"], s: float, arm: str) -> Float[Tensor, "n d"]:
    """The tokens 0, s·u and −s·u. For two maps they are ±s·u alone, since a key at zero would be nearer than both."""
    tokens = torch.stack([torch.zeros_like(along), s * along, -s * along])
    return tokens[1:] if arm == UNTIED else tokens


def layer(arm: str, own: Float[Tensor, "d d"], other: Float[Tensor, "d d"]) -> Layer:
    """The layer x ↦ P(x) W x of an arm."""
    similarity: Similarity = Dot() if arm == DOT else Euclidean()

    def f(x: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch n d"]:
        queries = x @ own.mT
        keys = x @ other.mT if arm == UNTIED else queries
        return Attention(queries, keys, similarity, scale=1.0) @ queries

    return f


def random_clouds(generator: torch.Generator) -> list[Float[Tensor, "n d"]]:
    """Clouds of Gaussian tokens, with spreads from much less than a kernel's width to much more."""
    spreads = np.geomspace(SMALLEST, LARGEST, CLOUDS)
    return [s * torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64) for s in spreads]


def slopes(f: Layer, x: Float[Tensor, "n d"]) -> tuple[float, float]:
    """‖J‖₂ of the Jacobian J, and ‖·‖₂ of its block for the first token's output and the first token's input."""
    whole = jacobian(f, x)
    at_first = whole[:WIDTH, :WIDTH]
    return float(torch.linalg.matrix_norm(whole, 2)), float(torch.linalg.matrix_norm(at_first, 2))


def formula(own: Float[Tensor, "d d"], along: Float[Tensor, " d"], s: float) -> float:
    """‖⅓W + ⅔s²·(Wu)(Wu)ᵀW‖₂: a third from the token's own value, and the covariance of uniform weights times W."""
    image = own @ along
    return float(torch.linalg.matrix_norm(own / 3 + 2 / 3 * s**2 * torch.outer(image, image) @ own, 2))


def bound(own: Float[Tensor, "d d"], n: int) -> float:
    """√n (1 + 4 W₀((n − 1)/e)) ‖W‖₂ with Lambert's function W₀: a bound for tied L2 attention of n tokens."""
    return float(n**0.5 * (1 + 4 * lambertw((n - 1) / np.e).real) * torch.linalg.matrix_norm(own, 2))


def order(found: Sequence[float]) -> float:
    """The exponent of s in the slope, by least squares of the logarithms over the largest s."""
    return float(np.polyfit(np.log(SIZES[-len(found) :]), np.log(found), 1)[0])
