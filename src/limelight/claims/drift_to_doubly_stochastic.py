"""Drift to doubly stochastic: do the columns of attention, too, come to sum to one while a model learns?

The rows of softmax attention sum to one, and nothing makes its columns do so. Sander et al. (Sinkformers, 2110.11773)
see that during training they do so nearly by themselves in most columns, which is their reason to enforce it. A column
sum is the weight that a token gets from all queries: far above one at an attention sink, near zero at a token that is
explained away.

A small vision transformer learns digits here, and its column sums are taken at several steps, without storing its
weights. With the usual first weights all its attention is nearly uniform, and so doubly stochastic before anything is
learned. So it is also trained from queries and keys that are four times as large, where attention starts sharp. A
trained sentence encoder is compared with both kinds of twins: one with the weights with which its training would begin,
and one with random matrices of the trained size. Models that read from left to right are left out: n queries see their
first key and one sees the last, so that their columns cannot all sum to one.

The step size is the same in all arms, which do not compete; it was not searched for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.data import digits, passages
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.statistics import Interval, median
from limelight.experiment.verdict import Part, Verdict
from limelight.microscope import attach
from limelight.models.fresh import fresh
from limelight.models.image_classifiers import SmallViT
from limelight.models.readers import ENCODER, missing_readers, reader, scrambled, untrained, weights_of_readers
from limelight.models.training import batch_loss, descend
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

PASSAGES = 66  # with this many, a replication's seeds, from 1,000,000 on, have other passages than the first thirty
TRAIN, TEST, SEEN = 1200, 500, 64  # digits to learn from and to be tested on, and those whose attention is looked at
BATCH, RATE = 64, 0.003
AT = (0, 10, 25, 50, 100, 200, 400)  # steps at which the column sums are taken
LARGER = 4.0  # times as large are queries and keys at a sharp start, so that scores are 16 times as large
NEAR = 0.25  # a column sums nearly to one if it is no farther from it
DRIFT = 0.8  # of the deviation, at most, is left after a drift
VIT, VIT_SHARP, FROZEN = "vision transformer", "vision transformer, sharp start", "sharp start, frozen queries and keys"
BERT, BERT_SIZE = "MiniLM", "MiniLM, from its size"
TRAINED_HERE = {VIT: (1.0, False), VIT_SHARP: (LARGER, False), FROZEN: (LARGER, True)}


class DriftToDoublyStochastic(Claim):
    """The claim that attention comes nearer to being doubly stochastic while a model learns."""

    name = "drift_to_doubly_stochastic"
    title = "Softmax attention drifts towards doubly stochastic while a model learns"
    question = (
        "The weights of a query sum to one. While a model learns, do the weights that a token gets come to sum to one, too? "
        "A small vision transformer is watched as it learns digits, from an attention that starts nearly uniform and from one "
        "that starts sharp, and a trained sentence encoder is compared with twins that learned nothing. Do most tokens get a "
        "weight near one in the end?"
    )
    source = "Sander, Ablin, Blondel & Peyré 2022, Sinkformers, 2110.11773; all-MiniLM-L6-v2"
    arms = {
        VIT: "learns digits of 16 patches from the usual first weights, with attention nearly uniform",
        VIT_SHARP: "the same with queries and keys four times as large at the start",
        BERT: "a trained encoder on a passage; its start are the weights with which its training would begin",
        BERT_SIZE: "the same; its start are random matrices as large as the trained ones",
        FROZEN: "the vision transformer with a sharp start, whose queries' and keys' maps do not learn: the control",
    }
    control = FROZEN
    measures = {
        "start": Measure("deviation of the column sums from one at the start", "root mean square", "neither", failed=0.0, summary="median"),
        "most": Measure("the largest deviation while learning", "root mean square", "neither", failed=float("inf"), summary="median"),
        "end": Measure("deviation of the column sums from one in the end", "root mean square", "neither", failed=float("inf"), summary="median"),
        "near": Measure("columns that sum to between 0.75 and 1.25 in the end", "share", "neither", failed=0.0),
    }  # fmt: skip

    def data(self) -> Mapping[str, str]:
        return {**weights_of_readers(), "passages": passages.fingerprint(), "digits": digits.fingerprint()}

    def missing(self) -> str:
        return missing_readers()

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the trained encoder's sums

    def measure(self, arm: str, seed: int) -> Measurement:
        if arm in TRAINED_HERE:
            sums, accuracy = while_learning(*TRAINED_HERE[arm], seed)
        else:
            sums, accuracy = [of_encoder(kind, seed) for kind in (arm, "")], []
        deviations = [deviation(each) for each in sums]
        return Measurement(
            values={
                "start": deviations[0],
                "most": max(deviations),
                "end": deviations[-1],
                "near": float(((sums[-1] - 1).abs() <= NEAR).double().mean()),
            },
            arrays={"deviations": np.array(deviations), "accuracy": np.array(accuracy), "sums": quantiles(sums)},
        )

    def judge(self, results: Results) -> Verdict:
        parts = [
            *(
                Part(
                    f"{arm}: in the end the column sums deviate by at most {DRIFT} times as much as at the start",
                    change(results, arm, "start"), "at most", DRIFT, "times",
                )
                for arm in (VIT, VIT_SHARP, BERT, BERT_SIZE)
            ),
            Part(
                f"{VIT}: in the end they deviate by at most {DRIFT} times as much as at their largest deviation while learning",
                change(results, VIT, "most"), "at most", DRIFT, "times",
            ),
            *(
                Part(
                    f"{arm}: in the end at least half of the columns sum to between 0.75 and 1.25",
                    results.summary(arm, "near"), "at least", 0.5, "of columns",
                )
                for arm in (VIT, VIT_SHARP, BERT)
            ),
        ]  # fmt: skip
        return Verdict.of(
            parts,
            control=Part(
                f"if queries' and keys' maps do not learn, the column sums deviate by at most {DRIFT} times as much in the end",
                change(results, FROZEN, "start"), "at most", DRIFT, "times",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        of = {
            (arm, name): number(results.summary(arm, name).estimate) for arm in self.arms for name in ("start", "end")
        }
        near = {arm: f"{results.summary(arm, 'near').estimate:.0%}" for arm in self.arms}
        accuracy = [results.stack(arm, "accuracy")[:, -1].mean() for arm in (VIT, VIT_SHARP)]
        return (
            f"While a small vision transformer learns digits, the root mean square deviation of its column sums from one goes from "
            f"{of[VIT, 'start']} to {of[VIT, 'end']}, and from a sharp start from {of[VIT_SHARP, 'start']} to {of[VIT_SHARP, 'end']} "
            f"(with frozen queries and keys to {of[FROZEN, 'end']}); it then names {accuracy[0]:.0%} and {accuracy[1]:.0%} of unseen "
            f"digits. In trained MiniLM it is {of[BERT, 'end']}, with weights as before training {of[BERT, 'start']}, and with random "
            f"ones of the trained size {of[BERT_SIZE, 'start']}. Between 0.75 and 1.25 are in the end {near[VIT]}, {near[VIT_SHARP]} "
            f"and {near[BERT]} of the columns."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        learned = {arm: results.stack(arm, "deviations") for arm in TRAINED_HERE}
        sums = {arm: results.stack(arm, "sums") for arm in self.arms}
        share = [100 * place for place in PLACES[:-1]]
        return [
            Picture(
                "How far column sums are from one at the start and in the end. A dot for each network, or each text.",
                *comparison(results, ["start", "end", "near"]),
            ),
            Picture(
                "The deviation of the column sums from one while the vision transformer learns: the median over networks, and the middle half.",
                figures.curves(learned, AT, "steps", "deviation"),
            ),
            Picture(
                "All column sums but the largest twentieth, in the order of their size, in the end: the median over networks or texts, and the middle half. "
                "Doubly stochastic attention would be a level line at one.",
                figures.curves(
                    {arm: found[:, -1, :-1] for arm, found in sums.items() if arm != BERT_SIZE and len(found)}, share,
                    "percent of the columns", "column sum",
                ),
            ),
        ]  # fmt: skip


PLACES = tuple(i / 20 for i in range(21))


def change(results: Results, arm: str, since: str) -> Interval:
    """The deviation in the end divided by that at another time, as the median over seeds."""
    end, before = (results.values(arm, name) for name in ("end", since))
    return median(np.log(end) - np.log(before)).map(np.exp)


def deviation(sums: Float[Tensor, "*rest n"]) -> float:
    """√ mean (c_j − 1)² of column sums c_j = Σ_i P_ij: 0 if P is doubly stochastic, √(n − 1) if one key gets all.

    >>> import torch
    >>> from limelight.claims.drift_to_doubly_stochastic import deviation
    >>> deviation(torch.ones(3, 5)), deviation(torch.tensor([5.0, 0, 0, 0, 0]))
    (0.0, 2.0)
    """
    return float((sums.double() - 1).square().mean().sqrt())


def quantiles(sums: Sequence[Tensor]) -> np.ndarray:
    """The column sums at some places of their order, at each time."""
    at = torch.tensor(PLACES, dtype=torch.float64)
    return torch.stack([each.double().flatten().quantile(at) for each in sums]).numpy()


def while_learning(larger: float, is_frozen: bool, seed: int) -> tuple[list[Tensor], list[float]]:
    """(the column sums at the steps `AT`, the accuracy on unseen digits then)."""
    generator = torch.Generator().manual_seed(seed)
    seen, unseen = digits.split(TRAIN, TEST, generator)
    model = fresh(lambda: SmallViT(8, 2, 10), seed)
    prepare(model, larger, is_frozen)
    learning = descend(model, batch_loss(model, *seen, BATCH, generator), AT[-1], RATE)
    sums, accuracy = [], []
    for steps in np.diff(AT, prepend=0):
        steps_of(learning, int(steps))
        sums.append(of_images(model, unseen[0][:SEEN]))
        with torch.no_grad():
            accuracy.append(float((model(unseen[0]).argmax(-1) == unseen[1]).float().mean()))
    return sums, accuracy


def steps_of(learning: Iterator[float], steps: int) -> None:
    for _ in islice(learning, steps):
        pass


@torch.no_grad()
def prepare(model: SmallViT, larger: float, is_frozen: bool) -> None:
    """Make the first queries and keys of all blocks larger; if frozen, their maps get no gradient, only the values' do."""
    for block in model.blocks:
        for parameter in block.qkv.parameters():  # type: ignore[union-attr]
            own = 2 * len(parameter) // 3  # the rows of queries and keys
            parameter[:own] *= larger
            if is_frozen:
                parameter.register_hook(partial(without_first, own))


def without_first(rows: int, gradient: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(gradient[:rows]), gradient[rows:]])


@torch.no_grad()
def of_images(model: SmallViT, images: Float[Tensor, "images h w"]) -> Float[Tensor, "blocks images heads n"]:
    """The column sums of every head on every image; no weights are stored."""
    found: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda own, args: found.append(column_sums(own, args[0])))
        for block in model.blocks
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


def column_sums(block: Any, h: Float[Tensor, "images n width"]) -> Float[Tensor, "images heads n"]:
    q, k, _ = block.qkv(block.norms[0](h)).unflatten(-1, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
    return Attention(q, k).column_mass()


@cache
@torch.no_grad()
def of_encoder(kind: str, seed: int) -> Float[Tensor, "layers heads n"]:
    """The column sums of the trained encoder, or of one of its twins, on a passage."""
    own = reader(ENCODER)
    twins = {BERT: untrained, BERT_SIZE: scrambled}
    model = twins[kind](own.model, seed) if kind in twins else own.model
    with attach(model) as scope:
        model(**own.tokens(passages.passages()[seed % PASSAGES]))
    return torch.stack([P.column_mass() for P in scope])
