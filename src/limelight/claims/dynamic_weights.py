"""Dynamic weights: a fully connected layer has the same weights for every sample, attention new ones for each.

The lesson "Attention: General Deep Learning Idea" (Educative) compares the two: both combine all inputs, and
they differ in how they assign importance. Here the input that matters changes from sample to sample. Whether an
input that an arm calls important does matter is tested by removing that input.

With a low learning rate a single head often finds a poorer solution that explains a third of the variance: it selects
tokens that have a high priority and a high value. So attention has two heads here, attention with one head is another
arm, and every arm has the best of the learning rates that all of them tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight import figures
from limelight.data.argmax_retrieval import TOKENS, argmax_retrieval
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.attention_pooling import AttentionPooling
from limelight.models.mlp import mlp
from limelight.models.training import descend
from limelight.report.comparison import comparison

BATCH, STEPS, TEST = 128, 800, 2000
EVERY = 10  # steps between two points of a curve
ATTENTION, ONE_HEAD, LAYER = "attention", "attention, one head", "fully connected layer"
NETWORK, UNIFORM = "relu network", "uniform attention"

ARMS: dict[str, Callable[[], nn.Module]] = {
    ATTENTION: lambda: AttentionPooling(inputs=2, width=8, heads=2),
    ONE_HEAD: lambda: AttentionPooling(inputs=2, width=8, heads=1),
    LAYER: lambda: nn.Sequential(nn.Flatten(), mlp(2 * TOKENS, 1), nn.Flatten(0)),
    NETWORK: lambda: nn.Sequential(nn.Flatten(), mlp(2 * TOKENS, 128, 128, 1), nn.Flatten(0)),
    UNIFORM: lambda: AttentionPooling(inputs=2, width=8, heads=2, content_based=False),
}


class DynamicWeights(TunedClaim):
    """The claim that attention's weights depend on the sample, and those of a fully connected layer do not."""

    name = "dynamic_weights"
    title = "A fully connected layer's weights are the same for every input; attention's are not"
    question = (
        "Of eight tokens the one with the highest priority gives the answer: another one each time. Can a fully "
        "connected layer, whose weights are fixed, follow? Is what attention's weights call important what really "
        "changes the answer when it is taken away? And is a fully connected network of several layers as blind as one?"
    )
    source = (
        "Attention: General Deep Learning Idea, a lesson of the course Transformers for Computer Vision Applications "
        "(Educative; author and year not known)"
    )
    arms = {
        ATTENTION: "two heads, each a learned query over eight tokens: 70 parameters; influence = attention weight",
        ONE_HEAD: "the same with one head: 35 parameters",
        LAYER: "one linear layer over all 16 numbers: 17 parameters; influence = |weight|",
        NETWORK: "a ReLU network, two hidden layers of 128: 18,817 parameters; influence = |gradient|",
        UNIFORM: "attention whose query is zero, so that it weighs all tokens alike: the control",
    }
    control = UNIFORM
    rates = (0.01, 0.03, 0.1)
    score = "explained"
    chosen = {ATTENTION: 0.1, ONE_HEAD: 0.03, LAYER: 0.01, NETWORK: 0.01, UNIFORM: 0.01}
    measures = {
        "explained": Measure("variance of the answer explained", "R²", "higher", failed=0.0, summary="median"),
        "agreement": Measure(
            "samples where the input called most influential is the one whose absence changes the output most",
            "share", "higher", failed=0.0, summary="median",
        ),
        "change": Measure(
            "how much the influence of an input changes from sample to sample",
            "standard deviation / mean", "neither", failed=0.0, summary="median",
        ),
    }  # fmt: skip

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        test, target, which = argmax_retrieval(TEST, generator)
        model = ARMS[arm]()

        def loss() -> Tensor:
            tokens, wanted, _ = argmax_retrieval(BATCH, generator)
            return (model(tokens) - wanted).square().mean()

        losses = list(descend(model, loss, STEPS, rate))
        influence, effect = influence_of(model, test), ablation(model, test)
        with torch.no_grad():
            explained = 1 - (model(test) - target).square().mean() / target.var()
        agree = influence.argmax(-1) == effect.argmax(-1)
        return Measurement(
            values={
                "explained": float(explained),
                "agreement": float(agree.float().mean()),
                "change": float((influence.std(0) / influence.mean(0)).mean()),
            },
            arrays={
                "loss": np.array(losses)[::EVERY],
                "influence": share(influence[:12]),
                "ablation": share(effect[:12]),
                "which": which[:12].numpy(),
            },
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "attention explains at least half of the variance that a fully connected layer leaves",
                    results.difference(ATTENTION, LAYER, "explained"), "at least", 0.5, "R²",
                ),
                Part(
                    "attention's weight falls, in at least 90 % of samples, on the input whose absence changes the output most",
                    results.summary(ATTENTION, "agreement"), "at least", 0.9, "share of samples",
                ),
                Part(
                    "a fully connected layer's weights do so in less than half of all samples",
                    results.summary(LAYER, "agreement"), "at most", 0.5, "share of samples",
                ),
                Part(
                    "attention learns it, which is to explain at least half of the variance, in at least 60% of runs",
                    results.share(ATTENTION, "explained", "at least", 0.5), "at least", 0.6, "of runs",
                ),
                Part(
                    "a single head learns it as well as two, to 0.05 of R²",
                    results.difference(ONE_HEAD, ATTENTION, "explained"), "at least", -0.05, "R²",
                ),
                Part(
                    "a fully connected network with hidden layers is as blind: its influences agree with ablation at "
                    "least 0.2 less often than attention's",
                    results.difference(ATTENTION, NETWORK, "agreement"), "at least", 0.2, "share of samples",
                ),
            ],
            control=Part(
                "attention that weighs all tokens alike explains half of the variance more than a fully connected layer",
                results.difference(UNIFORM, LAYER, "explained"), "at least", 0.5, "R²",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        explained, agreement = (
            {arm: f"{results.summary(arm, name).estimate:.0%}" for arm in self.arms}
            for name in ("explained", "agreement")
        )
        return (
            f"Where another input matters in each sample, attention explains {explained[ATTENTION]} of the answer's variance, "
            f"and its weight falls on the input that matters in {agreement[ATTENTION]} of samples; a fully connected layer "
            f"explains {explained[LAYER]}, and its weights point to that input in {agreement[LAYER]}. A fully connected network "
            f"of several layers is not blind: it explains {explained[NETWORK]}, and its gradient points to that input in "
            f"{agreement[NETWORK]}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        says = {f"{arm}: says": results.array(arm, "influence", seed) for arm in self.arms}
        does = {f"{arm}: does": results.array(arm, "ablation", seed) for arm in self.arms}
        losses = {arm: results.stack(arm, "loss") for arm in self.arms}
        return [
            Picture(
                f"Twelve samples of seed {seed}, one a row. What each arm says matters: the influence that it assigns "
                "to each token, as a share.",
                *figures.matrices(says, "token", "sample", "share"),
            ),
            Picture(
                "The same samples. What does matter: how much the output changes when a token's value is taken away.",
                *figures.matrices(does, "token", "sample", "share"),
            ),
            Picture(
                "A dot for each seed, and the median with its interval.",
                *comparison(results, ["explained", "agreement", "change"]),
            ),
            Picture(
                "Training error by step: the median over seeds, and the middle half of them.",
                figures.curves(losses, EVERY, "step", "squared error", log=True),
            ),
        ]


def influence_of(model: nn.Module, tokens: Float[Tensor, "n tokens 2"]) -> Float[Tensor, "n tokens"]:
    """The importance that a model assigns to each input.

    For attention: its weights, averaged over heads. For other models: the size of the output's derivative with respect
    to each value.

    For a linear layer that derivative is its weight, the same for every sample.
    """
    if isinstance(model, AttentionPooling):
        with torch.no_grad():
            return model.attention(tokens).dense()[:, :, 0].mean(1)
    values = tokens.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(values).sum(), values)
    return gradient[..., 1].abs()


@torch.no_grad()
def ablation(model: nn.Module, tokens: Float[Tensor, "n tokens 2"]) -> Float[Tensor, "n tokens"]:
    """The measured importance of each token: the change of the output when its value is set to the mean value, zero."""
    before, changes = model(tokens), []
    for token in range(TOKENS):
        without = tokens.clone()
        without[:, token, 1] = 0
        changes.append((model(without) - before).abs())
    return torch.stack(changes, -1)


def share(rows: Float[Tensor, "n tokens"]) -> np.ndarray:
    """Each row divided by its sum."""
    return (rows / rows.sum(-1, keepdim=True).clamp(min=1e-12)).numpy()
