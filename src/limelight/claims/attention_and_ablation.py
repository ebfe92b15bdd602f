"""Attention and ablation: does the attention of a head, or that a token gets, say how much depends on it?

Attention weights are often read as importance: what gets much weight matters, and a head that attends sharply does
something. Jain and Wallace (1902.10186) found that weights and importance may disagree, and Wiegreffe and Pinter
(1908.04626) that it depends on what is asked. Kobayashi et al. (2004.10102) say that the length of what is moved has to
be looked at, not the weight alone. Voita et al. (1905.09418) found that heads which attend with confidence are the ones
that pruning leaves.

Importance is measured here by trying: a head is ablated, that is its output is replaced by its mean over the text, or
a token is hidden from all others, and the change of the sentence's embedding is its effect. Then heads, or tokens, are
ranked by it and by what their attention says, and the two rankings are correlated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.data import passages
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.microscope import Ablate, Scope, WatchedAttention, attach
from limelight.models.shipped import SENTENCE_ENCODER, sentence_encoder
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

PASSAGES = 66  # with this many, a replication's seeds, from 1,000,000 on, have other passages than the first thirty
FOREMOST = 10  # heads that are looked at as the most important ones
SHARP, CONFIDENT, WORDS = "sharpness", "confidence", "attention to words"
MOVED, RECEIVED, RANDOM = "variation of the output", "attention that a token gets", "a random order"
ENOUGH = 0.4  # a rank correlation at which a measure of attention is said to tell importance


class AttentionAndAblation(Claim):
    """The claim that attention tells importance, put to a sentence encoder."""

    name = "attention_and_ablation"
    title = "Attention says what matters: heads that attend sharply, and tokens that get much weight"
    question = (
        "A sentence encoder reads a passage. Each of its 72 heads is ablated in turn, and each token is hidden in turn: how far "
        "does the embedding move? Is that more for heads that attend sharply or with confidence, or that attend to words rather "
        "than to the first token and separators? For tokens that get more attention? Or does one have to look at what "
        "the weights move?"
    )
    source = (
        "Jain & Wallace 2019 (1902.10186), Voita et al. 2019 (1905.09418), Kobayashi et al. 2020 (2004.10102); "
        "all-MiniLM-L6-v2"
    )
    arms = {
        SHARP: "heads, by the least entropy of their weights",
        CONFIDENT: "heads, by the largest weight of each token, on average",
        WORDS: "heads, by the weight that is neither on the first token nor on a separator",
        MOVED: "heads, by how much their projected output differs from token to token",
        RECEIVED: "tokens, by the weight that they get in all heads together",
        RANDOM: "heads, in a random order: the control",
    }
    control = RANDOM
    measures = {
        "correlation": Measure("rank correlation with the effect of ablation", "Spearman's ρ", "higher", failed=-1.0),
        "foremost": Measure(
            f"of the {FOREMOST} with the largest effect, those in the measure's first {FOREMOST}",
            "share", "higher", failed=0.0,
        ),
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"model": SENTENCE_ENCODER.sha256, "passages": passages.fingerprint()}

    def missing(self) -> str:
        return SENTENCE_ENCODER.missing()

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the runs of the model

    def measure(self, arm: str, seed: int) -> Measurement:
        found = studied(passages.passages()[seed % PASSAGES])
        effect, guess = (found.tokens, found.received) if arm == RECEIVED else (found.heads, found.guesses(arm, seed))
        ranked = (set(x.topk(FOREMOST).indices.tolist()) for x in (effect, guess))
        return Measurement(
            values={
                "correlation": rank_correlation(effect, guess),
                "foremost": len(set.intersection(*ranked)) / FOREMOST,
            },
            arrays={"effect": effect.numpy(), "guess": guess.numpy()},
        )

    def judge(self, results: Results) -> Verdict:
        said = {
            SHARP: "heads that attend more sharply matter more",
            CONFIDENT: "heads that attend with more confidence matter more",
            WORDS: "heads that attend more to words than to the first token and separators matter more",
            RECEIVED: "tokens that get more attention matter more",
            MOVED: "heads matter more the more their output differs from token to token",
        }
        return Verdict.of(
            [
                Part(
                    f"{words}: a rank correlation of at least {ENOUGH}",
                    results.summary(arm, "correlation"), "at least", ENOUGH, "Spearman's ρ",
                )
                for arm, words in said.items()
            ],
            control=Part(
                f"a random order of the heads has a rank correlation of at least {ENOUGH}",
                results.summary(RANDOM, "correlation"), "at least", ENOUGH, "Spearman's ρ",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        rho = {arm: number(results.summary(arm, "correlation").estimate) for arm in self.arms}
        return (
            f"In a sentence encoder, the rank correlation over its heads between the effect of ablating a head and its attention is "
            f"{rho[SHARP]} for sharpness, {rho[CONFIDENT]} for the largest weights, and {rho[WORDS]} for attention to words; over "
            f"tokens, between the effect of hiding one and the attention that it gets, it is {rho[RECEIVED]}. With how much a head's "
            f"output differs from token to token it is {rho[MOVED]}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        drawn = {}
        for arm in self.arms:
            effect, guess = (results.array(arm, name, seed) for name in ("effect", "guess"))
            assert effect is not None
            assert guess is not None
            drawn[arm] = (guess, effect)
        return [
            Picture(
                "The rank correlation of each measure with the effect of ablation, and how many of the most important heads or "
                "tokens it finds. A dot for each passage.",
                *comparison(results, list(self.measures)),
            ),
            Picture(
                f"The passage of seed {seed}: each dot is a head, or a token, with what its attention says across and the change of "
                "the embedding up.",
                *(figures.scatter(*drawn[arm], arm, "1 − cosine, after ablation") for arm in (SHARP, MOVED, RECEIVED)),
            ),
        ]


@dataclass(frozen=True)
class Study:
    """The effects of ablating each head and of hiding each token of a passage, and what attention says of them."""

    heads: Float[Tensor, " heads"]
    tokens: Float[Tensor, " tokens"]
    received: Float[Tensor, " tokens"]
    of_heads: dict[str, Float[Tensor, " heads"]]

    def guesses(self, arm: str, seed: int) -> Float[Tensor, " heads"]:
        if arm == RANDOM:
            return torch.randperm(len(self.heads), generator=torch.Generator().manual_seed(seed)).double()
        return self.of_heads[arm]


@cache
@torch.no_grad()
def studied(passage: str) -> Study:
    """All arms of one seed are measured on the same runs of the model."""
    model, tokenizer = sentence_encoder()
    inputs = dict(tokenizer(passage, return_tensors="pt"))
    inner = torch.arange(1, inputs["input_ids"].shape[1] - 1)  # without [CLS] and [SEP]
    with attach(model, separators=[tokenizer.sep_token_id]) as scope:
        plain = embedding(model, inputs)
    effects = []
    for layer, P in enumerate(scope):
        for head in range(P.shape[0]):
            with scope.intervene(Ablate([(layer, head)])):
                effects.append(distance(plain, embedding(model, inputs)))
    return Study(
        torch.tensor(effects),
        torch.tensor([effect_of_hiding(model, inputs, int(i)) for i in inner]),
        sum(P.column_mass().sum(0) for P in scope)[inner].double(),  # type: ignore[index]
        {
            SHARP: of_each_head(scope, lambda P: -P.entropy().mean(-1)),
            CONFIDENT: of_each_head(scope, lambda P: P.topk(1).weights[..., 0].mean(-1)),
            WORDS: of_each_head(scope, lambda P: P.column_mass()[..., 1:-1].sum(-1) / P.shape[-2]),
            MOVED: moved(model, inputs),
        },
    )


def of_each_head(scope: Scope, measure: Callable[[WatchedAttention], Tensor]) -> Float[Tensor, " heads"]:
    return torch.cat([measure(P) for P in scope]).double()


def embedding(model: Any, inputs: dict[str, Tensor], without: int | None = None) -> Float[Tensor, " width"]:
    """The mean of the last states of the tokens, as the encoder is used; a token may be left out of it."""
    states = model(**inputs).last_hidden_state[0].double()
    kept = [i for i in range(len(states)) if i != without]
    return states[kept].mean(0)


def distance(a: Float[Tensor, " width"], b: Float[Tensor, " width"]) -> float:
    return float(1 - torch.cosine_similarity(a, b, dim=0))


def effect_of_hiding(model: Any, inputs: dict[str, Tensor], token: int) -> float:
    """How far the mean of the other tokens' states moves if none of them sees this token."""
    hidden = inputs["attention_mask"].clone()
    hidden[0, token] = 0
    return distance(embedding(model, inputs, token), embedding(model, inputs | {"attention_mask": hidden}, token))


def moved(model: Any, inputs: dict[str, Tensor]) -> Float[Tensor, " heads"]:
    """For each head, the root mean square over tokens of |W_O,h (o_i − mean o)|: what ablation takes away."""
    found: list[tuple[Any, Tensor]] = []
    projections = [layer.attention.output.dense for layer in model.encoder.layer]
    hooks = [own.register_forward_pre_hook(lambda own, args: found.append((own, args[0]))) for own in projections]
    model(**inputs)
    for hook in hooks:
        hook.remove()
    heads = model.config.num_attention_heads
    out = []
    for own, states in found:
        of_heads = states[0].unflatten(-1, (heads, -1)).transpose(0, 1)  # heads, n, e
        maps = own.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)  # heads, e, width
        apart = (of_heads - of_heads.mean(1, keepdim=True)) @ maps
        out.append(apart.square().sum(-1).mean(-1).sqrt())
    return torch.cat(out).double()


def rank_correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Spearman's ρ: the correlation of the ranks; equal numbers share the mean of their ranks."""
    from scipy.stats import spearmanr  # imported here, since it takes half a second

    return float(spearmanr(a.numpy(), b.numpy()).statistic)
