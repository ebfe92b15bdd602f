"""Faithful to the source: what cross-attention carries from the encoder to the decoder of a trained translator.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) says of the Transformer that the focus on the encoder's output keeps
the output faithful. Here an English–Portuguese model translates passages. Its decoder remembers its own words by a
recurrence, so that cross-attention is all that it knows of the source. What it looks at, the memory, is one vector for each
token of the source, and is changed while everything else stays.

Attention knows no order of keys: a memory in another order gives the same output. Where a word stands has to be in its
vector, which the encoder puts there: words in another order, before the encoder, give another output. If each vector of
the memory becomes the mean of all, each query gets the same, which is what even weights would give, and nothing is left
to look for. How much of the translation this loses is the question, and how that compares with no memory, and with the
memory of another passage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight import figures
from limelight.data import passages
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.models.marian import END, TOKENIZER, TRANSLATOR, english_to_portuguese
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

PASSAGES = 66  # with this many, a replication's seeds, from 1,000,000 on, have other passages than the first thirty
LONGEST = 2  # times as many tokens as the source has, at which a translation is cut
WHOLE, SHUFFLED, MEAN, NONE = "memory as it is", "memory in another order", "mean of the memory", "no memory"
WORDS, OTHER = "words in another order", "memory of another passage"


class FaithfulTranslation(Claim):
    """The claim that cross-attention keeps the output of a translator faithful to its source."""

    name = "faithful_translation"
    title = "Cross-attention keeps a translation faithful to its source"
    question = (
        "A trained translator looks at its source by cross-attention only. Does the translation stay the same if the vectors that it "
        "looks at are given in another order? Is it lost if each of them becomes the mean of all, or is more left then than with the "
        "memory of another passage? And what if the words are in another order before they are encoded?"
    )
    source = (
        "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known), Transformer; Vaswani et al. 2017 "
        "(1706.03762); an English–Portuguese model of Marian"
    )
    arms = {
        WHOLE: "the memory that the encoder made, one vector for each token",
        SHUFFLED: "the same vectors in a random order",
        MEAN: "each vector is the mean of all",
        NONE: "each vector is zero",
        WORDS: "the memory of the same words in a random order",
        OTHER: "the memory of another passage: the control",
    }
    control = OTHER
    measures = {
        "same": Measure("passages with the same translation, token for token", "share", "higher", failed=0.0),
        "overlap": Measure(
            "tokens that the translation shares with that of the whole memory", "F1", "higher", failed=0.0
        ),
        "rise": Measure(
            "rise of the loss of the translation of the whole memory", "nats a token", "lower", failed=float("inf"),
            summary="median",
        ),
        "moved": Measure(
            "largest change of the log-probability of any token, after any of its words", "nats", "lower",
            failed=float("inf"), summary="exact",
        ),
        "kept": Measure("translations that stay the same, as each run says", "0 or 1", "higher", failed=0.0, summary="exact"),
    }  # fmt: skip

    def data(self) -> Mapping[str, str]:
        return {"weights": TRANSLATOR.sha256, "tokenizer": TOKENIZER.sha256, "passages": passages.fingerprint()}

    def missing(self) -> str:
        return TRANSLATOR.missing()

    @torch.no_grad()
    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the translation

    def measure(self, arm: str, seed: int) -> Measurement:
        model, _ = english_to_portuguese()
        source, own, right = translated(seed)
        memory = memory_of(arm, seed)
        found = model.translate(memory, LONGEST * len(source))
        changed = model.scores(model.states(own, memory)).log_softmax(-1)
        places = torch.arange(len(right)), torch.cat([own, torch.tensor([END])])
        return Measurement(
            values={
                "same": float(torch.equal(found, own)),
                "overlap": shared(found.tolist(), own.tolist()),
                "rise": float((right[places] - changed[places]).mean()),
                "moved": float((right - changed).abs().max()),
                "kept": float(torch.equal(found, own)),
            },
            arrays={
                "weights": weights_of_last_layer(own, memory).numpy().round(3),
                "losses": -changed[places].numpy().round(4),
            },
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "in another order, the memory gives every token the same log-probability, within 0.001",
                    results.summary(SHUFFLED, "moved"), "at most", 1e-3, "nats",
                ),
                Part(
                    "and the same translation of every passage, token for token",
                    results.summary(SHUFFLED, "kept"), "at least", 1.0, "",
                ),
                Part(
                    "with the mean of the memory, the translation shares at most three tenths of its tokens with the true one",
                    results.summary(MEAN, "overlap"), "at most", 0.3, "F1",
                ),
                Part(
                    "with the mean of the memory, the loss of the translation rises by at least 2 nats a token",
                    results.summary(MEAN, "rise"), "at least", 2.0, "nats a token",
                ),
                Part(
                    "nothing is left: the loss is at most 0.5 nats a token less than with the memory of another passage",
                    results.difference(OTHER, MEAN, "rise"), "at most", 0.5, "nats a token",
                ),
                Part(
                    "with the words in another order before they are encoded, at most a tenth of the translations stay the same",
                    results.share(WORDS, "same", "at least", 1.0), "at most", 0.1, "of passages",
                ),
            ],
            control=Part(
                "with the memory of another passage, the translation shares at least half of its tokens with the true one",
                results.summary(OTHER, "overlap"), "at least", 0.5, "F1",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        overlap, rise = (
            {arm: number(results.summary(arm, measure).estimate) for arm in self.arms}
            for measure in ("overlap", "rise")
        )
        moved = results.values(SHUFFLED, "moved")
        same = results.summary(SHUFFLED, "same").estimate
        return (
            f"With its memory in another order the model gives the same translation of {same:.0%} of the passages; no log-probability "
            f"moves by more than {number(float(moved.max(initial=0.0)))} nats. With the mean of the memory the translation shares "
            f"{overlap[MEAN]} of its tokens with the true one (F1), whose loss rises by {rise[MEAN]} nats a token; without memory it is "
            f"{overlap[NONE]} and {rise[NONE]} nats, with that of another passage {overlap[OTHER]} and {rise[OTHER]} nats, and with the "
            f"words in another order before they are encoded {overlap[WORDS]} and {rise[WORDS]} nats."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        weights = {arm: results.array(arm, "weights", seed) for arm in (WHOLE, SHUFFLED, MEAN)}
        return [
            Picture(
                "What is left of the translation, and what it costs. A dot for each passage.",
                *comparison(results, ["overlap", "rise"]),
            ),
            Picture(
                f"Where the decoder's last layer looks while it writes the translation of the passage of seed {seed}: the mean weight "
                "over heads. In another order the columns are exchanged; the mean of the memory leaves nothing to choose.",
                *figures.matrices(weights, "token of the memory", "token of the translation", "weight"),
            ),
        ]


@cache
@torch.no_grad()
def encoded(seed: int) -> tuple[Int[Tensor, " s"], Float[Tensor, "s width"]]:
    """A passage as tokens, and its memory."""
    model, tokenizer = english_to_portuguese()
    source = torch.tensor([*tokenizer.encode(passages.passages()[seed % PASSAGES]).ids, END])
    return source, model.encode(source)


@cache
@torch.no_grad()
def translated(seed: int) -> tuple[Int[Tensor, " s"], Int[Tensor, " t"], Float[Tensor, "t_and_one tokens"]]:
    """A passage, its translation, and the log-probabilities of every token along it. Arms share it."""
    model, _ = english_to_portuguese()
    source, memory = encoded(seed)
    own = model.translate(memory, LONGEST * len(source))
    return source, own, model.scores(model.states(own, memory)).log_softmax(-1)


@torch.no_grad()
def memory_of(arm: str, seed: int) -> Float[Tensor, "s width"]:
    """What the decoder looks at."""
    source, memory = encoded(seed)
    order = torch.randperm(len(source) - 1, generator=torch.Generator().manual_seed(seed))
    if arm == WORDS:
        return english_to_portuguese()[0].encode(torch.cat([source[order], source[-1:]]))
    if arm == OTHER:
        return encoded(seed + PASSAGES // 2)[1]
    if arm == SHUFFLED:
        return torch.cat([memory[-1:], memory[order]])
    return {WHOLE: memory, MEAN: memory.mean(0).expand_as(memory), NONE: torch.zeros_like(memory)}[arm]


def shared(found: Sequence[int], right: Sequence[int]) -> float:
    """2 |found ∩ right| / (|found| + |right|), tokens counted as often as they occur: 1 for the same tokens in any order."""
    common = sum((Counter(found) & Counter(right)).values())
    return 2 * common / max(len(found) + len(right), 1)


@torch.no_grad()
def weights_of_last_layer(target: Int[Tensor, " t"], memory: Float[Tensor, "s width"]) -> Float[Tensor, "t_and_one s"]:
    """The weights of the last layer's cross-attention, the mean over heads."""
    model, _ = english_to_portuguese()
    last: Any = model.decoder[-1]
    looking: list[Tensor] = []
    hook = last.cross.register_forward_pre_hook(lambda _block, given: looking.append(given[0]))
    try:
        model.states(target, memory)
    finally:
        hook.remove()
    return last.cross.attention(looking[0], memory).dense().mean(0)
