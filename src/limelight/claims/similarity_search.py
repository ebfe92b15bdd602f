"""Similarity search: attention fetches the value of the matching key, among keys never seen in training.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) calls attention a similarity search by the
cosine between query and key, and says that a fully connected network can find any relation but might
memorize. Here a query must fetch the value of its key from a table, with keys from the training
pool and with newly drawn keys. Attention in practice uses the dot product, not the cosine, so that
the lengths of keys have an effect, which is measured too.

Every arm has the best of the learning rates that all arms tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from limelight import figures
from limelight.data.key_value_tables import BITS, ENTRIES, WIDTH, Tables, key_pool, tables
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.key_value_retrieval import KeyValueRetrieval
from limelight.models.mlp import mlp
from limelight.models.training import descend
from limelight.report.comparison import comparison
from limelight.similarity import Cosine, Dot

POOL, BATCH, STEPS, TEST = 64, 128, 400, 2000
EVERY = 5  # steps between two points of a curve
STRETCH = 0.5  # standard deviation of the logarithm of the key lengths in the arms where lengths vary
DOT, COSINE, NETWORK, UNIFORM = "dot", "cosine", "fully connected", "uniform attention"
DOT_VARIED, COSINE_VARIED = "dot, lengths vary", "cosine, lengths vary"


class FullyConnected(nn.Module):
    """A fully connected network whose inputs are the query and the whole table, and whose output is the value."""

    def __init__(self) -> None:
        super().__init__()
        self.network = mlp(WIDTH + ENTRIES * (WIDTH + BITS), 128, 128, BITS)

    def forward(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return self.network(torch.cat([query, keys.flatten(1), values.flatten(1)], 1))


class Uniform(nn.Module):
    """The mean of all values times a learned factor, which does not depend on the query."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return self.factor * values.mean(1)


# For each arm: its model, and how much key lengths vary, in training and in the test.
ARMS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    DOT: (lambda: KeyValueRetrieval(WIDTH, Dot()), 0.0),
    COSINE: (lambda: KeyValueRetrieval(WIDTH, Cosine()), 0.0),
    NETWORK: (FullyConnected, 0.0),
    DOT_VARIED: (lambda: KeyValueRetrieval(WIDTH, Dot()), STRETCH),
    COSINE_VARIED: (lambda: KeyValueRetrieval(WIDTH, Cosine()), STRETCH),
    UNIFORM: (Uniform, 0.0),
}


class SimilaritySearch(TunedClaim):
    """The claim that attention fetches values by keys that were not seen in training."""

    name = "similarity_search"
    title = "Attention is a similarity search that works for keys never seen; a fully connected network's is not"
    question = (
        "A table of sixteen keys with a value each, and a query that is one of the keys, blurred: fetch its value. "
        "Does what was learned on one pool of keys serve for others? And attention in practice compares by dot product: "
        "what is lost against the cosine when keys have different lengths?"
    )
    source = "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known)"
    arms = {
        DOT: "one attention head, ⟨W_q q, W_k k⟩: 129 parameters",
        COSINE: "the same with the cosine",
        NETWORK: "query and table through two hidden layers of 128: 42,756 parameters",
        DOT_VARIED: "dot, trained and tested with keys of different lengths",
        COSINE_VARIED: "cosine, trained and tested with keys of different lengths",
        UNIFORM: "the mean of all values: the control",
    }
    control = UNIFORM
    rates = (0.001, 0.003, 0.01, 0.03, 0.1)
    score = "new"
    chosen = {DOT: 0.03, COSINE: 0.01, NETWORK: 0.001, DOT_VARIED: 0.01, COSINE_VARIED: 0.01, UNIFORM: 0.001}
    measures = {
        "seen": Measure(
            f"values fetched, all {BITS} bits, by keys of the training pool",
            "share", "higher", failed=0.0, summary="median",
        ),
        "new": Measure(
            f"values fetched, all {BITS} bits, by keys never seen in training",
            "share", "higher", failed=0.0, summary="median",
        ),
    }  # fmt: skip

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        pool = key_pool(POOL, generator)
        build, stretch = ARMS[arm]
        seen, new = tables(TEST, generator, pool, stretch), tables(TEST, generator, None, stretch)
        model = build()

        def loss() -> Tensor:
            batch = tables(BATCH, generator, pool, stretch)
            return (answer(model, batch) - batch.target).square().mean()

        losses = list(descend(model, loss, STEPS, rate))
        arrays = {"loss": np.array(losses)[::EVERY]}
        with torch.no_grad():
            if isinstance(model, KeyValueRetrieval):
                arrays["weights"] = model.attention(new.query[:12], new.keys[:12]).dense()[:, 0].numpy()
            return Measurement({"seen": fetched(model, seen), "new": fetched(model, new)}, arrays)

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "attention fetches at least 90 % of the values by keys that it never saw",
                    results.summary(DOT, "new"), "at least", 0.9, "share",
                ),
                Part(
                    "that is at least 0.5 more than a fully connected network",
                    results.difference(DOT, NETWORK, "new"), "at least", 0.5, "share",
                ),
                Part(
                    "attention loses at most one point from seen keys to new ones",
                    results.difference(DOT, DOT, "seen", "new"), "at most", 0.01, "share",
                ),
                Part(
                    "where key lengths vary the cosine fetches at least 0.1 more than the dot product",
                    results.difference(COSINE_VARIED, DOT_VARIED, "new"), "at least", 0.1, "share",
                ),
                Part(
                    "where key lengths are equal the dot product fetches as much as the cosine, to two points",
                    results.difference(COSINE, DOT, "new"), "at most", 0.02, "share",
                ),
            ],
            control=Part(
                "the mean of all values fetches at least 0.5 more than a fully connected network",
                results.difference(UNIFORM, NETWORK, "new"), "at least", 0.5, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        new = {arm: f"{results.summary(arm, 'new').estimate:.0%}" for arm in self.arms}
        return (
            f"Attention fetches {new[DOT]} of the values by keys that it never saw in training, a fully connected network "
            f"{new[NETWORK]}. Where the lengths of keys vary, attention by the dot product fetches {new[DOT_VARIED]} and by the "
            f"cosine {new[COSINE_VARIED]}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        looks = {arm: results.array(arm, "weights", seed) for arm in (DOT, COSINE, DOT_VARIED, COSINE_VARIED)}
        losses = {arm: results.stack(arm, "loss") for arm in self.arms}
        return [
            Picture(
                "Values fetched, by keys of the training pool and by new ones: a dot for each seed, and the mean with its "
                "interval.",
                *comparison(results, ["seen", "new"]),
            ),
            Picture(
                f"Where twelve queries of seed {seed} look, among sixteen new keys: one strong cell in a row is a look-up.",
                *figures.matrices(looks, "entry of the table", "query", "weight"),
            ),
            Picture(
                "Training error by step: the median over seeds, and the middle half of them.",
                figures.curves(losses, EVERY, "step", "squared error", log=True),
            ),
        ]


def answer(model: nn.Module, asked: Tables) -> Tensor:
    """The values that the model returns for the queries."""
    fetched: Tensor = model(asked.query, asked.keys, asked.values)
    return fetched


def fetched(model: nn.Module, asked: Tables) -> float:
    """The share of queries for which every bit of the value is right."""
    return float((answer(model, asked) * asked.target > 0).all(-1).float().mean())
