"""Relevancy screening: a recurrent network that attends to a few well-chosen states of its past.

Kerg et al. (2006.09471) prove that self-attention into the past keeps the gradients of a recurrent network from
vanishing: that of a state t steps back falls like a power of t with attention, and exponentially without. Attention to
all states takes time and memory that grow with the sequence. So they keep a short buffer and a few of the states that
have left it, those that got the most attention there, and report that this remembers as well at a fixed cost.

Here the networks have to remember three symbols for 25 steps. Their programs have delays of 300 to 1,000 steps, ten
symbols of an alphabet of eight, networks four times as wide that attend to 10 + 15 states, and 20,000 to 200,000
updates, for which there is no time here. The gradients of networks that have not been trained, and the cost of a step,
are measured at longer delays.

A weak baseline would make any mechanism look good. An LSTM whose forget gates start half open, as theirs do, halves its
memory at each step; so another arm is an LSTM whose forget gates start open.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limelight import figures
from limelight.data.copy_memory import LENGTH, SYMBOLS, TOKENS, copy_memory, denoise
from limelight.errors import DivergenceError
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.statistics import Interval
from limelight.experiment.verdict import Part, Verdict
from limelight.models.recurrent_attention import LastStates, Memory, RecurrentAttention
from limelight.models.relevancy_screening import RelevancyScreening
from limelight.models.side_by_side import descend_side_by_side
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

BLANKS, WIDTH, BATCH, STEPS, TEST = 25, 32, 16, 400, 200
BUFFER, KEPT = 5, 5
RUNS = 10  # networks that are trained side by side: those of the seeds 0 to 9, of 10 to 19, and so on
EVERY = 10  # steps between two points of a curve
LEARNED = 0.9  # the share of symbols that a run has to say rightly; a guess is right in one of four
DELAYS = (50, 100, 200)  # blanks, for the gradients of untrained networks
SEQUENCES = 4  # for such a gradient
AT = (100, 200, 500, 1000)  # steps after which the cost of a step is measured
LAST = 40  # steps whose median time counts as the time of one
OPEN = math.log(BLANKS + LENGTH)  # then a gate of 1 − 1/(delay) keeps most of the memory over the whole delay

LSTM, OPENED, FULL = "LSTM", "LSTM, open gates", "all states"
SCREENED, WINDOW = "screened states", "last states"

# For each arm, what it remembers, and the bias at which its forget gates start.
ARMS: dict[str, tuple[Callable[[], Memory] | None, float]] = {
    LSTM: (None, 0.0),
    OPENED: (None, OPEN),
    FULL: (LastStates, 0.0),
    SCREENED: (lambda: RelevancyScreening(BUFFER, KEPT), 0.0),
    WINDOW: (lambda: LastStates(BUFFER + KEPT), 0.0),
}
TASKS = {"copy": copy_memory, "denoise": denoise}


class RelevancyScreeningClaim(TunedClaim):
    """The claim that attention to a few screened states keeps gradients and memories at a fixed cost."""

    name = "relevancy_screening"
    title = (
        "A recurrent network remembers over long delays if it attends to a few states that got much attention before"
    )
    question = (
        "Three symbols have to be said again after 25 steps in which nothing comes, or lie anywhere among blanks. Does "
        "attention to earlier states keep the gradients of an LSTM from vanishing, and does it then learn what the LSTM "
        "alone does not? Are ten states as good as all of them if five of the ten are those that got the most attention "
        "while they were new? And is an LSTM whose forget gates start open not as good?"
    )
    source = (
        "Kerg, Kanuparthi, Goyal, Goyette, Bengio & Lajoie 2020, Untangling tradeoffs between recurrence and "
        "self-attention in neural networks, 2006.09471"
    )
    arms = {
        LSTM: "no attention; forget gates start half open, as in the paper",
        OPENED: f"no attention; the bias of the forget gates starts at ln {BLANKS + LENGTH}",
        FULL: "an LSTM that attends to all its earlier states",
        SCREENED: f"an LSTM that attends to its last {BUFFER} states, and to the {KEPT} that got the most attention before",
        WINDOW: f"an LSTM that attends to its last {BUFFER + KEPT} states: the control",
    }
    control = WINDOW
    rates = (0.01, 0.02, 0.04)
    score = "both"
    chosen = {LSTM: 0.04, OPENED: 0.04, FULL: 0.04, SCREENED: 0.04, WINDOW: 0.04}
    measures = {
        "copy": Measure("symbols right, copy memory", "share", "higher", failed=0.0, summary="median"),
        "denoise": Measure("symbols right, denoise", "share", "higher", failed=0.0, summary="median"),
        "both": Measure("symbols right, mean of both tasks", "share", "higher", failed=0.0, summary="median"),
        "held": Measure(
            "symbols still remembered, denoise", "share", "neither",
            failed=0.0, summary="median",
        ),
        "lost": Measure(
            f"gradient lost over {DELAYS[-1]} blanks",
            "powers of ten", "lower", failed=math.inf, summary="median",
        ),
        "exponent": Measure(
            "gradient by delay, as a power", "exponent", "higher", failed=-math.inf,
            summary="median",
        ),
        "attended": Measure(
            f"most states that a step attends to, of {AT[-1]} steps", "states", "lower", failed=math.inf,
            summary="exact",
        ),
        "growth": Measure(
            f"memory after {AT[-1]} steps, compared with that after {AT[0]}", "times", "lower", failed=math.inf,
            summary="exact",
        ),
        "slowdown": Measure(
            f"time of a step after {AT[-1]} steps, compared with that after {AT[0]}", "times", "lower",
            failed=math.inf, summary="median",
        ),
    }  # fmt: skip

    def shares(self, arm: str, seed: int) -> tuple[str, int]:
        return arm, seed // RUNS  # networks that are trained side by side

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        first = seed - seed % RUNS
        runs = {task: trained(arm, task, rate, first, RUNS, STEPS) for task in TASKS}
        mine = {task: run.of(seed - first) for task, run in runs.items()}
        accuracy = {task: mine[task]["accuracy"].item() for task in TASKS}
        return Measurement(
            values={**accuracy, "both": sum(accuracy.values()) / len(accuracy), "held": mine["denoise"]["held"].item()},
            arrays={f"{name} {task}": mine[task][name].numpy() for task in TASKS for name in ("loss", "gradient")},
        )

    def measure(self, arm: str, seed: int) -> Measurement:
        found = super().measure(arm, seed)
        gradients, cost = untrained_gradients(arm, seed), cost_of_steps(arm, seed)
        at_start = np.log([gradient[:LENGTH].mean() for gradient in gradients])
        long = np.log10(gradients[-1])
        return Measurement(
            values={
                **found.values,
                "lost": float(long[-LENGTH:].mean() - long[:LENGTH].mean()),
                "exponent": float(np.polyfit(np.log(DELAYS), at_start, 1)[0]),
                "attended": float(cost["attended"].max()),
                "growth": float(cost["bytes"][-1] / cost["bytes"][0]),
                "slowdown": float(cost["seconds"][-1] / cost["seconds"][0]),
            },
            arrays={**found.arrays, "gradient": gradients[-1], **cost},
        )

    def judge(self, results: Results) -> Verdict:
        def learns(arm: str, task: str) -> Interval:
            return results.share(arm, task, "at least", LEARNED)

        return Verdict.of(
            [
                Part(
                    "attention to screened states learns copy memory, which is to say 90% of the symbols rightly, in at "
                    "least 60% of runs",
                    learns(SCREENED, "copy"), "at least", 0.6, "of runs",
                ),
                Part(
                    "so does attention to all states",
                    learns(FULL, "copy"), "at least", 0.6, "of runs",
                ),
                Part(
                    "the LSTM learns it in at most 30% of runs",
                    learns(LSTM, "copy"), "at most", 0.3, "of runs",
                ),
                Part(
                    "screened states say at least 0.2 more of the symbols rightly than the LSTM",
                    results.difference(SCREENED, LSTM, "copy"), "at least", 0.2, "share",
                ),
                Part(
                    "and at least 0.2 more than an LSTM whose forget gates start open",
                    results.difference(SCREENED, OPENED, "copy"), "at least", 0.2, "share",
                ),
                Part(
                    "and at least 0.1 more than attention to as many last states",
                    results.difference(SCREENED, WINDOW, "copy"), "at least", 0.1, "share",
                ),
                Part(
                    "screened states learn denoise in at least 60% of runs",
                    learns(SCREENED, "denoise"), "at least", 0.6, "of runs",
                ),
                Part(
                    "and say at least 0.05 more of its symbols rightly than the LSTM",
                    results.difference(SCREENED, LSTM, "denoise"), "at least", 0.05, "share",
                ),
                Part(
                    "when the answer of denoise begins, screening remembers at least 0.1 more of the symbols than a "
                    "window of as many states",
                    results.difference(SCREENED, WINDOW, "held"), "at least", 0.1, "share",
                ),
                Part(
                    f"over {DELAYS[-1]} blanks the LSTM's gradient falls by at least twenty powers of ten",
                    results.summary(LSTM, "lost"), "at least", 20.0, "powers of ten",
                ),
                Part(
                    "with attention to all states it falls no faster than the inverse of the delay",
                    results.summary(FULL, "exponent"), "at least", -1.25, "exponent",
                ),
                Part(
                    "with screened states it hardly depends on the delay",
                    results.summary(SCREENED, "exponent"), "at least", -0.5, "exponent",
                ),
                Part(
                    f"of {AT[-1]} steps with screening none attends to more than {BUFFER + KEPT} states",
                    results.summary(SCREENED, "attended"), "at most", BUFFER + KEPT, "states",
                ),
                Part(
                    "the memory of screening does not grow",
                    results.summary(SCREENED, "growth"), "at most", 1.0, "times",
                ),
                Part(
                    f"a step with screening takes at most 1.5 times as long after {AT[-1]} steps as after {AT[0]}",
                    results.summary(SCREENED, "slowdown"), "at most", 1.5, "times",
                ),
                Part(
                    "with attention to all states it takes more than 1.5 times as long",
                    results.summary(FULL, "slowdown"), "at least", 1.5, "times",
                ),
            ],
            control=Part(
                "with attention to as many last states the gradient falls by at most three powers of ten",
                results.summary(WINDOW, "lost"), "at most", 3.0, "powers of ten",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        learned, found = (
            {arm: f"{results.share(arm, task, 'at least', LEARNED).estimate:.0%}" for arm in self.arms}
            for task in TASKS
        )
        lost = {arm: number(results.summary(arm, "lost").estimate) for arm in self.arms}
        slow = {arm: number(results.summary(arm, "slowdown").estimate) for arm in (SCREENED, FULL)}
        return (
            f"Three symbols are remembered for {BLANKS} steps by {learned[SCREENED]} of recurrent networks that attend to ten "
            f"states chosen by relevancy, by {learned[FULL]} of those that attend to all states, by {learned[WINDOW]} of those "
            f"that attend to the last ten, by {learned[LSTM]} of LSTMs, and by {learned[OPENED]} of LSTMs whose forget gates "
            f"start open; where the symbols lie anywhere among blanks, by {found[SCREENED]}, {found[FULL]}, {found[WINDOW]}, "
            f"{found[LSTM]} and {found[OPENED]}. Over {DELAYS[-1]} steps the gradient of an untrained network falls by "
            f"{lost[SCREENED]} powers of ten with screening, {lost[FULL]} with all states, {lost[WINDOW]} with the last ten, "
            f"{lost[LSTM]} in the LSTM and {lost[OPENED]} with open gates. After {AT[-1]} steps one more takes {slow[SCREENED]} "
            f"times as long as after {AT[0]} with screening, and {slow[FULL]} times with all states."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        def stacks(name: str) -> dict[str, np.ndarray]:
            return {arm: results.stack(arm, name) for arm in self.arms}

        return [
            Picture(
                "Symbols that are said rightly after training: a dot for each seed, and the median with its interval. A guess "
                "is right in one of four.",
                *comparison(results, ["copy", "denoise"]),
            ),
            Picture(
                f"The length of the gradient of the loss by the state of each step, before training, with {DELAYS[-1]} blanks: "
                "the median over seeds, and the middle half of them. The symbols are the first three steps, and the loss is "
                "that of the last three.",
                figures.curves(stacks("gradient"), 1, "step", "|∂L/∂h|", log=True),
            ),
            Picture(
                f"The same after training, with the {BLANKS} blanks that the networks were trained with: copy memory, and "
                "denoise.",
                figures.curves(stacks("gradient copy"), 1, "step", "|∂L/∂h|", log=True),
                figures.curves(stacks("gradient denoise"), 1, "step", "|∂L/∂h|", log=True),
            ),
            Picture(
                "Training loss by step, copy memory and denoise: the median over seeds, and the middle half of them.",
                figures.curves(stacks("loss copy"), EVERY, "training step", "cross-entropy"),
                figures.curves(stacks("loss denoise"), EVERY, "training step", "cross-entropy"),
            ),
            Picture(
                f"What a step costs after so many steps: the states that it attends to, and its time on one core, for "
                f"{SEQUENCES} sequences at once.",
                figures.curves(stacks("attended"), AT, "steps", "states", log_x=True),
                figures.curves(stacks("seconds"), AT, "steps", "seconds", log=True, log_x=True),
            ),
            Picture(
                f"How many powers of ten the gradient loses over {DELAYS[-1]} blanks before training, and the power of the delay "
                f"with which it falls, from delays of {DELAYS[0]} to {DELAYS[-1]} blanks: 0 if it does not fall, −1 if it falls "
                "like the inverse.",
                *comparison(results, ["lost", "exponent"]),
            ),
            Picture(
                "Symbols of denoise whose states are still in the memory when the answer begins.",
                *comparison(results, ["held"]),
            ),
        ]


class Runs:
    """What training found: for each quantity one number, or one curve, for each network."""

    def __init__(self, diverged: list[bool], found: dict[str, Tensor]) -> None:
        self.diverged, self.found = diverged, found

    def of(self, run: int) -> dict[str, Tensor]:
        """The quantities of one network. Raises `DivergenceError` if it has diverged."""
        if self.diverged[run]:
            raise DivergenceError("the loss or its gradient became NaN or infinite")
        return {name: values[run] for name, values in self.found.items()}


@cache
def trained(arm: str, task: str, rate: float, first: int, runs: int, steps: int) -> Runs:
    """The networks of the seeds `first`, `first` + 1, …, which are trained side by side.

    They are kept, since trials ask for one seed after the other. What a network becomes does not depend on the
    others, but for rounding, and its companions are the same whichever seeds are asked for.
    """
    seeds = range(first, first + runs)
    networks, data = networks_of(arm, seeds), [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(n: int) -> tuple[Int[Tensor, "r n t"], Int[Tensor, "r n s"]]:
        drawn = [TASKS[task](n, BLANKS, generator) for generator in data]
        return torch.stack([tokens for tokens, _ in drawn]), torch.stack([targets for _, targets in drawn])

    def losses() -> Float[Tensor, " r"]:
        tokens, targets = draw(BATCH)
        return cross_entropy(networks(tokens, last=LENGTH), targets).mean(-1)

    curve = torch.stack(list(descend_side_by_side(networks, losses, steps, rate)))
    tokens, targets = draw(TEST)
    found = {
        "loss": curve[::EVERY].T,
        "gradient": networks.gradient_lengths(tokens, loss_against(targets), last=LENGTH),
    }
    with torch.no_grad():
        found["accuracy"] = (networks(tokens, last=LENGTH).argmax(-1) == targets).double().mean((1, 2))
        found["held"] = held(networks, tokens)
    return Runs(curve[-1].isnan().tolist(), found)


def networks_of(arm: str, seeds: Sequence[int]) -> RecurrentAttention:
    """The networks of an arm before training. Their weights come from other random numbers than the data."""
    memory, forget = ARMS[arm]
    generators = [torch.Generator().manual_seed(2**32 + seed) for seed in seeds]
    return RecurrentAttention(TOKENS, WIDTH, SYMBOLS, generators, memory, forget)


def cross_entropy(said: Float[Tensor, "r n s outputs"], targets: Int[Tensor, "r n s"]) -> Float[Tensor, "r n"]:
    """The loss of each sequence, the mean over its symbols."""
    return F.cross_entropy(said.movedim(-1, 1), targets, reduction="none").mean(-1)


def loss_against(targets: Int[Tensor, "r n s"]) -> Callable[[Tensor], Tensor]:
    """The function from what is said to the loss of each sequence."""
    return lambda said: cross_entropy(said, targets)


@torch.no_grad()
def held(networks: RecurrentAttention, tokens: Int[Tensor, "r n t"]) -> Float[Tensor, " r"]:
    """The share of symbols whose states, to the bit, are in the memory when the delimiter has been read."""
    before = tokens[..., :-LENGTH]
    reading = networks.start()
    states = torch.stack([reading.step(x) for x in networks.inputs(before).unbind(-2)], -2)
    if reading.memory is None:
        return states.new_zeros(len(states))
    remembered = reading.memory.states()
    is_held = (states[..., :, None, :] == remembered[..., None, :, :]).all(-1).any(-1)
    is_symbol = before < SYMBOLS
    return (is_held & is_symbol).sum((1, 2)) / is_symbol.sum((1, 2))


def untrained_gradients(arm: str, seed: int) -> list[np.ndarray]:
    """|∂L/∂h_t| of copy memory before training for each delay, in double precision: they are as small as 10⁻⁴⁰."""
    network, data = networks_of(arm, [seed]).double(), torch.Generator().manual_seed(seed)
    found = []
    for blanks in DELAYS:
        tokens, targets = copy_memory(SEQUENCES, blanks, data)
        lengths = network.gradient_lengths(tokens[None], loss_against(targets[None]), last=LENGTH)
        found.append(lengths[0].numpy())
    return found


@torch.no_grad()
def cost_of_steps(arm: str, seed: int) -> dict[str, np.ndarray]:
    """The states attended to, the bytes that are kept for the next step, and the seconds of a step, at each of `AT`."""
    network, data = networks_of(arm, [seed]), torch.Generator().manual_seed(seed)
    tokens, _ = copy_memory(SEQUENCES, AT[-1], data)
    reading, times, attended, kept = network.start(), [], [], []
    for x in network.inputs(tokens[None])[..., : AT[-1], :].unbind(-2):
        start = time.process_time()
        reading.step(x)
        times.append(time.process_time() - start)
        if len(times) in AT:
            attended.append(0 if reading.memory is None else reading.memory.states().shape[-2])
            kept.append(sum(part.numel() * part.element_size() for part in reading.tensors()))
    seconds = [float(np.median(times[at - LAST : at])) for at in AT]
    return {"attended": np.array(attended), "bytes": np.array(kept), "seconds": np.array(seconds)}
