"""Tokens cluster with depth: do the tokens of a text become alike, layer by layer, in trained models?

Attention alone makes all tokens alike (Dong et al. 2103.03404), and on a sphere it gathers them in clusters (Geshkovski
et al. 2312.10794). Trained models have skip connections and networks for each token beside it. Ethayarajh (1909.00512)
found that any two words of a trained model point in nearly the same direction; Timkey & van Schijndel (2109.04404) that
a few coordinates of enormous size make it seem so; Sun et al. (2402.17762) that these massive activations sit on the
first token. So everything is measured twice: over all tokens and coordinates, and without the first token and the one
percent of the coordinates that are largest.

Three things would have to happen: two tokens point more in the same direction (cosine), their differences lie in fewer
directions (effective rank), and they form fewer clusters. The same is measured in twins that learned nothing. One has
the weights with which training begins; in the other, each matrix of a block is random and as large as the trained one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.data import passages
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.models.readers import (
    ENCODER,
    LANGUAGE,
    missing_readers,
    reader,
    scrambled,
    states,
    untrained,
    weights_of_readers,
)
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.similarity import Euclidean

PASSAGES = 66  # with this many, a replication's seeds, from 1,000,000 on, have other passages than the first thirty
LARGEST = 0.01  # the share of the coordinates, those with the largest mean squares, that "the rest" is without
NEAR = 0.3  # tokens of length one that are nearer than this belong to one cluster: their cosine is above 0.955
MODELS = (LANGUAGE, ENCODER)
TRAINED, START, SIZE, SHUFFLED = "trained", "random, as before training", "random, of trained size", "shuffled states"
KINDS = {
    TRAINED: "{} reads a passage",
    START: "with the weights with which its training would begin",
    SIZE: "with random matrices in its blocks, each as large as the trained one",
    SHUFFLED: "the coordinates of each token of trained {} in a random order, which no direction survives: the control",
}
ARMS = {f"{kind}, {model}": (kind, model) for model in reversed(MODELS) for kind in KINDS}
WAYS = ("all", "rest")


class TokensClusterWithDepth(Claim):
    """The claim that the tokens of a text become alike with depth in trained models."""

    name = "tokens_cluster_with_depth"
    title = "The tokens of a text cluster with depth in trained models"
    question = (
        "A language model of thirty blocks and a sentence encoder of six read a passage. From the embeddings to the last block, "
        "do its tokens point more in one direction, differ in fewer directions, and form fewer clusters? Is that still so without "
        "the first token and the few largest coordinates? And is it something that was learned, or do random weights do it too?"
    )
    source = (
        "Dong et al. 2021 (2103.03404), Geshkovski et al. 2023 (2312.10794), Ethayarajh 2019 (1909.00512), Timkey & van "
        "Schijndel 2021 (2109.04404), Sun et al. 2024 (2402.17762); SmolLM2-135M-Instruct, all-MiniLM-L6-v2"
    )
    arms = {arm: KINDS[kind].format(model) for arm, (kind, model) in ARMS.items()}
    control = f"{SHUFFLED}, {LANGUAGE}"
    measures = {
        "cosine_all": Measure("rise of the mean cosine of two tokens, everything", "cosine", "neither", failed=0.0),
        "cosine_rest": Measure(
            "rise of the mean cosine of two tokens, without the first token and massive coordinates", "cosine", "neither",
            failed=0.0,
        ),
        "rank_all": Measure("effective rank of the tokens, last by first, everything", "times", "neither", failed=1.0),
        "rank_rest": Measure(
            "effective rank of the tokens, last by first, without the first token and massive coordinates", "times",
            "neither", failed=1.0,
        ),
        "clusters_all": Measure("number of clusters, last by first, everything", "times", "neither", failed=1.0),
        "clusters_rest": Measure(
            "number of clusters, last by first, without the first token and massive coordinates", "times", "neither",
            failed=1.0,
        ),
        "nearest": Measure("largest mean cosine in any depth, the rest", "cosine", "neither", failed=0.0),
    }  # fmt: skip

    def data(self) -> Mapping[str, str]:
        return {**weights_of_readers(), "passages": passages.fingerprint()}

    def missing(self) -> str:
        return missing_readers()

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the states of the model

    def measure(self, arm: str, seed: int) -> Measurement:
        kind, name = ARMS[arm]
        path = states_of(kind, name, seed).double()
        found = {"all": path, "rest": without_extremes(path)}
        curves = {
            f"{what}_{way}": torch.stack([of(x) for x in found[way]]) for what, of in WHAT.items() for way in WAYS
        }
        ends = {curve: (float(values[0]), float(values[-1])) for curve, values in curves.items()}
        return Measurement(
            values={
                **{
                    curve: last - first if curve.startswith("cosine") else last / first
                    for curve, (first, last) in ends.items()
                },
                "nearest": float(curves["cosine_rest"].max()),
            },
            arrays={curve: values.numpy() for curve, values in curves.items()},
        )

    def judge(self, results: Results) -> Verdict:
        parts = []
        for model in MODELS:
            trained = f"{TRAINED}, {model}"
            parts += [
                Part(
                    f"{model}: the mean cosine of two tokens rises by at least 0.2 from the embeddings to the last block",
                    results.summary(trained, "cosine_all"), "at least", 0.2, "of the cosine",
                ),
                Part(
                    f"{model}: so it does without the first token and the largest coordinates",
                    results.summary(trained, "cosine_rest"), "at least", 0.2, "of the cosine",
                ),
                Part(
                    f"{model}: without them, the effective rank falls to at most three quarters",
                    results.summary(trained, "rank_rest"), "at most", 0.75, "times",
                ),
                Part(
                    f"{model}: without them, the number of clusters falls to at most three quarters",
                    results.summary(trained, "clusters_rest"), "at most", 0.75, "times",
                ),
                Part(
                    f"{model}: without them, the cosine rises by at least 0.1 more than with random matrices of the trained size",
                    results.difference(trained, f"{SIZE}, {model}", "cosine_rest"), "at least", 0.1, "of the cosine",
                ),
                Part(
                    f"{model}: and than with the weights with which training begins",
                    results.difference(trained, f"{START}, {model}", "cosine_rest"), "at least", 0.1, "of the cosine",
                ),
            ]  # fmt: skip
        return Verdict.of(
            parts,
            control=Part(
                f"{LANGUAGE}, the coordinates of each token in a random order: the cosine rises by at least 0.2",
                results.summary(self.control, "cosine_rest"), "at least", 0.2, "of the cosine",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        return " ".join(findings_in(results, model) for model in MODELS)

    def figures(self, results: Results) -> Sequence[Picture]:
        shown = (TRAINED, SIZE, START)
        curves = {
            (what, way, model): {kind: results.stack(f"{kind}, {model}", f"{what}_{way}") for kind in shown}
            for what in WHAT for way in WAYS for model in MODELS
        }  # fmt: skip
        return [
            Picture(
                "What changes from the embeddings to the last block, without the first token and the largest coordinates. A dot for "
                "each text.",
                *comparison(results, ["cosine_rest", "rank_rest", "clusters_rest"]),
            ),
            *(
                Picture(
                    f"{model}, by depth: {said}. The median over texts, and the middle half.",
                    *(figures.curves(curves[*place, model], 1, "blocks passed", titled(*place)) for place in places),
                )
                for model in MODELS
                for said, places in SHOWN.items()
            ),
        ]  # fmt: skip


def findings_in(results: Results, model: str) -> str:
    """What was found in one model, in a sentence."""
    found = {
        (kind, name): number(results.summary(f"{kind}, {model}", name).estimate)
        for kind in KINDS for name in ("cosine_all", "cosine_rest", "rank_rest", "clusters_rest")
    }  # fmt: skip
    return (
        f"From the embeddings to the last block of {model} the mean cosine of two tokens changes by {found[TRAINED, 'cosine_all']}, "
        f"and without the first token and the largest coordinates by {found[TRAINED, 'cosine_rest']}; with random matrices of the "
        f"trained size it changes by {found[SIZE, 'cosine_rest']}, and with weights as before training by "
        f"{found[START, 'cosine_rest']}. The effective rank becomes {found[TRAINED, 'rank_rest']} times, and the number of clusters "
        f"{found[TRAINED, 'clusters_rest']} times what it was (with random matrices {found[SIZE, 'rank_rest']} and "
        f"{found[SIZE, 'clusters_rest']} times)."
    )


@cache
def states_of(kind: str, name: str, seed: int) -> Float[Tensor, "depths n width"]:
    """The tokens of a passage at each depth of a model or its twin."""
    own = reader(name)
    inputs = own.tokens(passages.passages()[seed % PASSAGES])
    if kind == SHUFFLED:
        return shuffled(states_of(TRAINED, name, seed), seed)
    return states(twin(kind, own.model, seed), inputs)


def twin(kind: str, model: Any, seed: int) -> Any:
    if kind == TRAINED:
        return model
    return untrained(model, seed) if kind == START else scrambled(model, seed)


def shuffled(path: Float[Tensor, "depths n width"], seed: int) -> Float[Tensor, "depths n width"]:
    """The same numbers in each token, in a random order of its own at each depth."""
    noise = torch.rand(path.shape, generator=torch.Generator().manual_seed(seed))
    return path.gather(-1, noise.argsort(-1))


def without_extremes(path: Float[Tensor, "depths n width"]) -> Float[Tensor, "depths less fewer"]:
    """Each depth without its first token and without its largest coordinates, by their mean squares over the others."""
    path = path[:, 1:]
    left_out = max(1, round(LARGEST * path.shape[-1]))
    order = path.square().mean(1, keepdim=True).argsort(-1)
    return path.gather(-1, order[..., :-left_out].expand(-1, path.shape[1], -1))


def mean_cosine(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The mean of cos(x_i, x_j) over pairs i ≠ j: (|Σ u_i|² − n) / (n² − n) for u = x / |x|."""
    u = torch.nn.functional.normalize(x, dim=-1)
    n = len(u)
    return (u.sum(0).square().sum() - n) / (n * n - n)


def effective_rank(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """exp H(σ/Σσ), σ the singular values of u_i − mean u for u = x / |x|: in how many directions tokens differ.

    Tokens are given the length one first, so that a single long token is not all that counts (Roy & Vetterli 2007).
    """
    u = torch.nn.functional.normalize(x, dim=-1)
    values = torch.linalg.svdvals(u - u.mean(0))
    return torch.special.entr(values / values.sum()).sum().exp()


def clusters(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Σ_i 1 / Σ_j exp(−|u_i − u_j|²/2r²) for u = x / |x|: Leinster & Cobbold's diversity of order 0 (2012)."""
    u = torch.nn.functional.normalize(x, dim=-1)
    return (-Attention(u, u, Euclidean(NEAR)).logsumexp()).exp().sum()


WHAT: dict[str, Callable[[Tensor], Tensor]] = {"cosine": mean_cosine, "rank": effective_rank, "clusters": clusters}
SHOWN = {
    "the mean cosine of two tokens, of everything and without the first token and the largest coordinates": (
        ("cosine", "all"), ("cosine", "rest"),
    ),
    "in how many directions the tokens differ and how many clusters they form, without the first token and the largest "
    "coordinates": (("rank", "rest"), ("clusters", "rest")),
}  # fmt: skip
AXES = {"cosine": "mean cosine", "rank": "effective rank", "clusters": "clusters"}


def titled(what: str, way: str) -> str:
    return AXES[what] + (", everything" if way == "all" else ", the rest")
