"""Explaining away: in softmax attention a key can lose all its weight; doubly-normalized attention leaves each some.

Ding et al. (2009.14308) call it explaining away when many similar tokens take the weight of a token that is unlike
them. In softmax attention the total weight Σ_i P_ij of a key has no bound from below but zero. Doubly-normalized
attention divides by column sums before it divides by row sums, and with n queries and n keys no key's total weight is
less than 1/n. They report that this helps models to learn, and that a learned mixture of both, the hybrid, helps most.

Here a set of tokens is alike but for one, and its class has to be found. The outputs of self-attention are averaged
before they are classified, so that a key's total weight is its share in what the classifier sees. There is no residual
connection, which would carry every token past the attention.

Slot attention (Locatello et al., 2006.15055) normalizes over slots first, then over inputs. This is the same operator,
with the slots as queries, and is checked here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limelight import figures
from limelight.attention import Attention
from limelight.data.odd_token import CLASSES, WIDTH, odd_token, prototypes
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.mlp import mlp
from limelight.models.training import descend
from limelight.normalization import Hybrid, Normalization, Softmax
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

TOKENS, BATCH, STEPS, TEST = 32, 64, 500, 1000
VALUES, HIDDEN = 32, 64  # widths of a token's value and of the classifier's hidden layer
EVERY = 10  # steps between two points of a curve
LEARNED = 0.75  # the share of sets that a run has to classify rightly; a guess is right in one of seven
ROUNDING = 1e-4  # of the bound 1/n, in single precision
SOFTMAX, DOUBLY, HYBRID, UNIFORM = "softmax", "doubly-normalized", "hybrid", "uniform"

ARMS: dict[str, Callable[[], Normalization]] = {
    SOFTMAX: Softmax,
    DOUBLY: lambda: Softmax(alpha=1.0),
    HYBRID: Hybrid,
    UNIFORM: Softmax,
}


class OddTokenClassifier(nn.Module):
    """Self-attention over tokens, the mean of its outputs, and a network of one hidden layer that classifies it.

    With `content_based=False` all scores are zero, so that every token has the same weight.
    """

    def __init__(self, normalization: Normalization, content_based: bool = True) -> None:
        super().__init__()
        self.query, self.key = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.value = nn.Linear(WIDTH, VALUES)
        self.normalization, self.scale = normalization, 1.0 if content_based else 0.0
        self.classifier = mlp(VALUES, HIDDEN, CLASSES)

    def attention(self, tokens: Float[Tensor, "n tokens width"]) -> Attention:
        query, key = self.query(tokens), self.key(tokens)
        return Attention(query, key, normalization=self.normalization, scale=self.scale)

    def forward(self, tokens: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n classes"]:
        pooled = (self.attention(tokens) @ self.value(tokens)).mean(-2)
        return self.classifier(pooled)


class ExplainingAway(TunedClaim):
    """The claim that doubly-normalized attention keeps tokens that softmax attention explains away."""

    name = "explaining_away"
    title = "Softmax attention explains a token away where many others are alike; doubly-normalized attention does not"
    question = (
        "Of 32 tokens all but one are alike, and the class of the one that differs has to be found. Does softmax "
        "attention, in which a key can lose all its weight, lose sight of that token while it learns? Does "
        "doubly-normalized attention, in which no key's total weight can fall below 1/32, find it more often? And the "
        "hybrid, which mixes both in proportions that it learns?"
    )
    source = "Ding, Chen, Li, Goodman, Levinboim & Soricut 2020, Attention that does not explain away, 2009.14308"
    arms = {
        SOFTMAX: "rows sum to one",
        DOUBLY: "columns are divided by their sums, then rows by theirs: α = 1",
        HYBRID: "a mixture of both, whose proportions are learned",
        UNIFORM: "every token has the same weight: the control",
    }
    control = UNIFORM
    rates = (0.003, 0.01, 0.03, 0.1)
    score = "accuracy"
    chosen = {SOFTMAX: 0.03, DOUBLY: 0.01, HYBRID: 0.03, UNIFORM: 0.003}
    measures = {
        "accuracy": Measure("sets whose odd token is classified rightly", "share", "higher", failed=0.0, summary="median"),
        "least": Measure(
            "least total weight of any key while training", "times 1/n", "neither", failed=0.0, summary="median"
        ),
        "bound": Measure(
            "how far the least total weight is below 1/n", "times 1/n", "neither", failed=1.0, summary="exact"
        ),
        "odd": Measure("total weight of the odd token after training", "rows", "neither", failed=0.0, summary="median"),
        "slots": Measure(
            "largest difference between slot attention's weights and those of α = 1", "weight", "neither", failed=1.0,
            summary="exact",
        ),
    }  # fmt: skip

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        centers = prototypes(generator)
        model = OddTokenClassifier(ARMS[arm](), content_based=arm != UNIFORM)
        losses, least = [], []

        def loss() -> Tensor:
            tokens, target, _ = odd_token(BATCH, TOKENS, centers, generator)
            least.append(least_weight(model, tokens))
            return F.cross_entropy(model(tokens), target)

        losses = list(descend(model, loss, STEPS, rate))
        tokens, target, which = odd_token(TEST, TOKENS, centers, generator)
        with torch.no_grad():
            right = model(tokens).argmax(-1) == target
            odd = model.attention(tokens).column_mass().gather(1, which[:, None])
        smallest = TOKENS * min(least)
        return Measurement(
            values={
                "accuracy": float(right.float().mean()),
                "least": smallest,
                "bound": max(1 - smallest, 0.0) if arm == DOUBLY else 0.0,
                "odd": float(odd.median()),
                "slots": slot_difference(generator),
            },
            arrays={"loss": np.array(losses)[::EVERY], "least": TOKENS * np.array(least)[::EVERY]},
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                *(
                    Part(
                        f"{arm} attention learns it, which is to classify {LEARNED:.0%} of sets rightly, in at least 80% of runs",
                        results.share(arm, "accuracy", "at least", LEARNED), "at least", 0.8, "of runs",
                    )
                    for arm in (DOUBLY, HYBRID)
                ),
                Part(
                    "softmax attention learns it in at most 80% of runs",
                    results.share(SOFTMAX, "accuracy", "at least", LEARNED), "at most", 0.8, "of runs",
                ),
                Part(
                    "while softmax learns, some key's total weight falls below a hundredth of 1/n",
                    results.summary(SOFTMAX, "least"), "at most", 0.01, "times 1/n",
                ),
                Part(
                    "in doubly-normalized attention no key's total weight is ever below 1/n",
                    results.summary(DOUBLY, "bound"), "at most", ROUNDING, "times 1/n",
                ),
                Part(
                    "slot attention's weights are those of doubly-normalized attention with slots as queries",
                    results.summary(DOUBLY, "slots"), "at most", 1e-14, "weight",
                ),
            ],
            control=Part(
                "uniform attention learns it in at least 80% of runs",
                results.share(UNIFORM, "accuracy", "at least", LEARNED), "at least", 0.8, "of runs",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        learned = {arm: f"{results.share(arm, 'accuracy', 'at least', LEARNED).estimate:.0%}" for arm in self.arms}
        right = {arm: f"{self._of_runs_that_learn(results, arm):.0%}" for arm in (SOFTMAX, DOUBLY)}
        least = {arm: number(results.summary(arm, "least").estimate) for arm in (SOFTMAX, DOUBLY)}
        return (
            f"Of 32 tokens all but one are alike: doubly-normalized attention learns to find the class of the odd one in "
            f"{learned[DOUBLY]} of runs, softmax in {learned[SOFTMAX]}, and a learned mixture of both in {learned[HYBRID]}; but in "
            f"the runs that learn it softmax is right in {right[SOFTMAX]} of sets, and doubly-normalized attention in "
            f"{right[DOUBLY]}. While they learn, a key's total weight falls to {least[SOFTMAX]} times 1/32 with softmax, and "
            f"to {least[DOUBLY]} times 1/32 if doubly normalized."
        )

    def _of_runs_that_learn(self, results: Results, arm: str) -> float:
        """The median accuracy over the runs that learn it; NaN if none does."""
        found = np.asarray(results.values(arm, "accuracy"))
        return float(np.median(found[found >= LEARNED])) if (found >= LEARNED).any() else float("nan")

    def figures(self, results: Results) -> Sequence[Picture]:
        losses = {arm: results.stack(arm, "loss") for arm in self.arms}
        least = {arm: results.stack(arm, "least") for arm in self.arms}
        return [
            Picture(
                "How often each arm finds the odd token, and the least total weight of a key. A dot for each seed: many runs of "
                "softmax and of the hybrid find it almost always, and others hardly ever.",
                *comparison(results, ["accuracy"]),
                *comparison(results, ["least"], log=True),
            ),
            Picture(
                "The least total weight of a key in each batch, in units of 1/n, by step: the median over seeds, and the "
                "middle half of them. Doubly-normalized attention cannot fall below 1.",
                figures.curves(least, EVERY, "step", "least total weight · n", log=True),
            ),
            Picture(
                "Training loss by step: the median over seeds, and the middle half of them.",
                figures.curves(losses, EVERY, "step", "cross-entropy"),
            ),
        ]


@torch.no_grad()
def least_weight(model: OddTokenClassifier, tokens: Float[Tensor, "n tokens width"]) -> float:
    """The least total weight Σ_i P_ij that any key of these sets gets."""
    return float(model.attention(tokens).column_mass().min())


def slot_difference(generator: torch.Generator, slots: int = 5, inputs: int = 20) -> float:
    """The largest difference between slot attention's weights and those of `Softmax(alpha=1)`, with random vectors.

    Slot attention takes a softmax over the slots, and divides each slot's row by its sum.
    """
    q = torch.randn(slots, WIDTH, generator=generator, dtype=torch.float64)
    k = torch.randn(inputs, WIDTH, generator=generator, dtype=torch.float64)
    shares = torch.softmax(q @ k.mT / WIDTH**0.5, dim=0)
    weights = shares / shares.sum(-1, keepdim=True)
    return float((weights - Attention(q, k, normalization=Softmax(alpha=1.0)).dense()).abs().max())
