"""The parts of a Transformer: each is taken out of an encoder–decoder, and what then fails is measured.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) says of the Transformer's parts: positions are part of the
embedding; multi-headed attention extracts multiple relationships; masked attention enables self-supervised training;
the decoder's attention to the encoder keeps the output faithful to the input; feed-forward layers are there
"presumably, to build connections that attention layer couldn't".

A small Transformer learns to write sequences of symbols backwards, and is tested by sequences that training never
showed, which it has to write to the last symbol. Two more tasks need two symbols of the source for each one that is
written, backwards again. To name each two neighbors, one token for each pair, takes two relations at once, and is there
for the number of heads. To write the larger of each two is not linear in them, and is there for the feed-forward
networks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limelight import figures
from limelight.data.reversals import larger_of_pairs, pair_names, reversal, sequences
from limelight.data.special_tokens import END, FIRST
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.statistics import Interval
from limelight.experiment.verdict import Part, Verdict
from limelight.mask import Mask, causal
from limelight.models.decoding import greedy
from limelight.models.positions import SinusoidalPositions
from limelight.models.training import descend
from limelight.models.transformer import Skip, Transformer
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

WIDTH, HEADS, HIDDEN, LAYERS = 32, 4, 64, 1
BATCH, STEPS, TEST = 64, 300, 500
EVERY = 4  # steps between two points of a curve
ALL = 0.99  # the share of unseen sequences that a run has to write exactly
WHOLE, NO_POSITIONS, ONE_HEAD = "whole", "without positions", "one head"
NO_FEED_FORWARD, NO_MASK, NO_CROSS = "without feed-forward", "without the mask", "without cross-attention"
PAIRS, PAIRS_ONE_HEAD = "pairs", "pairs, one head"
LARGER, LARGER_NO_FEED_FORWARD = "larger", "larger, without feed-forward"


@dataclass(frozen=True)
class Task:
    """What is to be written about a sequence of symbols, and how many different symbols are written."""

    length: int
    symbols: int
    written: int
    target: Callable[[Tensor], Tensor]


REVERSAL = Task(length=8, symbols=10, written=10, target=reversal)
NAMING = Task(length=8, symbols=4, written=16, target=lambda source: pair_names(source, symbols=4))
MAXIMUM = Task(length=8, symbols=6, written=6, target=larger_of_pairs)


def _whole(model: Transformer) -> None:
    """Nothing is taken out."""


def _without_positions(model: Transformer) -> None:
    model.positions = nn.Identity()


def _without_feed_forward(model: Transformer) -> None:
    for layer in (*model.encoder, *model.decoder):
        layer.feed_forward = Skip()


def _without_cross_attention(model: Transformer) -> None:
    for layer in model.decoder:
        layer.cross_attention = Skip()


@dataclass(frozen=True)
class Arm:
    """A task, and a Transformer out of which something may be taken."""

    task: Task = REVERSAL
    heads: int = HEADS
    mask: Mask | None = causal
    take_out: Callable[[Transformer], None] = _whole

    def model(self) -> Transformer:
        """The arm's model before training."""
        tokens, positions = FIRST + self.task.written, SinusoidalPositions(WIDTH)
        model = Transformer(tokens, WIDTH, self.heads, HIDDEN, LAYERS, positions, self.mask)
        self.take_out(model)
        return model


ARMS = {
    WHOLE: Arm(),
    NO_POSITIONS: Arm(take_out=_without_positions),
    NO_FEED_FORWARD: Arm(take_out=_without_feed_forward),
    ONE_HEAD: Arm(heads=1),
    NO_MASK: Arm(mask=None),
    PAIRS: Arm(NAMING),
    PAIRS_ONE_HEAD: Arm(NAMING, heads=1),
    LARGER: Arm(MAXIMUM),
    LARGER_NO_FEED_FORWARD: Arm(MAXIMUM, take_out=_without_feed_forward),
    NO_CROSS: Arm(take_out=_without_cross_attention),
}


class TransformerParts(TunedClaim):
    """The claim that each part of a Transformer does what is said of it."""

    name = "transformer_parts"
    title = "Each part of a Transformer is needed for what is said of it"
    question = (
        "A Transformer learns to write sequences backwards. What fails without positions, without attention to the encoder, "
        "without the mask, without feed-forward layers, and with one head in place of four? Is the output faithful because "
        "of the encoder's memory? Does one pass over the whole target, which the mask makes possible, give the same "
        "probabilities as writing it step by step?"
    )
    source = "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known)"
    arms = {
        WHOLE: "reversal of eight symbols, of ten different ones; one layer each of encoder and decoder, width 32, four heads",
        NO_POSITIONS: "reversal, no positions added to the embeddings",
        NO_FEED_FORWARD: "reversal, no feed-forward networks",
        ONE_HEAD: "reversal, one head as wide as the four together",
        NO_MASK: "reversal, each place of the target sees the whole target while it is trained",
        PAIRS: "the names of neighboring pairs among eight symbols, of four different ones; the whole model",
        PAIRS_ONE_HEAD: "names of pairs, one head as wide as the four together",
        LARGER: "the larger of neighbors among eight symbols, of six different ones; the whole model",
        LARGER_NO_FEED_FORWARD: "the larger of neighbors, no feed-forward networks",
        NO_CROSS: "reversal, the decoder does not attend to the encoder: the control",
    }
    control = NO_CROSS
    rates = (0.003, 0.01, 0.03)
    score = "test loss"
    chosen = {
        WHOLE: 0.03, NO_POSITIONS: 0.003, NO_FEED_FORWARD: 0.03, ONE_HEAD: 0.01, NO_MASK: 0.03, PAIRS: 0.01,
        PAIRS_ONE_HEAD: 0.03, LARGER: 0.01, LARGER_NO_FEED_FORWARD: 0.03, NO_CROSS: 0.01,
    }  # fmt: skip
    measures = {
        "exact": Measure("unseen sequences written exactly", "share", "higher", failed=0.0, summary="median"),
        "test loss": Measure(
            "loss of the next symbol on unseen sequences", "nats", "lower", failed=float("inf"), summary="median"
        ),
        "training loss": Measure(
            "loss of the next symbol in the last steps of training", "nats", "lower", failed=float("inf"),
            summary="median",
        ),
        "exact, mean memory": Measure(
            "unseen sequences written exactly where each vector of the memory is replaced by their mean", "share", "neither",
            failed=0.0, summary="median",
        ),
        "memory reordered": Measure(
            "largest change of any probability when the vectors of the memory change places, in double precision",
            "probability", "neither", failed=1.0, summary="exact",
        ),
        "step by step": Measure(
            "largest difference of any probability between one pass over the target and a pass for each prefix of it, in "
            "double precision", "probability", "neither", failed=1.0, summary="exact",
        ),
    }  # fmt: skip

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator, task = torch.Generator().manual_seed(seed), ARMS[arm].task
        model, shown = ARMS[arm].model(), []

        def loss() -> Tensor:
            source = sequences(BATCH, task.length, task.symbols, generator)
            shown.append(source)
            return next_token_loss(model, source, task.target(source))

        losses = np.array(list(descend(model, loss, STEPS, rate)))
        source = unseen(TEST, task, torch.cat(shown), generator)
        target = task.target(source)
        with torch.no_grad():
            test_loss = float(next_token_loss(model, source, target))
            cross = None if arm == NO_CROSS else model.cross_weights(source, target[:, :-1]).mean(0)
        exact = copy.deepcopy(model).double()
        return Measurement(
            values={
                "exact": written_exactly(model, model.encode(source), target),
                "test loss": test_loss,
                "training loss": float(losses[-20:].mean()),
                "exact, mean memory": written_exactly(model, mean_memory(model, source), target),
                "memory reordered": change_by_reordering(exact, source[:50], target[:50], generator),
                "step by step": change_step_by_step(exact, source[:50], target[:50]),
            },
            arrays={
                "loss": losses[::EVERY],
                **({} if cross is None else {f"cross {i + 1}": head.numpy() for i, head in enumerate(cross)}),
            },
        )

    def judge(self, results: Results) -> Verdict:
        def learned(arm: str) -> Interval:
            return results.share(arm, "exact", "at least", ALL)

        return Verdict.of(
            [
                Part(
                    f"the whole model learns reversal, which is to write {ALL:.0%} of unseen sequences exactly, in at least 80% of runs",
                    learned(WHOLE), "at least", 0.8, "of runs",
                ),
                Part(
                    "without positions it learns it in at most half of all runs",
                    learned(NO_POSITIONS), "at most", 0.5, "of runs",
                ),
                Part(
                    "the output is faithful through the memory: where all its vectors are replaced by their mean, at most 1% of "
                    "sequences are exact",
                    results.summary(WHOLE, "exact, mean memory"), "at most", 0.01, "of sequences",
                ),
                Part(
                    "the decoder knows no order of the memory: its vectors in other places give the same probabilities",
                    results.summary(WHOLE, "memory reordered"), "at most", 1e-12, "probability",
                ),
                Part(
                    "with the mask one pass over the target gives the probabilities of writing it step by step",
                    results.summary(WHOLE, "step by step"), "at most", 1e-12, "probability",
                ),
                Part(
                    "without the mask the training loss falls to at most 0.01",
                    results.summary(NO_MASK, "training loss"), "at most", 0.01, "nats",
                ),
                Part(
                    "but reversal is learned in at most half of all runs",
                    learned(NO_MASK), "at most", 0.5, "of runs",
                ),
                Part(
                    "several heads find several relations: four learn to name pairs in at least half of all runs",
                    learned(PAIRS), "at least", 0.5, "of runs",
                ),
                Part(
                    "and one head in at most half",
                    learned(PAIRS_ONE_HEAD), "at most", 0.5, "of runs",
                ),
                Part(
                    "with feed-forward networks the larger of two symbols is learned in at least half of all runs",
                    learned(LARGER), "at least", 0.5, "of runs",
                ),
                Part(
                    "and without them in at most half",
                    learned(LARGER_NO_FEED_FORWARD), "at most", 0.5, "of runs",
                ),
            ],
            control=Part(
                "without cross-attention the model learns reversal in at least 80% of runs",
                learned(NO_CROSS), "at least", 0.8, "of runs",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        runs = {arm: f"{results.share(arm, 'exact', 'at least', ALL).estimate:.0%}" for arm in self.arms}
        mean_memory, loss = (
            results.summary(*which).estimate for which in ((WHOLE, "exact, mean memory"), (NO_MASK, "training loss"))
        )
        return (
            f"A small Transformer learns to write unseen sequences backwards in {runs[WHOLE]} of runs, without positions in "
            f"{runs[NO_POSITIONS]}, without cross-attention in {runs[NO_CROSS]}, without feed-forward networks in "
            f"{runs[NO_FEED_FORWARD]}, with one head in {runs[ONE_HEAD]}. Without the mask its training loss falls to {number(loss)} "
            f"and it learns it in {runs[NO_MASK]}. With the memory replaced by its mean {mean_memory:.0%} of sequences are right. "
            f"Pairs of symbols are named by four heads in {runs[PAIRS]} of runs and by one in {runs[PAIRS_ONE_HEAD]}; the larger of "
            f"two is found with feed-forward networks in {runs[LARGER]}, without them in {runs[LARGER_NO_FEED_FORWARD]}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        looks = {f"whole, head {i}": results.array(WHOLE, f"cross {i}", seed) for i in range(1, HEADS + 1)}
        looks |= {f"{arm}, head 1": results.array(arm, "cross 1", seed) for arm in (ONE_HEAD, NO_POSITIONS)}
        losses = {arm: results.stack(arm, "loss") for arm in self.arms}
        return [
            Picture(
                f"Where seed {seed} looks in the source while it writes each symbol backwards, the mean over unseen sequences. "
                "A line from the upper right to the lower left: the last symbol is written first. Row 9 writes the end.",
                *figures.matrices(looks, "place in the source", "place written", "weight"),
            ),
            Picture(
                "Unseen sequences written exactly, and with the memory replaced by its mean. A dot for each seed, and the median "
                "with its interval.",
                *comparison(results, ["exact", "exact, mean memory"]),
            ),
            Picture(
                "Training loss by step: the median over seeds, and the middle half of them. Reversal at the left, then the other tasks.",
                *(
                    figures.curves({arm: losses[arm] for arm in arms}, EVERY, "step", "cross-entropy", log=True)
                    for arms in (
                        [arm for arm in self.arms if ARMS[arm].task is REVERSAL],
                        [arm for arm in self.arms if ARMS[arm].task is not REVERSAL],
                    )
                ),
            ),
        ]


def next_token_loss(model: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """The mean of −log p(target_t | target_<t, source) over all places after the first, found in one pass."""
    return F.cross_entropy(model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())


def unseen(n: int, task: Task, shown: Tensor, generator: torch.Generator) -> Tensor:
    """n new sequences of the task, none of which is among those that training has shown."""
    powers = task.symbols ** torch.arange(task.length)  # a sequence as one number
    drawn = sequences(2 * n, task.length, task.symbols, generator)
    return drawn[~torch.isin((drawn - FIRST) @ powers, (shown - FIRST) @ powers)][:n]


@torch.no_grad()
def written_exactly(model: Transformer, memory: Tensor, target: Tensor) -> float:
    """The share of targets that the model writes to the last symbol, and then ends, from this memory."""
    written = greedy(lambda prefixes: model.decode(prefixes, memory)[:, -1], target[:, :1], END, target.shape[1] + 1)
    longest = max(written.shape[1], target.shape[1] - 1)
    full = [F.pad(part, (0, longest - part.shape[1]), value=END) for part in (written, target[:, 1:])]
    return float((full[0] == full[1]).all(1).float().mean())


def mean_memory(model: Transformer, source: Tensor) -> Tensor:
    """The memory of each source with every vector replaced by their mean."""
    memory = model.encode(source)
    return memory.mean(1, keepdim=True).expand_as(memory)


@torch.no_grad()
def change_by_reordering(model: Transformer, source: Tensor, target: Tensor, generator: torch.Generator) -> float:
    """The largest change of a probability when the vectors of the memory, keys with their values, change places."""
    memory, order = model.encode(source), torch.randperm(source.shape[1], generator=generator)
    before, after = (model.decode(target, given).softmax(-1) for given in (memory, memory[:, order]))
    return float((after - before).abs().max())


@torch.no_grad()
def change_step_by_step(model: Transformer, source: Tensor, target: Tensor) -> float:
    """The largest difference between the probabilities of one pass and those of a pass for each prefix."""
    together, step = model(source, target).softmax(-1), model.next_token(source)
    alone = [step(target[:, : t + 1]).softmax(-1) for t in range(target.shape[1])]
    return float((torch.stack(alone, 1) - together).abs().max())
