"""Attention in translation: an encoder–decoder Transformer whose heads compare by distances or by dot products.

Ruan & Zhang (2412.18288) replace the dot product in a Transformer that translates Multi30k (6 layers, 8 heads, width
512), and report that with a learned metric the loss falls faster, and ends lower, than with L2 or dot products. They
give figures only, and no numbers.

Here the sentences are generated: a small English with its translations into an invented language, which has another
order of words, agreement, and English words with two meanings (`limelight.data.small_language`). They stand in for
Multi30k, which would have to be downloaded. The Transformer is small too: one layer each of encoder and decoder, four
heads, width 32. It is trained for five epochs on 3,000 pairs, and tested on 300 other sentences. Only the similarity
differs between arms: queries and keys have projections of their own, and every score has the scale 1/√d of dot products.

Perplexity is the exponential of the mean loss of the next word, given those before it. A sentence is exact if each word
is right, when the model writes it by itself and takes the most probable word at each place. There is no BLEU: a generated
sentence has one right translation, so that exactness is the stricter and simpler measure.

With the package datasets and a network, a file of one's own runs the same trials on a part of Multi30k, with
`limelight run ./attention_in_captions.py`:

    from limelight.claims.attention_in_translation import AttentionInTranslation
    from limelight.data.parallel_text import multi30k

    class AttentionInCaptions(AttentionInTranslation):
        name = "attention_in_captions"
        title = "The same on captions of photographs"
        ambiguous = frozenset()

        def pairs(self, seed):
            return multi30k()[:3000], multi30k("test")[:300]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from limelight import figures
from limelight.data.parallel_text import Pair, Vocabulary
from limelight.data.small_language import AMBIGUOUS, sentence_pairs
from limelight.data.special_tokens import END, PAD
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.decoding import greedy
from limelight.models.positions import SinusoidalPositions
from limelight.models.propagation_network import TanhResidual
from limelight.models.training import descend
from limelight.models.transformer import Skip, Transformer
from limelight.nn import MultiheadAttention
from limelight.report.comparison import comparison
from limelight.similarity import Dot, Euclidean, Metric, Scaled, Similarity

TRAIN, TEST = 3000, 300  # pairs of sentences
WIDTH, HEADS, HIDDEN, LAYERS = 32, 4, 64, 1
BATCH, EPOCHS = 64, 5
STEPS = EPOCHS * (TRAIN // BATCH)
EVERY = 3  # steps between two points of a curve
GOAL = 1.0  # nats; the steps to a batch with this loss are counted
METRIC, EUCLIDEAN, DOT, NO_CROSS = "metric", "euclidean", "dot", "without cross-attention"
PAIRS = ((METRIC, EUCLIDEAN), (EUCLIDEAN, DOT), (METRIC, DOT))  # of each, the first is claimed to be better

SCALE = (WIDTH / HEADS) ** -0.5
SIMILARITY: dict[str, Callable[[], Similarity]] = {
    METRIC: lambda: Scaled(Metric(TanhResidual(WIDTH // HEADS)), SCALE),
    EUCLIDEAN: lambda: Scaled(Euclidean(), SCALE),
    DOT: Dot,
    NO_CROSS: Dot,
}


@dataclass(frozen=True)
class Text:
    """The tokens of source and target sentences, and the vocabulary that both languages share."""

    vocabulary: Vocabulary
    source: Int[Tensor, "n s"]
    target: Int[Tensor, "n t"]

    def of(self, rows: Tensor | slice) -> Text:
        """Some of the sentences, without columns that are padding in all of them."""
        source, target = self.source[rows], self.target[rows]
        return Text(self.vocabulary, *(x[:, : int((x != PAD).sum(1).max())] for x in (source, target)))


class AttentionInTranslation(TunedClaim):
    """The claim that a Transformer translates better with a learned metric than with distances, and so than with dots."""

    name = "attention_in_translation"
    title = "A Transformer that compares by a learned metric learns to translate faster and better than by L2 or dot products"
    question = (
        "A small Transformer learns to translate sentences into a language with another order of words, with agreement, and "
        "with words that English does not tell apart. Its heads compare queries and keys by dot products, by Euclidean "
        "distances, or by distances after a learned map. With which does the loss fall fastest, and which translates "
        "sentences best that it has never seen?"
    )
    source = "Ruan & Zhang 2024, Towards understanding how attention mechanism works in deep learning, 2412.18288"
    arms = {
        METRIC: "exp −|φ(q_i) − φ(k_j)|²/2√d in each head, φ a tanh layer with a residual",
        EUCLIDEAN: "exp −|q_i − k_j|²/2√d (L2 attention)",
        DOT: "exp ⟨q_i, k_j⟩/√d",
        NO_CROSS: "dot products, but the decoder does not attend to the source: the control",
    }
    control = NO_CROSS
    rates = (0.003, 0.01, 0.03)
    score = "perplexity"
    chosen = {METRIC: 0.03, EUCLIDEAN: 0.01, DOT: 0.01, NO_CROSS: 0.03}
    measures = {
        "perplexity": Measure(
            "perplexity of unseen translations after five epochs", "equally likely words", "lower", failed=float("inf"),
            summary="median",
        ),
        "fall": Measure(
            "perplexity after five epochs, as a share of that after one", "times", "lower", failed=float("inf"),
            summary="median",
        ),
        "exact": Measure(
            "unseen sentences translated without any error", "share", "higher", failed=0.0, summary="median"
        ),
        "words": Measure(
            "next words of unseen translations that are right, given those before", "share", "higher", failed=0.0,
            summary="median",
        ),
        "ambiguous": Measure(
            "the same of the words whose English word has two meanings", "share", "higher", failed=0.0, summary="median"
        ),
        "steps": Measure(
            f"steps to a batch with a loss of {GOAL:g} nat", f"steps, at most {STEPS}", "lower", failed=float(STEPS),
            summary="median",
        ),
    }  # fmt: skip
    ambiguous: ClassVar[frozenset[str]] = AMBIGUOUS  # the words that are counted as such; if empty, all are

    def pairs(self, seed: int) -> tuple[list[Pair], list[Pair]]:
        """Sentences with their translations, to train on and to test by; no test sentence is in training."""
        found = sentence_pairs(TRAIN + TEST, seed)
        return found[:TRAIN], found[TRAIN:]

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        train, test = self.pairs(seed)
        vocabulary = Vocabulary.of(sentence for pair in train for sentence in pair)
        learned, asked = text_of(vocabulary, train), text_of(vocabulary, test)
        model, perplexities = model_of(arm, vocabulary.tokens), []
        steps = EPOCHS * (len(train) // BATCH)

        def look(epoch: int) -> None:
            if epoch:
                perplexities.append(perplexity(model, asked))

        losses = np.array(list(descend(model, batches(model, learned, seed, look), steps, rate)))
        look(EPOCHS)
        right = next_words_right(model, asked)
        hard = torch.tensor([[word in self.ambiguous or not self.ambiguous for word in row] for row in words_in(asked)])
        real, reached = asked.target[:, 1:] != PAD, np.flatnonzero(losses <= GOAL)
        row = longest(test)
        return Measurement(
            {
                "perplexity": perplexities[-1],
                "fall": perplexities[-1] / perplexities[0],
                "exact": exact(model, asked),
                "words": float(right[real].float().mean()),
                "ambiguous": float(right[real & hard].float().mean()),
                "steps": float(reached[0]) if len(reached) else float(steps),
            },
            {
                "loss": losses[::EVERY],
                "perplexity by epoch": np.array(perplexities),
                **({} if arm == NO_CROSS else {"look": attention_to_source(model, asked.of(slice(row, row + 1)))}),
            },
        )

    def judge(self, results: Results) -> Verdict:
        lower = [
            Part(
                f"{better} attention ends with a perplexity at least 5% below that of {worse}",
                results.ratio(better, worse, "perplexity"), "at most", 0.95, "times",
            )
            for better, worse in PAIRS
        ]  # fmt: skip
        more_exact = [
            Part(
                f"{better} attention translates at least two points more sentences exactly than {worse}",
                results.difference(better, worse, "exact"), "at least", 0.02, "share",
            )
            for better, worse in PAIRS
        ]  # fmt: skip
        faster = [
            Part(
                f"{better} attention reaches a loss of {GOAL:g} nat in fewer steps than {worse}",
                results.ratio(better, worse, "steps"), "at most", 1.0, "times",
            )
            for better, worse in PAIRS
        ]  # fmt: skip
        return Verdict.of(
            [
                *lower, *more_exact, *faster,
                Part(
                    "the share of exact sentences varies less between runs with metric attention than with dot",
                    results.spread_ratio(METRIC, DOT, "exact"), "at most", 1.0, "times",
                ),
                Part(
                    "the task can be learned: the perplexity of dot after five epochs is at most half of that after one",
                    results.summary(DOT, "fall"), "at most", 0.5, "times",
                ),
            ],
            control=Part(
                "without the source at most five points fewer sentences are exact than with dot",
                results.difference(NO_CROSS, DOT, "exact"), "at least", -0.05, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def listed(measure: str, form: str) -> str:
            return ", ".join(
                f"{arm} {results.summary(arm, measure).estimate:{form}}" for arm in (METRIC, EUCLIDEAN, DOT)
            )

        return (
            "A small Transformer that learns to translate generated sentences in five epochs ends with a perplexity of "
            f"{listed('perplexity', '.2f')}, translates {listed('exact', '.0%')} of unseen sentences without an error, without the "
            f"source {results.summary(NO_CROSS, 'exact').estimate:.0%}, and needs {listed('steps', '.0f')} steps to a loss of "
            f"{GOAL:g} nat; with dot products the perplexity falls to {results.summary(DOT, 'fall').estimate:.0%} of that after one "
            "epoch (medians over runs)."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        test = self.pairs(seed)[1]
        source, target = test[longest(test)]
        return [
            Picture(
                "A dot for each seed, and the median with its interval.",
                *comparison(results, ["exact", "words", "ambiguous"]),
            ),
            Picture(
                "Training loss by step, and the perplexity of unseen translations after each epoch: the median over seeds, and the "
                "middle half of them.",
                figures.curves(
                    {arm: results.stack(arm, "loss") for arm in self.arms}, EVERY, "step", "loss of the next word", log=True
                ),
                figures.curves(
                    {arm: results.stack(arm, "perplexity by epoch") for arm in self.arms}, range(1, EPOCHS + 1), "epoch",
                    "perplexity", log=True,
                ),
            ),
            Picture(
                f"Where the decoder of seed {seed} looks in “{source}” (its words and the end, from left to right) while it writes "
                f"“{target}” and the end, from top to bottom: the mean over its heads.",
                *figures.matrices(
                    {arm: results.array(arm, "look", seed) for arm in (METRIC, EUCLIDEAN, DOT)}, "word of the source",
                    "word written", "weight",
                ),
            ),
            Picture(
                "Final perplexity, and steps to a batch with a loss of one nat, a dot for each seed.",
                *comparison(results, ["perplexity", "steps"]),
            ),
        ]  # fmt: skip


def text_of(vocabulary: Vocabulary, pairs: Sequence[Pair]) -> Text:
    """The pairs as tokens; a source has no BEGIN, which only starts what is written."""
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    return Text(vocabulary, vocabulary.encoded(sources)[:, 1:], vocabulary.encoded(targets))


def model_of(arm: str, tokens: int) -> Transformer:
    """An arm's Transformer before training: each of its attention layers gets a similarity of its own."""
    model = Transformer(tokens, WIDTH, HEADS, HIDDEN, LAYERS, SinusoidalPositions(WIDTH))
    for layer in model.modules():
        if isinstance(layer, MultiheadAttention):
            layer.similarity = SIMILARITY[arm]()
    if arm == NO_CROSS:
        for layer in model.decoder:
            layer.cross_attention = Skip()
    return model


def next_word_loss(model: Transformer, text: Text) -> Tensor:
    """The mean of −log p(word | the words before it, the source) over all words and ends."""
    scores = model(text.source, text.target[:, :-1])
    return F.cross_entropy(scores.flatten(0, 1), text.target[:, 1:].flatten(), ignore_index=PAD)


def batches(model: Transformer, text: Text, seed: int, look: Callable[[int], None]) -> Callable[[], Tensor]:
    """A loss for `descend`: each call takes the next batch of an epoch; `look(epoch)` is called before each epoch.

    Every epoch has the pairs in another random order, the same for all arms; those that fill no batch are left out.
    """
    generator = torch.Generator().manual_seed(seed)

    def parts() -> Iterator[Tensor]:
        for epoch in range(EPOCHS):
            look(epoch)
            order = torch.randperm(len(text.source), generator=generator)
            yield from order[: len(order) // BATCH * BATCH].split(BATCH)

    coming = parts()
    return lambda: next_word_loss(model, text.of(next(coming)))


@torch.no_grad()
def perplexity(model: Transformer, text: Text) -> float:
    """exp of the mean loss of the next word."""
    return float(next_word_loss(model, text).exp())


@torch.no_grad()
def next_words_right(model: Transformer, text: Text) -> Tensor:
    """True where the most probable next word, given the right ones before it, is right: (n, t − 1)."""
    return model(text.source, text.target[:, :-1]).argmax(-1) == text.target[:, 1:]


def words_in(text: Text) -> list[list[str]]:
    """The word at each place of the targets after BEGIN; an empty one for END and PAD."""
    return [text.vocabulary.decoded(row[1:, None]) for row in text.target]


@torch.no_grad()
def exact(model: Transformer, text: Text) -> float:
    """The share of sentences that the model writes to the last word, and ends there, by the most probable words."""
    most = text.target.shape[1] - 1
    written = greedy(model.next_token(text.source), text.target[:, :1], END, most)
    written = F.pad(written, (0, most - written.shape[1]), value=END)
    right = text.target[:, 1:].masked_fill(text.target[:, 1:] == PAD, END)
    return float((written == right).all(1).float().mean())


def longest(pairs: Sequence[Pair]) -> int:
    """The place of the longest sentence, which is shown."""
    return max(range(len(pairs)), key=lambda i: len(pairs[i][0].split()))


@torch.no_grad()
def attention_to_source(model: Transformer, sentence: Text) -> np.ndarray:
    """The weights of the source's words while each word is written, the mean over heads."""
    found: np.ndarray = model.cross_weights(sentence.source, sentence.target[:, :-1])[0].mean(0).numpy()
    return found
