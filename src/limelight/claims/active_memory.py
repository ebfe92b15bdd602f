"""Active memory: convolutions that change a whole sequence at once, in the place of self-attention or beside it.

Dowdell & Zhang (1912.11959) put convolutional active memories into a Transformer where it has self-attention. They
report that active memory alone is comparable for language modeling, that both together are mostly best, that for some
algorithmic tasks active memory alone is better than attention and than both, and that attention remembers better.

Here the same Transformer has one or the other. On each task it learns sequences of 4 symbols first, and longer ones as
soon as it solves those; what counts is the longest length that it solves within a number of steps. The language is that
of Python's documentation, character by character, a stand-in for the corpora of the publication. Widths are such that
all arms have about as many parameters. With three layers, the first of 16 symbols can still reach the last one.

The tasks are three of the publication's six, defined here by what their names say, and two of its four active memories
take part. The others were left out for what they cost. A trial takes about six
seconds; sorting or multiplying would add two, inverting bits one (which a network that mixes nothing does as well), and
a highway or a persistent memory as an arm five to six seconds for each seed. They are all in `limelight.data.algorithmic`
and `limelight.models.active_memory`. Twelve seeds are judged, not thirty, for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from limelight import figures
from limelight.data import documentation_text
from limelight.data.algorithmic import ALPHABET, TASKS, Sequences
from limelight.data.documentation_text import CHARACTERS, characters, excerpts
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.statistics import Interval, share
from limelight.experiment.verdict import Part, Verdict
from limelight.mask import Mask, causal
from limelight.models.active_memory import CGRU, Both, ConvolutionMemory, Reach, SelfAttention
from limelight.models.sequence_transformer import SequenceTransformer
from limelight.models.training import descend
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

LAYERS, HEADS = 3, 4
TRIED = ("reverse", "add", "remember")
LENGTHS = (4, 6, 8, 12, 16)
SOLVED = 0.99  # the share of the symbols asked for, of sequences never seen, that has to be right
STEPS, BATCH, TEST = 300, 32, 128  # the budget of each task; sequences in a step and in a test
CHECK = 20  # steps between two tests
AROUND: Reach = (5, 5)  # of a convolution in each layer: three layers reach 15 symbols far
TEXT_STEPS, TEXT_BATCH, TEXT_LENGTH, TEXT_TEST = 250, 32, 16, 512
BEFORE: Reach = (10, 0)
EVERY = 5  # steps between two points of the curve for text

ATTENTION, CONVOLUTION, GATED = "attention", "convolution", "CGRU"
BOTH, ALONE = "CGRU + attention", "per position"

Mix = Callable[[int, Reach, Mask | None], nn.Module]
# For each arm: the width of its Transformer, and what mixes positions, for a reach of convolutions and a mask.
ARMS: dict[str, tuple[int, Mix]] = {
    ATTENTION: (44, lambda width, reach, mask: SelfAttention(width, HEADS, mask)),
    CONVOLUTION: (32, lambda width, reach, mask: ConvolutionMemory(width, reach)),
    GATED: (20, lambda width, reach, mask: CGRU(width, reach)),
    BOTH: (20, lambda width, reach, mask: Both(CGRU(width, reach), SelfAttention(width, HEADS, mask))),
    ALONE: (56, lambda width, reach, mask: ConvolutionMemory(width, (0, 0))),
}


class ActiveMemory(TunedClaim):
    """The claim that convolutional active memory can replace attention, and is better for some algorithmic tasks."""

    name = "active_memory"
    title = (
        "Active memory models language as well as attention, and solves some algorithmic tasks better; both are best"
    )
    question = (
        "Attention weighs all positions of a sequence for each. Convolutions change each position by its neighbors, and "
        "what is far away arrives after several layers. Can a Transformer do without attention if it has such an active "
        "memory? Does it predict the next character as well? Which of them reverses, adds or remembers longer "
        "sequences after the same number of steps? And are both together better than each alone?"
    )
    source = (
        "Dowdell & Zhang 2019, Is Attention All What You Need? An Empirical Investigation on Convolution-Based Active "
        "Memory and Self-Attention, 1912.11959"
    )
    arms = {
        ATTENTION: "self-attention with four heads, width 44: 50,391 parameters on the tasks",
        CONVOLUTION: "active memory: GELU of a convolution over 11 positions, width 32: 48,651 parameters",
        GATED: "active memory: a convolutional gated recurrent unit over 11 positions, width 20: 46,131 parameters",
        BOTH: "the sum of both, width 20: 51,171 parameters",
        ALONE: "a network that sees each position alone, width 56: 51,531 parameters; the control",
    }
    control = ALONE
    rates = (0.005, 0.01)
    score = "score"
    chosen = {ATTENTION: 0.005, CONVOLUTION: 0.01, GATED: 0.005, BOTH: 0.01, ALONE: 0.01}
    measures = {
        **{task: Measure(f"{task}: longest length solved", "symbols", "higher", failed=0.0, summary="median")
           for task in TRIED},
        "text": Measure("text: prediction of the next character", "bits per character", "lower", failed=math.log2(len(CHARACTERS))),
        "score": Measure(
            "mean over the tasks of the share of lengths solved, and over the text of the share of bits saved", "share",
            "higher", failed=0.0, summary="median",
        ),
    }  # fmt: skip

    def data(self) -> Mapping[str, str]:
        return {"documentation_text": documentation_text.fingerprint()}

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        found = {task: lengths_solved(arm, task, rate, generator) for task in TRIED}
        bits, losses = text_bits(arm, rate, generator)
        solved = {task: float(lengths[-1]) for task, lengths in found.items()}
        shares = [*map(rungs, solved.values()), 1 - bits / math.log2(len(CHARACTERS))]
        return Measurement(
            values={**solved, "text": bits, "score": float(np.mean(shares))},
            arrays={**found, "loss": losses[::EVERY]},
        )

    def judge(self, results: Results) -> Verdict:
        bits = {arm: results.ratio(arm, ATTENTION, "text") for arm in self.arms}
        return Verdict.of(
            [
                Part(
                    "a CGRU alone needs at most 5% more bits for a character than attention",
                    bits[GATED], "at most", 1.05, "times",
                ),
                Part(
                    "a convolution alone needs at most 5% more bits for a character than attention",
                    bits[CONVOLUTION], "at most", 1.05, "times",
                ),
                Part(
                    "both together need fewer bits than attention alone",
                    bits[BOTH], "at most", 1.0, "times",
                ),
                Part(
                    "both together need fewer bits than the CGRU alone",
                    results.ratio(BOTH, GATED, "text"), "at most", 1.0, "times",
                ),
                Part(
                    "the CGRU alone adds longer numbers than attention, in at least half of the runs",
                    longer(results, GATED, ATTENTION, "add"), "at least", 0.5, "of runs",
                ),
                Part(
                    "the CGRU alone adds longer numbers than both together, in at least half of the runs",
                    longer(results, GATED, BOTH, "add"), "at least", 0.5, "of runs",
                ),
                Part(
                    "attention remembers longer sequences than the CGRU alone, in at least half of the runs",
                    longer(results, ATTENTION, GATED, "remember"), "at least", 0.5, "of runs",
                ),
            ],
            control=Part(
                "a network that sees each character alone needs at most 5% more bits than attention",
                bits[ALONE], "at most", 1.05, "times",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        bits = {arm: number(results.summary(arm, "text").estimate) for arm in self.arms}
        mixing = [arm for arm in self.arms if arm != ALONE]
        told = "; ".join(
            f"{task} " + ", ".join(f"{results.summary(arm, task).estimate:g}" for arm in mixing) for task in TRIED
        )
        return (
            f"For a character of text attention needs {bits[ATTENTION]} bits, a convolution {bits[CONVOLUTION]}, a CGRU "
            f"{bits[GATED]}, CGRU and attention together {bits[BOTH]}, and a network that sees each character alone "
            f"{bits[ALONE]}. Within {STEPS} steps they solve these lengths, of at most {LENGTHS[-1]} symbols (medians of "
            f"{', '.join(mixing)}): {told}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        losses = {arm: results.stack(arm, "loss") for arm in self.arms}
        learning = [
            figures.curves(
                {arm: results.stack(arm, task) for arm in self.arms}, CHECK, "step", f"{task}: length solved, symbols"
            )
            for task in TRIED
        ]  # fmt: skip
        return [
            Picture(
                "The longest length that each arm solved in each task, and its prediction of text: a dot for each seed, and the "
                "median or the mean with its interval. Lengths are 4, 6, 8, 12 and 16 symbols, or 0 for none.",
                *comparison(results, [*TRIED, "text"]),
            ),
            Picture(
                "The longest length solved after so many steps: the median over seeds, and the middle half of them.",
                *learning,
            ),
            Picture(
                "Training on text, by step: the median over seeds, and the middle half of them.",
                figures.curves(losses, EVERY, "step", "bits per character"),
            ),
        ]


def longer(results: Results, first: str, second: str, task: str) -> Interval:
    """The share of runs in which the first arm solves longer sequences of a task than the second."""
    seeds = results.seeds(first, second)
    return share(results.values(first, task, seeds) > results.values(second, task, seeds))


def rungs(length: float) -> float:
    """The share of `LENGTHS` that are solved if this is the longest."""
    return sum(length >= each for each in LENGTHS) / len(LENGTHS)


def transformer(arm: str, alphabet: int, longest: int, reach: Reach, mask: Mask | None = None) -> SequenceTransformer:
    """The Transformer of an arm."""
    width, mix = ARMS[arm]
    return SequenceTransformer(alphabet, width, [mix(width, reach, mask) for _ in range(LAYERS)], longest)


def lengths_solved(arm: str, task: str, rate: float, generator: torch.Generator) -> np.ndarray:
    """The longest length solved by each test, of which there is one after every `CHECK` steps; 0 before the first.

    Every step trains on sequences of one length, the shortest that is not solved yet. If all are solved before the
    budget ends, training ends with them.
    """
    model = transformer(arm, ALPHABET, LENGTHS[-1], AROUND)
    found = np.zeros(STEPS // CHECK + 1)
    solved = 0  # so many of the lengths

    def loss() -> Tensor:
        return errors(model, TASKS[task](BATCH, LENGTHS[solved], generator))

    for step, _ in enumerate(descend(model, loss, STEPS, rate), 1):
        if step % CHECK:
            continue
        if share_right(model, TASKS[task](TEST, LENGTHS[solved], generator)) >= SOLVED:
            found[step // CHECK :] = LENGTHS[solved]
            solved += 1
        if solved == len(LENGTHS):
            break
    return found


def errors(model: nn.Module, drawn: Sequences) -> Tensor:
    """The cross-entropy of the symbols that are asked for."""
    return F.cross_entropy(model(drawn.inputs).mT, drawn.targets.masked_fill(~drawn.asked, -100), ignore_index=-100)


@torch.no_grad()
def share_right(model: nn.Module, drawn: Sequences) -> float:
    """The share of the symbols asked for that are right."""
    right = model(drawn.inputs).argmax(-1) == drawn.targets
    return float(right[drawn.asked].float().mean())


def text_bits(arm: str, rate: float, generator: torch.Generator) -> tuple[float, np.ndarray]:
    """Bits per character on text that was not for training, and those of the batch of each step."""
    model = transformer(arm, len(CHARACTERS), TEXT_LENGTH, BEFORE, causal)
    train, test = characters()

    def loss() -> Tensor:
        return next_character(model, excerpts(train, TEXT_BATCH, TEXT_LENGTH + 1, generator))

    losses = np.array(list(descend(model, loss, TEXT_STEPS, rate)))
    with torch.no_grad():
        tested = next_character(model, excerpts(test, TEXT_TEST, TEXT_LENGTH + 1, generator))
    return float(tested) / math.log(2), losses / math.log(2)


def next_character(model: nn.Module, text: Int[Tensor, "batch longer"]) -> Tensor:
    """The cross-entropy of each character but the first, predicted from those before it."""
    return F.cross_entropy(model(text[:, :-1]).mT, text[:, 1:])
