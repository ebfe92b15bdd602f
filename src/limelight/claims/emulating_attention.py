"""Emulating attention: a fully connected network can learn what an attention layer does, at a price that grows.

A comment in an online discussion (thisiszilff) says that "fully-connected layers can emulate similar behavior, but
training them to do that isn't easy". Here the behavior is that of one attention layer, the teacher: each token asks with
one number, answers to another, and holds a third, its value. Students see the teacher's inputs and outputs alone. The
question is not whether a fully connected network fails, but how many examples it needs, how large it must be, and what
becomes of both when there are more tokens.

An attention layer knows beforehand that all tokens are treated alike, that scores are products of two tokens, and that
weights sum to one. One arm gives a fully connected network the products, to see whether they are what it lacks.

Each student is that of the step with the least error on 1,000 examples that are used for nothing else, so that one
that begins to memorize is stopped in time. This serves the fully connected networks most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight import figures
from limelight.data.soft_lookup import NUMBERS, lookup_attention, soft_lookup
from limelight.errors import DivergenceError
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.statistics import Interval, median
from limelight.experiment.verdict import Part, Verdict
from limelight.models.side_by_side import descend_side_by_side
from limelight.models.stacked import StackedAttention, StackedMLP
from limelight.report.comparison import comparison

TOKENS = (2, 4, 8)
SETS = (16, 128, 1024, 8192)  # training examples of the students, one student for each set
BATCH, STEPS, TEST, HELD_OUT = 128, 1500, 2000, 1000
FRESH = BATCH * STEPS  # examples of one more student, which never sees one twice
EXAMPLES = (*SETS, FRESH)
EVERY = 50  # steps between two looks at the examples that are held out
WIDTH, NARROW, WIDE = 8, 32, 128  # of the attention layer's queries and keys, and of hidden layers
GOAL = 0.9  # of the variance
MOST = TOKENS[-1]
ATTENTION, SMALL, LARGE = "attention layer", "network of 32", "network of 128"
PRODUCTS, LINEAR = "network with products", "linear network"


class Student(nn.Module):
    """r fully connected networks side by side, from all numbers of all tokens to all outputs.

    With `products` they are given the products q_i k_j of all pairs of tokens, too: the teacher's scores.
    """

    def __init__(self, networks: int, tokens: int, hidden: Sequence[int], products: bool = False) -> None:
        super().__init__()
        inputs = NUMBERS * tokens + products * tokens**2
        self.network, self.products = StackedMLP(networks, inputs, *hidden, tokens), products

    def forward(self, x: Float[Tensor, "r n tokens 3"]) -> Float[Tensor, "r n tokens"]:
        given = x.flatten(2)
        if self.products:
            given = torch.cat([given, (x[..., :1] * x[..., None, :, 1]).flatten(2)], -1)
        return self.network(given)


class AttentionStudent(nn.Module):
    """r attention layers side by side, each with one number for each token as its output."""

    def __init__(self, networks: int) -> None:
        super().__init__()
        self.layer = StackedAttention(networks, NUMBERS, WIDTH, outputs=1)

    def forward(self, x: Float[Tensor, "r n tokens 3"]) -> Float[Tensor, "r n tokens"]:
        return self.layer(x)[..., 0]


# For each arm, r networks for so many tokens.
ARMS: dict[str, Callable[[int, int], nn.Module]] = {
    ATTENTION: lambda r, tokens: AttentionStudent(r),
    SMALL: lambda r, tokens: Student(r, tokens, (NARROW, NARROW)),
    LARGE: lambda r, tokens: Student(r, tokens, (WIDE, WIDE)),
    PRODUCTS: lambda r, tokens: Student(r, tokens, (WIDE, WIDE), products=True),
    LINEAR: lambda r, tokens: Student(r, tokens, ()),
}


def explained(tokens: int, examples: int) -> str:
    """The name of the measure: the share of variance that is explained after so many examples."""
    return f"{tokens} tokens, {examples} examples"


class EmulatingAttention(TunedClaim):
    """The claim that fully connected networks can do what attention does, but are not easily trained to do it."""

    name = "emulating_attention"
    title = "Fully connected layers can emulate attention, but training them to do that isn't easy"
    question = (
        "An attention layer lets each of two, four or eight tokens look up a value among all of them. How many examples of "
        "its inputs and outputs does a fully connected network need to do the same, and how large must it be? How many "
        "does another attention layer need? And does it help to be given the products of queries and keys?"
    )
    source = (
        "thisiszilff, a comment in an online discussion on why self-attention and convolutions need less data than "
        "fully connected layers (page and year not known)"
    )
    arms = {
        ATTENTION: "one head, with queries and keys of width 8: 51 parameters",
        SMALL: "two hidden layers of 32: 1,346, 1,604 and 2,120 parameters for 2, 4 and 8 tokens",
        LARGE: "two hidden layers of 128: 17,666, 18,692 and 20,744 parameters",
        PRODUCTS: "the same, and all products of queries and keys are inputs, too: 18,178, 20,740 and 28,936 parameters",
        LINEAR: "no hidden layer: 14, 52 and 200 parameters; the control",
    }
    control = LINEAR
    rates = (0.001, 0.003, 0.01, 0.03)
    score = "mean"
    chosen = {ATTENTION: 0.01, SMALL: 0.003, LARGE: 0.001, PRODUCTS: 0.001, LINEAR: 0.001}
    measures = {
        **{
            explained(tokens, examples): Measure(
                f"variance explained, {tokens} tokens, {examples:,} examples", "R²", "higher", failed=0.0, summary="median",
            )
            for tokens in TOKENS
            for examples in EXAMPLES
        },
        "mean": Measure(
            f"variance explained, {MOST} tokens, mean over all numbers of examples", "R²", "higher", failed=0.0,
            summary="median",
        ),
    }  # fmt: skip

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        return self._measured(arm, rate, seed, (MOST,))

    def measure(self, arm: str, seed: int) -> Measurement:
        return self._measured(arm, self.chosen[arm], seed, TOKENS)

    def _measured(self, arm: str, rate: float, seed: int, all_tokens: Sequence[int]) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        values: dict[str, float]
        arrays: dict[str, np.ndarray]
        values, arrays = {}, {}
        for tokens in all_tokens:
            held, tested = learning_curves(ARMS[arm](len(EXAMPLES), tokens), rate, tokens, generator)
            best = tested[held.argmax(0), np.arange(len(EXAMPLES))]
            values |= {explained(tokens, n): float(found) for n, found in zip(EXAMPLES, best, strict=True)}
            arrays |= {f"explained {tokens}": best, f"curve {tokens}": tested[1:, -1]}
        values["mean"] = float(best.mean())
        x, _ = soft_lookup(3, MOST, generator)
        weights = lookup_attention(x).dense().numpy()
        return Measurement(values, arrays | {f"weights {i}": each for i, each in enumerate(weights, start=1)})

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    f"an attention layer explains {GOAL:.0%} of the variance for eight tokens after {SETS[1]} examples",
                    results.summary(ATTENTION, explained(8, SETS[1])), "at least", GOAL, "R²",
                ),
                Part(
                    f"a large fully connected network can emulate two tokens: it explains 98% after {FRESH:,} examples",
                    results.summary(LARGE, explained(2, FRESH)), "at least", 0.98, "R²",
                ),
                Part(
                    f"it can emulate four tokens: it explains {GOAL:.0%} after {FRESH:,} examples",
                    results.summary(LARGE, explained(4, FRESH)), "at least", GOAL, "R²",
                ),
                Part(
                    f"for {GOAL:.0%} with four tokens it needs at least a hundred times as many examples as an attention layer",
                    times_as_many(examples_needed(results, LARGE, 4), examples_needed(results, ATTENTION, 4)),
                    "at least", 100.0, "times the examples",
                ),
                Part(
                    "and with four tokens at least four times as many as with two",
                    times_as_many(examples_needed(results, LARGE, 4), examples_needed(results, LARGE, 2)),
                    "at least", 4.0, "times the examples",
                ),
                Part(
                    f"with eight tokens {FRESH:,} examples are not enough for {GOAL:.0%}",
                    results.summary(LARGE, explained(8, FRESH)), "at most", GOAL, "R²",
                ),
                Part(
                    "size helps: with four tokens the small network needs at least twice as many examples as the large one",
                    times_as_many(examples_needed(results, SMALL, 4), examples_needed(results, LARGE, 4)),
                    "at least", 2.0, "times the examples",
                ),
                Part(
                    "products are what it lacks: given them, it needs at most half of the examples with four tokens",
                    times_as_many(examples_needed(results, PRODUCTS, 4), examples_needed(results, LARGE, 4)),
                    "at most", 0.5, "times the examples",
                ),
            ],
            control=Part(
                f"a linear network explains {GOAL:.0%} for two tokens after {FRESH:,} examples",
                results.summary(LINEAR, explained(2, FRESH)), "at least", GOAL, "R²",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def needs(arm: str, tokens: int) -> str:
            return in_words(median(examples_needed(results, arm, tokens)).estimate)

        most = {arm: f"{results.summary(arm, explained(MOST, FRESH)).estimate:.0%}" for arm in self.arms}
        return (
            f"To explain {GOAL:.0%} of what an attention layer does, a fully connected network of 18,000 to 21,000 parameters "
            f"needs {needs(LARGE, 2)} examples for two tokens, {needs(LARGE, 4)} for four, and {needs(LARGE, 8)} for eight; an "
            f"attention layer of 51 parameters needs {needs(ATTENTION, 2)}, {needs(ATTENTION, 4)} and {needs(ATTENTION, 8)}. "
            f"With eight tokens and {FRESH:,} examples the network explains {most[LARGE]}, one of a tenth of the parameters "
            f"{most[SMALL]}, one that is given all products of queries and keys {most[PRODUCTS]}, and a linear one "
            f"{most[LINEAR]}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        def stacks(name: str) -> dict[str, np.ndarray]:
            return {arm: results.stack(arm, name) for arm in self.arms}

        seed = results.seeds()[0]
        weights = {f"input {i}": results.array(ATTENTION, f"weights {i}", seed) for i in range(1, 4)}
        steps = np.arange(EVERY, STEPS + 1, EVERY).tolist()
        return [
            Picture(
                "Variance explained on new examples by the number of training examples, for two, four and eight tokens: the "
                f"median over seeds, and the middle half of them. Below {FRESH:,} the examples are shown again and again.",
                *(
                    figures.curves(
                        stacks(f"explained {tokens}"), EXAMPLES, f"training examples, {tokens} tokens", "R²", log_x=True
                    )
                    for tokens in TOKENS
                ),
            ),
            Picture(
                f"Variance explained by step, where every batch of {BATCH} examples is new. The more tokens, the longer a fully "
                "connected network stays where a linear one ends, before it begins to tell tokens apart.",
                *(
                    figures.curves(stacks(f"curve {tokens}"), steps, f"step, {tokens} tokens", "R²")
                    for tokens in TOKENS
                ),
            ),
            Picture(
                f"What has to be emulated: the teacher's weights for three inputs of seed {seed}. Each row is a token that looks "
                "up a value; they differ from input to input.",
                *figures.matrices(weights, "token", "token that asks", "weight"),
            ),
            Picture(
                f"A dot for each seed, and the median with its interval: after {FRESH:,} examples.",
                *comparison(results, [explained(tokens, FRESH) for tokens in TOKENS]),
            ),
        ]  # fmt: skip


def learning_curves(
    networks: nn.Module, rate: float, tokens: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The variance explained on examples that are held out, and on those of the test, each as (looks, networks).

    The networks are trained side by side. The first has the smallest of `SETS`, each other one a larger set that
    contains it, and the last has new examples at every step.
    """
    test, held_out, (x, y) = (soft_lookup(n, tokens, generator) for n in (TEST, HELD_OUT, SETS[-1]))
    sizes = torch.tensor(SETS)[:, None]

    def losses() -> Float[Tensor, " r"]:
        chosen = (torch.rand(len(SETS), BATCH, generator=generator, dtype=torch.float64) * sizes).long()
        new_x, new_y = soft_lookup(BATCH, tokens, generator)
        given, wanted = torch.cat([x[chosen], new_x[None]]), torch.cat([y[chosen], new_y[None]])
        return (networks(given) - wanted).square().mean((1, 2))

    looks = [(variance_explained(networks, *held_out), variance_explained(networks, *test))]
    for step, loss in enumerate(descend_side_by_side(networks, losses, STEPS, rate), start=1):
        if not bool(loss.isfinite().all()):
            raise DivergenceError(f"the loss of a network became NaN or infinite at step {step}")
        if step % EVERY == 0:
            looks.append((variance_explained(networks, *held_out), variance_explained(networks, *test)))
    held, tested = np.moveaxis(np.array(looks), 1, 0)
    return held, tested


@torch.no_grad()
def variance_explained(networks: nn.Module, x: Float[Tensor, "n tokens 3"], y: Float[Tensor, "n tokens"]) -> np.ndarray:
    """1 − the mean squared error / the variance of the outputs, for each network."""
    errors = (networks(x.expand(len(EXAMPLES), -1, -1, -1)) - y).square().mean((1, 2))
    return (1 - errors / y.var()).numpy()


def examples_needed(results: Results, arm: str, tokens: int) -> np.ndarray:
    """For each seed, after how many examples the goal is reached; ∞ where even `FRESH` are not enough.

    Between two numbers of examples it is interpolated along the logarithm. Where the least number is enough it is that
    number, although fewer might be enough, too.
    """
    seeds = results.seeds(arm)
    table = np.array([results.values(arm, explained(tokens, n), seeds) for n in EXAMPLES]).T
    return np.array([crossing(np.maximum.accumulate(curve)) for curve in table])


def crossing(curve: np.ndarray) -> float:
    """Where a curve over `EXAMPLES` that does not fall reaches the goal; ∞ if it does not."""
    if curve[-1] < GOAL:
        return float("inf")
    first = int(np.argmax(curve >= GOAL))
    if first == 0:
        return float(EXAMPLES[0])
    part = (GOAL - curve[first - 1]) / (curve[first] - curve[first - 1])
    return float(np.exp(np.interp(part, [0, 1], np.log(EXAMPLES[first - 1 : first + 1]))))


def times_as_many(first: np.ndarray, second: np.ndarray) -> Interval:
    """first / second for each seed, as a median; 1 where neither has reached the goal."""
    with np.errstate(invalid="ignore"):
        return median(np.nan_to_num(first / second, nan=1.0, posinf=np.inf))


def in_words(examples: float) -> str:
    """A number of examples as far as it is known: "at most 16", "about 5,600" or "more than 256,000"."""
    if examples == EXAMPLES[0]:
        return f"at most {EXAMPLES[0]}"
    return f"more than {FRESH:,}" if np.isinf(examples) else f"about {float(f'{examples:.2g}'):,.0f}"
