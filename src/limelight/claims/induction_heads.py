"""Induction heads: do a few heads of a language model carry copying from its context?

An induction head looks, from a token that has occurred before, at what followed it then: "… A B … A" looks at B.
Olsson et al. (2209.11895) say that such heads are what lets a model continue a text that it has seen begin. Whether a
head attends so can be seen; that copying depends on it has to be tried, by changing what the head does.

Here a model of 135 million parameters reads random tokens twice. The first time there is nothing to copy, the second
time everything can be. Five of its 270 heads are chosen by how much they attend to what followed earlier occurrences,
on other texts. Their outputs are replaced by their means over the text, and the model runs on with these. The same is
done with five random heads, and with five other heads of the same layers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limelight import figures
from limelight.data.repeats import repeated
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.statistics import Interval, share
from limelight.experiment.verdict import Part, Verdict
from limelight.microscope import MEASURES, Ablate, Scope, attach
from limelight.models.shipped import LANGUAGE_MODEL, language_model
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

HALF = 32  # random tokens, which are read twice
COPIED = slice(HALF, None)  # the predictions from the first repeated token on, which alone could tell of the repetition
LEAST, MOST = 100, 40_000  # the tokens that are drawn: none that separates texts
HEADS = 5  # that are ablated together
CHOOSING = range(10**9, 10**9 + 4)  # seeds of the texts on which heads are chosen
OTHER = 0.1  # a head with a lower induction score is no induction head
INDUCTION, RANDOM, BESIDE = "five induction heads", "five random heads", "five others of the same layers"

Head = tuple[int, int]


class InductionHeads(Claim):
    """The claim that induction heads carry copying from the context."""

    name = "induction_heads"
    title = "A few induction heads carry a language model's copying from its context"
    question = (
        "A language model reads 32 random tokens twice, so that the second time it could copy. Five of its 270 heads "
        "attend most to what followed earlier occurrences of a token. If their outputs are replaced by their means over the "
        "text, does the model lose the second half, and only that? More than if five random heads are replaced, or five "
        "others of the same layers?"
    )
    source = "Olsson et al. 2022, In-context learning and induction heads, 2209.11895; SmolLM2-135M-Instruct"
    arms = {
        INDUCTION: "those with the largest weight on what followed earlier occurrences, on other texts",
        RANDOM: "drawn from the others of the model, anew for each text",
        BESIDE: "drawn from those of the same layers that are no induction heads: the control",
    }
    control = BESIDE
    measures = {
        "rise": Measure(
            "rise of the loss in the repeated half", "nats a token", "neither", failed=math.inf, summary="median"
        ),
        "rise_first": Measure(
            "rise of the loss in the first half", "nats a token", "neither", failed=math.inf, summary="median"
        ),
        "whole": Measure(
            "loss of the whole model in the repeated half", "nats a token", "neither", failed=math.inf, summary="median"
        ),
        "kept": Measure(
            "tokens still predicted, of those that the whole model predicts in the repeated half", "share", "neither",
            failed=0.0, summary="median",
        ),
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"model": LANGUAGE_MODEL.sha256}

    def missing(self) -> str:
        return LANGUAGE_MODEL.missing()

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        ids = repeated(HALF, LEAST, MOST, generator)
        heads = chosen(arm, generator)
        before = losses(ids)
        with scope().intervene(Ablate(heads)):
            after = losses(ids)
        rise, right = after.loss - before.loss, before.right[COPIED]
        return Measurement(
            values={
                "rise": float(rise[COPIED].mean()),
                "rise_first": float(rise[: HALF - 1].mean()),
                "whole": float(before.loss[COPIED].mean()),
                "kept": float(after.right[COPIED][right].float().mean()) if bool(right.any()) else 0.0,
            },
            arrays={
                "before": before.loss.numpy(), "after": after.loss.numpy(), "heads": np.array(heads),
                "induction": scores().numpy(),
            },
        )  # fmt: skip

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "replacing the five induction heads raises the loss of the repeated half by at least 2 nats a token more than "
                    "replacing five random heads",
                    results.difference(INDUCTION, RANDOM, "rise"), "at least", 2.0, "nats a token",
                ),
                Part(
                    "it raises it more in at least 80% of texts",
                    larger(results, INDUCTION, RANDOM), "at least", 0.8, "of texts",
                ),
                Part(
                    "of the repeated tokens that the whole model predicts, at most half are still predicted",
                    results.summary(INDUCTION, "kept"), "at most", 0.5, "of tokens",
                ),
                Part(
                    "where nothing is repeated, the loss rises by at most 1 nat a token",
                    results.summary(INDUCTION, "rise_first"), "at most", 1.0, "nats a token",
                ),
            ],
            control=Part(
                "replacing five other heads of the same layers raises the loss of the repeated half by at least 2 nats a token",
                results.summary(BESIDE, "rise"), "at least", 2.0, "nats a token",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        rise = {arm: number(results.summary(arm, "rise").estimate) for arm in self.arms}
        first, kept = (results.summary(INDUCTION, name).estimate for name in ("rise_first", "kept"))
        return (
            f"SmolLM2-135M reads 32 random tokens twice: with its five best induction heads replaced by their means, its loss in "
            f"the repeated half rises by {rise[INDUCTION]} nats a token, with five random heads by {rise[RANDOM]}, and with five "
            f"others of the same layers by {rise[BESIDE]}. It then still predicts {kept:.0%} of the repeated tokens that it "
            f"predicted before; in the first half its loss changes by {number(first)}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        before = results.stack(INDUCTION, "before")
        after = {arm: results.stack(arm, "after") for arm in self.arms}
        induction = results.array(INDUCTION, "induction", seed)
        assert induction is not None
        return [
            Picture(
                "How much the loss of the repeated half rises, and what is left of the predictions there. A dot for each text.",
                *comparison(results, ["rise", "kept"]),
            ),
            Picture(
                f"The loss of each token by its place: the median over texts, and the middle half. After {HALF} tokens the text "
                "begins again; the whole model then copies.",
                figures.curves({**after, "whole model": before}, 1, "place of the token", "loss, nats"),
            ),
            Picture(
                "How much each head attends to what followed earlier occurrences of a token, on the texts on which the heads were "
                "chosen. Rows are layers and columns are heads, both counted from zero, as the microscope counts them.",
                *figures.matrices(
                    {"induction scores": induction},
                    "head, counted from 0",
                    "layer, counted from 0",
                    "induction score",
                    first=0,
                ),
            ),
        ]


def larger(results: Results, first: str, second: str) -> Interval:
    """The share of texts on which the loss rises more for the first arm than for the second."""
    seeds = results.seeds(first, second)
    return share(results.values(first, "rise", seeds) > results.values(second, "rise", seeds))


class Losses:
    """The loss of each next token, and whether the most likely token is the right one."""

    def __init__(self, logits: Float[Tensor, "n tokens"], ids: Int[Tensor, " n"]) -> None:
        self.loss = F.cross_entropy(logits[:-1], ids[1:], reduction="none")
        self.right = logits[:-1].argmax(-1) == ids[1:]


@torch.no_grad()
def losses(ids: Int[Tensor, "1 n"]) -> Losses:
    return Losses(language_model()(ids, use_cache=False).logits[0], ids[0])


def chosen(arm: str, generator: torch.Generator) -> list[Head]:
    """The heads of this arm; those that are drawn at random are other ones for each text."""
    found = scores()
    best = [divmod(int(i), found.shape[1]) for i in found.flatten().topk(HEADS).indices]
    if arm == INDUCTION:
        return best
    others = [(layer, head) for layer, head in np.ndindex(*found.shape) if (layer, head) not in best]
    if arm == RANDOM:
        return [others[int(i)] for i in torch.randperm(len(others), generator=generator)[:HEADS]]
    beside: dict[int, list[Head]] = defaultdict(list)
    for layer, head in others:
        if found[layer, head] < OTHER:
            beside[layer].append((layer, head))
    drawn = []
    for layer, _ in best:
        drawn.append(beside[layer].pop(int(torch.randint(len(beside[layer]), (1,), generator=generator))))
    return drawn


@cache
@torch.no_grad()
def scope() -> Scope:
    """The heads of the model, as seen on the texts on which they are chosen."""
    with attach(language_model()) as found:
        for seed in CHOOSING:
            text = repeated(HALF, LEAST, MOST, torch.Generator().manual_seed(seed))
            language_model()(text, use_cache=False)
    return found


@cache
def scores() -> Float[Tensor, "layers heads"]:
    """The induction score of each head: its mean over the texts on which heads are chosen."""
    (measure,) = (measure for measure in MEASURES if measure.name == "induction")
    table = scope().table([measure])
    layers, heads = max(table["layer"]) + 1, max(table["head"]) + 1
    found = torch.tensor(table["induction"]).view(len(CHOOSING), layers, heads)
    return found.mean(0)
