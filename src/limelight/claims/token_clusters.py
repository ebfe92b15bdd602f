"""Token clusters: on a sphere, attention moves all tokens to one point, fast if it is flat and in stages if it is sharp.

Geshkovski, Letrouit, Polyanskiy & Rigollet (2312.10794) describe a transformer with normalized tokens as particles on
a sphere: dx_i/dt is the part of Σ_j P_ij x_j tangent to the sphere at x_i, with P = softmax(β ⟨x_i, x_j⟩). They prove
that all tokens end in one point, for wide ranges of β and dimension. With a large β, tokens first gather in several
clusters, which last very long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.statistics import Interval, mean
from limelight.experiment.verdict import Part, Verdict
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.similarity import Dot, Euclidean

TOKENS, STEP, TIME = 64, 0.1, 60
MIDDLE = 20
RESOLUTION = 0.1  # in units of the sphere's radius: tokens nearer than this belong to one cluster
ONE = 1.05  # a number of clusters below this counts as one cluster
FRAMES = (0, 1, 2, 5, 10, 20, 40, 60)
FLAT, SHARP, SHARPER, WIDE, REPEL = "β = 1", "β = 4", "β = 16", "β = 4, 32 dimensions", "β = 4, values −x"

# For each arm: β, the dimension of the tokens, and the sign of their values.
ARMS: dict[str, tuple[float, int, float]] = {
    FLAT: (1.0, 3, 1.0),
    SHARP: (4.0, 3, 1.0),
    SHARPER: (16.0, 3, 1.0),
    WIDE: (4.0, 32, 1.0),
    REPEL: (4.0, 3, -1.0),
}


class TokenClusters(Claim):
    """The claim about sixty-four tokens that attention moves on a sphere."""

    name = "token_clusters"
    title = (
        "Tokens on a sphere gather in one point; the sharper the attention, the longer they stay in several clusters"
    )
    question = (
        "Attention with Q = K = V = 1 moves tokens that are put back on the unit sphere after each small step. Do they end "
        "in one point? How long do several clusters last, and does that depend on how sharp the softmax is, and on the "
        "dimension? And what if values repel?"
    )
    source = (
        "Geshkovski, Letrouit, Polyanskiy & Rigollet 2023 (2312.10794); clusters as Leinster & Cobbold 2012 count them"
    )
    arms = {
        FLAT: "tokens in three dimensions, scores ⟨x, y⟩",
        SHARP: "scores 4⟨x, y⟩",
        SHARPER: "scores 16⟨x, y⟩",
        WIDE: "scores 4⟨x, y⟩ in 32 dimensions, where random tokens are nearly orthogonal",
        REPEL: "scores 4⟨x, y⟩, and the opposite direction: the control",
    }
    control = REPEL
    measures = {
        "middle": Measure(f"clusters at time {MIDDLE}", "clusters", "neither", failed=float(TOKENS)),
        "end": Measure(f"clusters at time {TIME}", "clusters", "neither", failed=float(TOKENS)),
        "alone": Measure("time to one cluster", f"time, at most {TIME}", "neither", failed=float(TIME)),
    }

    def measure(self, arm: str, seed: int) -> Measurement:
        beta, dimension, sign = ARMS[arm]
        path = trajectory(start(seed, dimension), beta, sign)
        counted = clusters(path).numpy()
        single = np.flatnonzero(counted <= ONE)
        arrays = {"clusters": counted}
        if dimension == 3:
            arrays["tokens"] = path[list(FRAMES)].numpy()
        return Measurement(
            values={
                "middle": float(counted[MIDDLE]),
                "end": float(counted[TIME]),
                "alone": float(single[0]) if len(single) else float(TIME),
            },
            arrays=arrays,
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    f"where attention is flat, β = 1, all tokens are in one cluster at time {TIME}, in at least 60% of runs",
                    results.share(FLAT, "end", "at most", ONE), "at least", 0.6, "of runs",
                ),
                Part(
                    f"so they are in 32 dimensions, with β = 4, at time {TIME}, in at least 60% of runs",
                    results.share(WIDE, "end", "at most", ONE), "at least", 0.6, "of runs",
                ),
                Part(
                    f"where attention is sharp, β = 16, at least four clusters are left at time {MIDDLE}",
                    results.summary(SHARPER, "middle"), "at least", 4.0, "clusters",
                ),
                Part(
                    "by then the tokens have gathered: at most a third as many clusters as tokens",
                    results.summary(SHARPER, "middle"), "at most", TOKENS / 3, "clusters",
                ),
                Part(
                    f"and these last: from time {MIDDLE} to {TIME}, thrice as long, at most a third is lost",
                    persistence(results, SHARPER), "at least", 2 / 3, "times",
                ),
                Part(
                    "one cluster takes at least twice as long with β = 4 as with β = 1",
                    results.ratio(SHARP, FLAT, "alone"), "at least", 2.0, "times",
                ),
            ],
            control=Part(
                f"with values −x all tokens are in one cluster at time {TIME}, in at least 60% of runs",
                results.share(REPEL, "end", "at most", ONE), "at least", 0.6, "of runs",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        one = results.share(FLAT, "end", "at most", ONE)
        return (
            f"With flat attention (β = 1) all {TOKENS} tokens end in one cluster in {round(one.estimate * one.n)} of {one.n} runs. "
            f"With sharp attention (β = 16) {number(results.summary(SHARPER, 'middle').estimate)} clusters stand at time {MIDDLE}, "
            f"and {persistence(results, SHARPER).estimate:.0%} of them at time {TIME}: a meta-stable state."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        tokens = {arm: results.array(arm, "tokens", seed) for arm in (FLAT, SHARP, SHARPER, REPEL)}
        counts = {arm: results.stack(arm, "clusters") for arm in self.arms}
        return [
            Picture(
                f"The {TOKENS} tokens of seed {seed} on their sphere. Move the slider through time, and turn them.",
                *figures.spheres(tokens, FRAMES),
            ),
            Picture(
                "Clusters by time: the median over seeds, and the middle half. A plateau above one is a set of clusters that "
                "attract each other too little to be seen to move.",
                figures.curves(counts, 1, "time t", "clusters", log=True),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, list(self.measures), log=True),
            ),
        ]


def start(seed: int, dimension: int) -> Float[Tensor, "n d"]:
    """Random tokens, uniform on the unit sphere."""
    generator = torch.Generator().manual_seed(seed)
    return on_sphere(torch.randn(TOKENS, dimension, generator=generator, dtype=torch.float64))


def trajectory(x: Float[Tensor, "n d"], beta: float, sign: float) -> Float[Tensor, "times n d"]:
    """The tokens at times 0, 1, …, by Heun's method: an Euler step, and then a step with the mean of both slopes.

    After each step the tokens are normalized. Steps of x + step·P x would be up to a tenth too short, since the part of
    P x along x makes x longer before it is normalized. Euler's method is only of first order, which would change how
    long a cluster near equilibrium lasts.
    """
    path = [x]
    for _ in range(TIME):
        for _ in range(round(1 / STEP)):
            first = velocity(x, beta, sign)
            second = velocity(on_sphere(x + STEP * first), beta, sign)
            x = on_sphere(x + STEP * (first + second) / 2)
        path.append(x)
    return torch.stack(path)


def velocity(x: Float[Tensor, "n d"], beta: float, sign: float) -> Float[Tensor, "n d"]:
    """The part of ±P x that is tangent to the sphere at x."""
    pulled = sign * (Attention(x, x, Dot(), scale=beta) @ x)
    return pulled - (pulled * x).sum(-1, keepdim=True) * x


def on_sphere(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    return x / x.norm(dim=-1, keepdim=True)


def clusters(x: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch"]:
    """The number of clusters, Σ_i 1 / Σ_j exp(−|x_i − x_j|²/2r²): Leinster & Cobbold's diversity of order 0 (2012).

    Each token counts as one divided by the number of tokens within about r of it, so for tight groups that are many r
    apart the sum is the number of groups.
    """
    return (-Attention(x, x, Euclidean(RESOLUTION)).logsumexp()).exp().sum(-1)


def persistence(results: Results, arm: str) -> Interval:
    """The number of clusters at the end divided by that in the middle, as the geometric mean over seeds."""
    end, middle = (results.values(arm, measure) for measure in ("end", "middle"))
    return mean(np.log(end) - np.log(middle)).map(np.exp)
