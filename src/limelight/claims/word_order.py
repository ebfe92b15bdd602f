"""Word order: self-attention alone does not see it; what positions add depends on how they are given.

A comment in an online discussion (thisiszilff) says that self-attention tells a network "that relative location might
be important", and that the location of words varies: "there shouldn't be much difference between 'Today the dog went
to the park' and 'The dog went to the park today'". Self-attention without positions goes further: its outputs are the
same, in another order, whatever the order of the words. Positions give the order back. A vector for each place says
where a word stands; a bias for each distance says only how far apart two words are.

Three questions are put to each kind of position. Which of two marked words comes first? How much does the answer change
when a phrase that means nothing moves from the end of the sentence, where training had it, to the beginning? And are
two marked words exactly three places apart, asked at places where training never had them?

Every arm has the best of the learning rates that all arms tried.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limelight import figures
from limelight.data.marked_words import DISTANCE, LENGTH, WORDS, pairs, sentences, with_phrase
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.positions import LearnedPositions, SinusoidalPositions, relative_similarity
from limelight.models.sequence_classifier import SequenceClassifier
from limelight.models.training import descend
from limelight.models.transformer import EncoderLayer, ResidualFeedForward
from limelight.report.comparison import comparison
from limelight.similarity import RelativeBias

WIDTH, HEADS, HIDDEN, REACH = 32, 4, 64, 8
BATCH, TEST = 64, 1000
ORDER_STEPS, DISTANCE_STEPS = 150, 400  # of training, in the two tasks
SEEN, UNSEEN = range(7), range(12, 15)  # places of the first marked word, in training and in the test
EVERY = 4  # steps between two points of a curve
NONE, LEARNED, SINUSOIDAL = "no positions", "learned positions", "sinusoidal positions"
RELATIVE, BAG = "relative bias", "bag of words"


def _classifier(positions: nn.Module, layer: nn.Module) -> SequenceClassifier:
    return SequenceClassifier(WORDS, WIDTH, classes=2, positions=positions, layers=[layer])


ARMS: dict[str, Callable[[], SequenceClassifier]] = {
    NONE: lambda: _classifier(nn.Identity(), EncoderLayer(WIDTH, HEADS, HIDDEN)),
    LEARNED: lambda: _classifier(LearnedPositions(LENGTH, WIDTH), EncoderLayer(WIDTH, HEADS, HIDDEN)),
    SINUSOIDAL: lambda: _classifier(SinusoidalPositions(WIDTH), EncoderLayer(WIDTH, HEADS, HIDDEN)),
    RELATIVE: lambda: _classifier(
        nn.Identity(), EncoderLayer(WIDTH, HEADS, HIDDEN, relative_similarity(REACH, HEADS))
    ),
    BAG: lambda: _classifier(nn.Identity(), ResidualFeedForward(WIDTH, HIDDEN)),
}  # fmt: skip


class WordOrder(TunedClaim):
    """The claim that order comes from positions, and that relative ones hold at places that were never seen."""

    name = "word_order"
    title = "Self-attention sees no order by itself; relative positions show it, and hold at places never seen"
    question = (
        "Is self-attention without positions really blind to the order of words? Which kind of position shows which of "
        "two words comes first, and which one tells the distance of two words at places where training never had them? "
        "And if a phrase moves from the end of a sentence to its beginning, which changes nothing, does the answer stay?"
    )
    source = (
        "thisiszilff, a comment in an online discussion on why self-attention and convolutions need less data than "
        "fully connected layers (page and year not known)"
    )
    arms = {
        NONE: "one layer of self-attention and feed-forward, mean over places",
        LEARNED: "the same with a learned vector added for each place",
        SINUSOIDAL: "the same with fixed sines and cosines of the place added",
        RELATIVE: "the same with a learned bias on the scores for each head and each distance",
        BAG: "the feed-forward network for each word by itself, mean over places: the control",
    }
    control = BAG
    rates = (0.003, 0.01, 0.03)
    score = "learned"
    chosen = {NONE: 0.003, LEARNED: 0.003, SINUSOIDAL: 0.003, RELATIVE: 0.01, BAG: 0.03}
    measures = {
        "order": Measure("sentences whose first marked word is told", "share", "higher", failed=0.0, summary="median"),
        "moved": Measure(
            "change of the predicted probability when the phrase moves to the beginning", "probability", "lower",
            failed=1.0, summary="median",
        ),
        "order, moved": Measure(
            "sentences whose first marked word is told after the phrase has moved", "share", "higher", failed=0.0,
            summary="median",
        ),
        "seen": Measure("distances told at the places of training", "share", "higher", failed=0.0, summary="median"),
        "unseen": Measure("distances told at places never seen", "share", "higher", failed=0.0, summary="median"),
        "learned": Measure(
            "answers right where training asked, mean over both tasks", "share", "higher", failed=0.0, summary="median"
        ),
        "outputs": Measure(
            "largest change of any word's output when words are reordered, in double precision", "of its size",
            "neither", failed=1.0, summary="exact",
        ),
        "logits": Measure(
            "largest change of the pooled logits when words are reordered, in double precision", "of its size",
            "neither", failed=1.0, summary="exact",
        ),
    }  # fmt: skip

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        told, order_losses = trained(arm, rate, ORDER_STEPS, lambda: at_the_end(BATCH, generator))
        words, first = sentences(TEST, generator)
        with torch.no_grad():
            before, after = (told(with_phrase(words, at_the_end=end)).softmax(-1)[:, 1] for end in (True, False))
        apart, distance_losses = trained(arm, rate, DISTANCE_STEPS, lambda: pairs(BATCH, SEEN, generator))
        order, seen = share_right(before, first), accuracy(apart, SEEN, generator)
        outputs, logits = change_by_reordering(told, with_phrase(words[:64], at_the_end=True), generator)
        arrays = {"loss, order": np.array(order_losses)[::EVERY], "loss, distance": np.array(distance_losses)[::EVERY]}
        if arm == RELATIVE:
            arrays |= {"bias, order": bias_of(told), "bias, distance": bias_of(apart)}
        return Measurement(
            values={
                "order": order,
                "moved": float((before - after).abs().mean()),
                "order, moved": share_right(after, first),
                "seen": seen,
                "unseen": accuracy(apart, UNSEEN, generator),
                "learned": (order + seen) / 2,
                "outputs": outputs,
                "logits": logits,
            },
            arrays=arrays,
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "without positions, words in another order get the same outputs in that order",
                    results.summary(NONE, "outputs"), "at most", 1e-12, "of their size",
                ),
                Part(
                    "so that their mean and the classifier's logits do not change",
                    results.summary(NONE, "logits"), "at most", 1e-12, "of their size",
                ),
                Part(
                    "without positions, which word comes first is told in at most 55 % of sentences",
                    results.summary(NONE, "order"), "at most", 0.55, "of sentences",
                ),
                *(
                    Part(
                        f"with {arm} it is told in at least 95 %",
                        results.summary(arm, "order"), "at least", 0.95, "of sentences",
                    )
                    for arm in (LEARNED, SINUSOIDAL, RELATIVE)
                ),
                Part(
                    "a relative bias tells the distance of two words at places never seen, in at least 95 %",
                    results.summary(RELATIVE, "unseen"), "at least", 0.95, "of sequences",
                ),
                *(
                    Part(
                        f"{arm} do so in at least 10 % fewer",
                        results.difference(RELATIVE, arm, "unseen"), "at least", 0.1, "of sequences",
                    )
                    for arm in (LEARNED, SINUSOIDAL)
                ),
                Part(
                    "with a relative bias a phrase that moves to the beginning changes the probabilities by at most 0.05",
                    results.summary(RELATIVE, "moved"), "at most", 0.05, "probability",
                ),
                Part(
                    "with learned positions it changes them by at least 0.05 more",
                    results.difference(LEARNED, RELATIVE, "moved"), "at least", 0.05, "probability",
                ),
            ],
            control=Part(
                "a bag of words tells which word comes first in at least 95 %",
                results.summary(BAG, "order"), "at least", 0.95, "of sentences",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        order, seen, unseen, moved = (
            {arm: f"{results.summary(arm, name).estimate:.0%}" for arm in self.arms}
            for name in ("order", "seen", "unseen", "order, moved")
        )
        return (
            f"Which of two words comes first is told in {order[NONE]} of sentences without positions, in {order[LEARNED]} with "
            f"learned ones, {order[SINUSOIDAL]} with sinusoidal ones and {order[RELATIVE]} with a relative bias; after a "
            f"meaningless phrase has moved from the end to the beginning, in {moved[LEARNED]}, {moved[SINUSOIDAL]} and "
            f"{moved[RELATIVE]}. Whether two words are {DISTANCE} places apart is told at places never seen in {unseen[RELATIVE]} "
            f"with a relative bias, in {unseen[LEARNED]} with learned and in {unseen[SINUSOIDAL]} with sinusoidal positions; at "
            f"the places of training in {seen[RELATIVE]}, {seen[LEARNED]} and {seen[SINUSOIDAL]}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        distances = [float(d) for d in range(-REACH, REACH + 1)]
        biases = [heads_of(results.array(RELATIVE, f"bias, {task}", seed)) for task in ("order", "distance")]
        losses = {
            task: {arm: results.stack(arm, f"loss, {task}") for arm in self.arms} for task in ("order", "distance")
        }
        return [
            Picture(
                "Which of two words comes first, before and after a phrase that means nothing has moved to the beginning. A dot "
                "for each seed, and the median with its interval.",
                *comparison(results, ["order", "order, moved", "moved"]),
            ),
            Picture(
                "Whether two words are three places apart, at the places of training and at places never seen.",
                *comparison(results, ["seen", "unseen"]),
            ),
            Picture(
                f"The bias that each head of seed {seed} learned, as a softmax over distances: the weight of a key so far after "
                "the query if only places counted. At the left which word comes first, at the right whether they are three apart.",
                *(figures.curves(heads, distances, "distance from query to key", "weight") for heads in biases),
            ),
            Picture(
                "Training loss by step in the two tasks, order at the left: the median over seeds, and the middle half of them.",
                *(figures.curves(losses[task], EVERY, "step", "cross-entropy") for task in losses),
            ),
        ]


Batch = tuple[Tensor, Tensor]


def at_the_end(n: int, generator: torch.Generator) -> Batch:
    """Sentences with the phrase at their end, and whether the first marked word comes first."""
    words, first = sentences(n, generator)
    return with_phrase(words, at_the_end=True), first


def trained(arm: str, rate: float, steps: int, batch: Callable[[], Batch]) -> tuple[SequenceClassifier, list[float]]:
    """The arm's classifier, trained on a new batch in each step, and the loss of each step."""
    model = ARMS[arm]()

    def loss() -> Tensor:
        words, label = batch()
        return F.cross_entropy(model(words), label)

    return model, list(descend(model, loss, steps, rate))


def share_right(probability: Tensor, label: Tensor) -> float:
    """The share of answers that give their class more than half of the probability."""
    return float(((probability > 0.5) == (label == 1)).float().mean())


@torch.no_grad()
def accuracy(model: SequenceClassifier, starts: range, generator: torch.Generator) -> float:
    """The share of new pairs at these places whose distance is told rightly."""
    words, label = pairs(TEST, starts, generator)
    return share_right(model(words).softmax(-1)[:, 1], label)


@torch.no_grad()
def change_by_reordering(model: SequenceClassifier, words: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """How much outputs, put back in order, and logits change when all sentences are reordered in one random way.

    Both are in double precision, and divided by the largest output and the largest logit.
    """
    exact = _double(model)
    order = torch.randperm(words.shape[1], generator=generator)
    outputs, logits = exact.outputs(words), exact(words)
    return (
        float((exact.outputs(words[:, order]) - outputs[:, order]).abs().max() / outputs.abs().max()),
        float((exact(words[:, order]) - logits).abs().max() / logits.abs().max()),
    )


def _double(model: SequenceClassifier) -> SequenceClassifier:
    twin = copy.deepcopy(model)
    return twin.double()


def heads_of(shares: np.ndarray | None) -> dict[str, np.ndarray]:
    """The rows of a matrix by the names of their heads, each as a series of one run."""
    return {f"head {i + 1}": row[None] for i, row in enumerate(() if shares is None else shares)}


def bias_of(model: SequenceClassifier) -> np.ndarray:
    """softmax over distances −reach … reach of the learned bias of each head, (heads, 2·reach + 1)."""
    (bias,) = (part for part in model.modules() if isinstance(part, RelativeBias))
    return bias.table.detach().softmax(-1).numpy()
