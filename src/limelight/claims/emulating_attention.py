"""Emulating attention: a fully connected network can learn what an attention layer does, at a price in data and size.

A comment in an online discussion (thisiszilff) says that "fully-connected layers can emulate similar behavior, but
training them to do that isn't easy". Here the behavior is one attention layer with fixed random weights. Networks of
different sizes, and another attention layer, are trained on examples of its inputs and outputs. The question is not
whether they fail but how much data they need, and how large they must be.

Errors are those of the step with the least error on 1,000 examples that are used for nothing else, so that a network
that begins to memorize is stopped in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from limelight import figures
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.statistics import Interval, median
from limelight.experiment.verdict import Part, Verdict
from limelight.models.attention_layer import AttentionLayer
from limelight.models.mlp import mlp
from limelight.models.training import descend
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

TOKENS, WIDTH = 6, 4
INPUTS = TOKENS * WIDTH
SHARPNESS = 2.0  # standard deviation of the teacher's scores
SIZES = (128, 1024, 8192, 65536)  # numbers of training examples
BATCH, STEPS, TEST, HELD_OUT = 128, 1000, 2000, 1000
EVERY = 50  # steps between two looks at the examples that are held out
ATTENTION, SMALL, LARGE, LINEAR = "attention layer", "network of 64", "network of 256", "linear network"


def _connected(*hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), mlp(INPUTS, *hidden, INPUTS), nn.Unflatten(1, (TOKENS, WIDTH)))


ARMS: dict[str, Callable[[], nn.Module]] = {
    ATTENTION: lambda: AttentionLayer(WIDTH),
    SMALL: lambda: _connected(64, 64),
    LARGE: lambda: _connected(256, 256),
    LINEAR: lambda: _connected(),
}


class EmulatingAttention(TunedClaim):
    """The claim that fully connected networks can do what attention does, but are not easily trained to do it."""

    name = "emulating_attention"
    title = "Fully connected layers can emulate attention, but training them to do that isn't easy"
    question = (
        "A fixed attention layer maps six tokens to six others. How many examples does a fully connected network need to "
        "do the same, and how large must it be? How many does an attention layer need that is trained on the same examples?"
    )
    source = (
        "thisiszilff, a comment in an online discussion on why self-attention and convolutions need less data than "
        "fully connected layers (page and year not known)"
    )
    arms = {
        ATTENTION: "one head of attention: 48 parameters",
        SMALL: "24 inputs, two hidden layers of 64, 24 outputs: 7,320 parameters",
        LARGE: "24 inputs, two hidden layers of 256, 24 outputs: 78,360 parameters",
        LINEAR: "24 inputs, 24 outputs: 600 parameters; the control",
    }
    control = LINEAR
    rates = (0.001, 0.003, 0.01)
    score = f"error at {SIZES[-1]}"
    chosen = {ATTENTION: 0.01, SMALL: 0.003, LARGE: 0.001, LINEAR: 0.003}
    measures = {
        f"error at {size}": Measure(
            f"error on new examples after {size} examples", "of the variance", "lower", failed=float("inf"),
            summary="median",
        )
        for size in SIZES
    }  # fmt: skip

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        teacher = fixed_layer(generator)
        test, held_out, most = (examples(teacher, n, generator) for n in (TEST, HELD_OUT, SIZES[-1]))
        curves = []
        for size in SIZES:
            model = ARMS[arm]()
            curves.append(learning_curve(model, rate, (most[0][:size], most[1][:size]), held_out, test, generator))
        errors = [test_error[held_error.argmin()] for held_error, test_error in curves]
        with torch.no_grad():
            weights = teacher.attention(test[0][:3]).dense().numpy()
        return Measurement(
            values={f"error at {size}": float(error) for size, error in zip(SIZES, errors, strict=True)},
            arrays={
                "errors": np.array(errors),
                "curve": curves[-1][1],
                **{f"weights {i + 1}": matrix for i, matrix in enumerate(weights)},
            },
        )

    def judge(self, results: Results) -> Verdict:
        least, most = f"error at {SIZES[0]}", f"error at {SIZES[-1]}"
        return Verdict.of(
            [
                Part(
                    f"an attention layer trained on {SIZES[0]} examples has an error of at most 1 % of the variance",
                    results.summary(ATTENTION, least), "at most", 0.01, "of the variance",
                ),
                Part(
                    f"a large fully connected network has an error of at most 10 % after {SIZES[-1]:,} examples, so it can do it",
                    results.summary(LARGE, most), "at most", 0.1, "of the variance",
                ),
                Part(
                    f"but with {SIZES[-1] // SIZES[0]} times the examples it is still at least ten times as far off as the attention layer",
                    times_as_far(results, LARGE), "at least", 10.0, "times the error",
                ),
                Part(
                    f"with {SIZES[0]} examples a large network's error is at least half of the variance",
                    results.summary(LARGE, least), "at least", 0.5, "of the variance",
                ),
                Part(
                    "size helps: with most examples the error of the large network is at most half of the small one's",
                    results.ratio(LARGE, SMALL, most), "at most", 0.5, "of its error",
                ),
            ],
            control=Part(
                f"a linear network has an error of at most 10 % after {SIZES[-1]:,} examples",
                results.summary(LINEAR, most), "at most", 0.1, "of the variance",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        few, many = (
            {arm: number(results.summary(arm, f"error at {n}").estimate) for arm in self.arms}
            for n in (SIZES[0], SIZES[-1])
        )
        return (
            f"A fixed attention layer over {TOKENS} tokens is learned from {SIZES[0]} examples by another attention layer to an "
            f"error of {few[ATTENTION]} of the variance, by a large fully connected network to {few[LARGE]}. After "
            f"{SIZES[-1]:,} examples the large network is at {many[LARGE]}, a small one at {many[SMALL]}, and a linear one at "
            f"{many[LINEAR]}: it can be emulated in part, and the last of the error is what costs data and size."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        errors = {arm: results.stack(arm, "errors") for arm in self.arms}
        curves = {arm: results.stack(arm, "curve") for arm in self.arms}
        weights = {f"input {i}": results.array(ATTENTION, f"weights {i}", seed) for i in range(1, 4)}
        return [
            Picture(
                "Error on new examples by the number of training examples: the median over seeds, and the middle half.",
                figures.curves(errors, SIZES, "training examples", "error, of the variance", log=True, log_x=True),
            ),
            Picture(
                f"Error on new examples by step, with {SIZES[-1]:,} training examples.",
                figures.curves(curves, EVERY, "step", "error, of the variance", log=True),
            ),
            Picture(
                f"What has to be emulated: the weights of the fixed layer of seed {seed} for three inputs, one row a token.",
                *figures.matrices(weights, "token", "token that asks", "weight"),
            ),
            Picture(
                "A dot for each seed, and the median with its interval.",
                *comparison(results, list(self.measures), log=True),
            ),
        ]


Examples = tuple[Tensor, Tensor]


def fixed_layer(generator: torch.Generator) -> AttentionLayer:
    """An attention layer with random weights, whose scores have the standard deviation `SHARPNESS`."""
    teacher = AttentionLayer(WIDTH, scale=SHARPNESS / WIDTH**0.5)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / WIDTH**0.5)
    return teacher.requires_grad_(False)


def examples(teacher: AttentionLayer, n: int, generator: torch.Generator) -> Examples:
    """n random inputs (n, tokens, width), and the teacher's outputs for them."""
    x = torch.randn(n, TOKENS, WIDTH, generator=generator)
    return x, teacher(x)


def learning_curve(
    model: nn.Module, rate: float, given: Examples, held_out: Examples, test: Examples, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The errors on the examples held out and on those of the test, before training and after every `EVERY` steps."""
    x, y = given

    def loss() -> Tensor:
        batch = torch.randint(len(x), (BATCH,), generator=generator)
        return (model(x[batch]) - y[batch]).square().mean()

    found = [(error(model, held_out), error(model, test))]
    for step, _ in enumerate(descend(model, loss, STEPS, rate), start=1):
        if step % EVERY == 0:
            found.append((error(model, held_out), error(model, test)))
    held, tested = np.array(found).T
    return held, tested


@torch.no_grad()
def error(model: nn.Module, on: Examples) -> float:
    """The mean squared error divided by the variance of the outputs."""
    x, y = on
    return float((model(x) - y).square().mean() / y.var())


def times_as_far(results: Results, arm: str) -> Interval:
    """The arm's error with most examples divided by that of the attention layer with fewest, for each seed."""
    seeds = results.seeds(arm, ATTENTION)
    far = results.values(arm, f"error at {SIZES[-1]}", seeds) / results.values(ATTENTION, f"error at {SIZES[0]}", seeds)
    return median(far)
