"""Rank collapse: attention alone makes all tokens equal, doubly exponentially with depth; skip connections prevent it.

Dong, Cordonnier & Loukas (2103.03404) bound the residual, which is the part of the tokens in which they differ: after
one layer of self-attention it is at most of the order of its cube, so that after L layers it is of order r^(3^L). The
cube can be measured in one block, on tokens that are moved closer and closer to their mean; its consequence is seen in
a stack of blocks. A Markov chain, which has one attention matrix for all layers, loses rank too, but at a constant rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.similarity import Dot

TOKENS, WIDTH, HIDDEN, DEPTH = 32, 32, 128, 16
GONE = 1e-6  # a residual below this share of the tokens' size counts as lost
CLOSENESS = (10, 30, 100, 300, 1000)  # the factors by which tokens are moved to their mean to measure a block's order
STEEP = 3.0  # the slope of the steeper network, divided by that of the other
SHOWN = (1, 2, 4)  # the layers that are drawn
ALONE, SKIP, MLP, STEEP_MLP, FIXED = "attention alone", "with skips", "with an MLP", "with a steep MLP", "one fixed P"


class RankCollapse(Claim):
    """The claim about how fast the differences between tokens vanish with depth."""

    name = "rank_collapse"
    title = "Pure attention loses rank doubly exponentially with depth; skip connections stop it, and MLPs slow it"
    question = (
        "A stack of self-attention layers with random weights: how fast do its tokens become equal? Does one layer turn "
        "their residual, what is left of them without their mean, into its cube? What do skip connections do, and what "
        "does a network between the layers?"
    )
    source = "Dong, Cordonnier & Loukas 2021 (2103.03404), theorem 2.2 and section 3"
    arms = {
        ALONE: "X ← P X W_v, P = softmax of X W_q (X W_k)ᵀ/√d",
        SKIP: "X ← X + P X W_v",
        MLP: "X ← MLP(P X W_v), a ReLU network of one hidden layer that keeps lengths in the mean",
        STEEP_MLP: f"the same network, {STEEP:g} times as steep",
        FIXED: "X ← P X W_v with the P of the first layer in all: the control",
    }
    control = FIXED
    measures = {
        "order": Measure("order p in residual after a block ∝ (residual before)ᵖ", "power", "neither", failed=10.0),
        "layers": Measure(
            f"layers until the residual is below {GONE:g}", f"layers, at most {DEPTH}", "higher", failed=0.0
        ),
        "early": Measure("residual after 2 layers", "of the tokens' size", "higher", failed=1e-16),
        "late": Measure(
            f"residual after {DEPTH} layers", "of the tokens' size", "higher", failed=1e-16, summary="median"
        ),
    }

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64)
        layers = [Block.random(generator) for _ in range(DEPTH)]
        tokens = stack(arm, layers, x)
        left = np.array([residual(x) for x in tokens])
        lost = np.flatnonzero(left < GONE)
        after = one_block(arm, layers[0], x)
        return Measurement(
            values={
                "order": float(-np.polyfit(np.log(CLOSENESS), np.log(after), 1)[0]),
                "layers": float(lost[0]) if len(lost) else float(DEPTH),
                "early": float(left[2]),
                "late": float(left[-1]),
            },
            arrays={"residual": left, "after": after} | {f"cosine {i}": cosines(tokens[i]) for i in SHOWN},
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "a block of attention alone takes the residual to a power of at least 2.85: doubly exponential decay",
                    results.summary(ALONE, "order"), "at least", 2.85, "power",
                ),
                Part(
                    "and to a power of at most 3.15: the cube that the theorem bounds it by",
                    results.summary(ALONE, "order"), "at most", 3.15, "power",
                ),
                Part(
                    "attention alone is rid of it in at most half the layers that one fixed P takes",
                    results.ratio(ALONE, FIXED, "layers"), "at most", 0.5, "times",
                ),
                Part(
                    f"with skip connections a hundredth or more is left after {DEPTH} layers",
                    results.summary(SKIP, "late"), "at least", 0.01, "of the tokens' size",
                ),
                Part(
                    "with skip connections a block takes it to a power of at most 1.15: at worst a constant rate",
                    results.summary(SKIP, "order"), "at most", 1.15, "power",
                ),
                Part(
                    "an MLP slows it: twice the residual is left after two layers",
                    results.ratio(MLP, ALONE, "early"), "at least", 2.0, "times",
                ),
                Part(
                    "a steeper MLP slows it: twice the residual is left after two layers",
                    results.ratio(STEEP_MLP, ALONE, "early"), "at least", 2.0, "times",
                ),
                Part(
                    "an MLP only slows it: a block still takes the residual to a power of at least 2.85",
                    results.summary(MLP, "order"), "at least", 2.85, "power",
                ),
            ],
            control=Part(
                "with one P for all layers a block takes the residual to a power of at least 2.85",
                results.summary(FIXED, "order"), "at least", 2.85, "power",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        slower, steeper = (number(results.ratio(arm, ALONE, "early").estimate) for arm in (MLP, STEEP_MLP))
        return (
            f"Each layer of attention alone takes the differences between tokens to the power "
            f"{number(results.summary(ALONE, 'order').estimate)}, so that they are gone after "
            f"{number(results.summary(ALONE, 'layers').estimate)} layers; with skip connections "
            f"{number(results.summary(SKIP, 'late').estimate)} of the tokens' size is left after {DEPTH} layers. An MLP does "
            f"not slow the loss by itself ({slower} times the residual after two layers), but a three times steeper one does "
            f"({steeper} times)."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        by_depth = {arm: results.stack(arm, "residual") for arm in self.arms}
        by_closeness = {arm: results.stack(arm, "after") for arm in self.arms}
        looks = {
            f"{arm}, layer {i}": results.array(arm, f"cosine {i}", seed)
            for arm in (ALONE, SKIP)
            for i in SHOWN
        }  # fmt: skip
        return [
            Picture(
                "The residual by depth: the median over seeds, and the middle half. On this scale a Markov chain is a "
                "straight line, and doubly exponential decay bends downwards, until float64 has no more digits.",
                figures.curves(by_depth, 1, "layer", "residual / tokens' size", log=True),
            ),
            Picture(
                "One block, on tokens drawn together about their mean by a factor: three decades for each decade is the "
                "cube, one is a constant rate. Attention alone and the two with an MLP lie close together.",
                figures.curves(by_closeness, CLOSENESS, "factor by which tokens are drawn together",
                               "residual after the block / size", log=True, log_x=True),
            ),
            Picture(
                f"|cos| of the angle between any two tokens of seed {seed}, by layer: where all cells are full, all tokens "
                "point one way.",
                *figures.matrices(looks, "token", "token", "|cos|"),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, ["order", "layers"]),
                *comparison(results, ["early"], log=True),
            ),
        ]  # fmt: skip


@dataclass(frozen=True)
class Block:
    """The weights of one layer, Gaussian with variance 1/(number of inputs)."""

    query: Float[Tensor, "d d"]
    key: Float[Tensor, "d d"]
    value: Float[Tensor, "d d"]
    inner: Float[Tensor, "d hidden"]
    outer: Float[Tensor, "hidden d"]

    @classmethod
    def random(cls, generator: torch.Generator) -> Block:
        def draw(inputs: int, outputs: int) -> Tensor:
            return torch.randn(inputs, outputs, generator=generator, dtype=torch.float64) / inputs**0.5

        query, key, value = (draw(WIDTH, WIDTH) for _ in range(3))
        return cls(query, key, value, draw(WIDTH, HIDDEN), 2**0.5 * draw(HIDDEN, WIDTH))

    def attention(self, x: Float[Tensor, "n d"]) -> Attention:
        return Attention(x @ self.query, x @ self.key, Dot())

    def mlp(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (x @ self.inner).relu() @ self.outer


def forward(arm: str, block: Block, x: Float[Tensor, "n d"], fixed: Attention) -> Float[Tensor, "n d"]:
    """One layer of the arm. `fixed` is the P that the arm with one P for all layers uses."""
    mixed = (fixed if arm == FIXED else block.attention(x)) @ x @ block.value
    if arm == SKIP:
        return x + mixed
    if arm in (MLP, STEEP_MLP):
        return (STEEP if arm == STEEP_MLP else 1.0) * block.mlp(mixed)
    return mixed


def stack(arm: str, layers: Sequence[Block], x: Float[Tensor, "n d"]) -> list[Float[Tensor, "n d"]]:
    """The tokens before the first layer and after each."""
    tokens, fixed = [x], layers[0].attention(x)
    for block in layers:
        tokens.append(forward(arm, block, tokens[-1], fixed))
    return tokens


def one_block(arm: str, block: Block, x: Float[Tensor, "n d"]) -> np.ndarray:
    """The residual after one block, for each factor by which the tokens are moved to their mean.

    The mean is as large as the tokens are at first.
    """
    mean = x[:1] / 2
    fixed = block.attention(x)
    return np.array([residual(forward(arm, block, mean + (x - x.mean(0)) / factor, fixed)) for factor in CLOSENESS])


def residual(x: Float[Tensor, "n d"]) -> float:
    """‖X − 1x̄ᵀ‖ / ‖X‖ in the Frobenius norm, with the mean token x̄; it is 0 if all tokens are equal."""
    return float((x - x.mean(0)).norm() / x.norm())


def cosines(x: Float[Tensor, "n d"]) -> np.ndarray:
    unit = x / x.norm(dim=-1, keepdim=True)
    return (unit @ unit.mT).abs().numpy()
