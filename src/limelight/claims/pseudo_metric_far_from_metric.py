"""Pseudo-metric far from metric: how much of a metric is in what trained heads compare tokens by?

A head compares two tokens by s(x, y) = xᵀ M y with M = W_Qᵀ W_K. Ruan & Zhang (2412.18288) call −s a pseudo-metric,
since nothing makes it a metric, and put a learned metric in its place. Three things would have to hold for x ↦ W x to
exist with s(x, y) = ⟨W x, W y⟩: M is symmetric, its symmetric part has no negative eigenvalue, and so
(x − y)ᵀ M (x − y) is a squared distance, whose root obeys the triangle inequality. Saponati et al. (2502.10927) find
that models which read in both directions are more symmetric than those that read from left to right.

Each is measured in every head of two trained models, beside random maps of the same size and heads with W_K = W_Q. The
first two are of the weights alone. The third is over the tokens of a text, as they enter the maps. Rotary positions are
left out: they turn the form with the distance of two tokens, and at distance 0 it is M.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from jaxtyping import Float
from plotly.graph_objects import Figure
from torch import Tensor

from limelight import figures
from limelight.data import passages
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.microscope.triangle_defect import triangle_defect
from limelight.models.readers import (
    ENCODER,
    LANGUAGE,
    blocks,
    missing_readers,
    projections,
    reader,
    weights_of_readers,
)
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

PASSAGES = 66  # with this many, a replication's seeds, from 1,000,000 on, have other passages than the first thirty
MIDDLE = 0.75  # halfway between random maps, which are symmetric and positive by one half, and a metric
MODELS = (LANGUAGE, ENCODER)
TRAINED, RANDOM, METRIC = "trained", "random maps", "one map"
KINDS = {
    TRAINED: "the heads of {}",
    RANDOM: "W_Q and W_K of random numbers in place of those of {}",
    METRIC: "the heads of {} with W_K = W_Q, whose scores are those of a metric",
}
ARMS = {f"{kind}, {model}": (kind, model) for model in reversed(MODELS) for kind in KINDS}


class PseudoMetricFarFromMetric(Claim):
    """The claim that the form by which trained heads compare tokens is far from a metric."""

    name = "pseudo_metric_far_from_metric"
    title = "The form by which trained heads compare tokens is far from a metric"
    question = (
        "A head scores two tokens by xᵀ M y with M = W_Qᵀ W_K. If that came from distances, M would be symmetric, without "
        "negative eigenvalues, and any three tokens would form a triangle. How much of this do trained heads have, of a "
        "model that reads from left to right and of one that reads in both directions? As little as random maps?"
    )
    source = (
        "Ruan & Zhang 2024 (2412.18288) for the pseudo-metric, Saponati et al. 2025 (2502.10927) for symmetry; "
        "SmolLM2-135M-Instruct, all-MiniLM-L6-v2"
    )
    arms = {arm: KINDS[kind].format(model) for arm, (kind, model) in ARMS.items()}
    control = f"{METRIC}, {LANGUAGE}"
    measures = {
        "symmetric": Measure(
            "symmetric share of M, |(M + Mᵀ)/2|² / |M|², mean over heads", "share", "neither", failed=0.0, summary="exact"
        ),
        "positive": Measure(
            "positive share of the eigenvalues of (M + Mᵀ)/2, Σ λ⁺ / Σ |λ|, mean over heads", "share", "neither",
            failed=0.0, summary="exact",
        ),
        "defect": Measure(
            "triples of tokens that form no triangle, mean over heads", "share", "neither", failed=1.0, summary="median"
        ),
    }  # fmt: skip

    def data(self) -> Mapping[str, str]:
        return {**weights_of_readers(), "passages": passages.fingerprint()}

    def missing(self) -> str:
        return missing_readers()

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the tokens of a passage

    def measure(self, arm: str, seed: int) -> Measurement:
        kind, name = ARMS[arm]
        layers = maps(kind, name, seed if kind == RANDOM else 0)
        found = {
            "symmetric": torch.stack([layer.symmetric for layer in layers]),
            "positive": torch.stack([layer.positive for layer in layers]),
            "defect": torch.stack(
                [triangle_defect(*layer.of(x)) for layer, x in zip(layers, entering(name, seed), strict=True)]
            ),
        }
        return Measurement(
            values={measure: float(of_heads.mean()) for measure, of_heads in found.items()},
            arrays={"by_layer": found["defect"].mean(-1).numpy()}
            | {measure: found[measure].flatten().numpy() for measure in ("symmetric", "positive")},
        )  # fmt: skip

    def judge(self, results: Results) -> Verdict:
        parts = []
        for model in MODELS:
            parts += [
                Part(
                    f"{model}: the symmetric share of W_Qᵀ W_K is at most 0.75, nearer to that of random maps than to a metric's",
                    results.summary(f"{TRAINED}, {model}", "symmetric"), "at most", MIDDLE, "of |M|²",
                ),
                Part(
                    f"{model}: so is the positive share of its eigenvalues",
                    results.summary(f"{TRAINED}, {model}", "positive"), "at most", MIDDLE, "of Σ |λ|",
                ),
                Part(
                    f"{model}: at least half as many triples of tokens form no triangle as with random maps",
                    results.ratio(f"{TRAINED}, {model}", f"{RANDOM}, {model}", "defect"), "at least", 0.5, "times",
                ),
            ]  # fmt: skip
        return Verdict.of(
            parts,
            control=Part(
                f"{LANGUAGE} with W_K = W_Q: at least a quarter of the triples form no triangle",
                results.summary(self.control, "defect"), "at least", 0.25, "of triples",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        return " ".join(findings_in(results, model) for model in MODELS) + " With W_K = W_Q all of them do."

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        by_layer = {model: {kind: results.stack(f"{kind}, {model}", "by_layer") for kind in KINDS} for model in MODELS}
        heads = {}
        for kind, model in ((TRAINED, LANGUAGE), (TRAINED, ENCODER), (RANDOM, LANGUAGE)):
            symmetric, positive = (results.array(f"{kind}, {model}", name, seed) for name in ("symmetric", "positive"))
            assert symmetric is not None
            assert positive is not None
            heads[f"{kind}, {model}"] = (symmetric, positive)
        return [
            Picture(
                "How symmetric and how positive the form of a head is, and how often three tokens form no triangle. A dot for each text.",
                *comparison(results, list(self.measures)),
            ),
            Picture(
                "Each dot is a head: the symmetric share of its form across, and the positive share of its eigenvalues up. A metric is "
                "at the right upper corner, 1 and 1; random maps are in the middle, at one half.",
                *(
                    whole(figures.scatter(*drawn, f"symmetric share, {arm}", "positive share"))
                    for arm, drawn in heads.items()
                ),
            ),
            *(
                Picture(
                    f"The triples of tokens that form no triangle, by layers of {model}: the median over texts, and the middle half.",
                    figures.curves(
                        found, [*range(1, 1 + next(iter(found.values())).shape[-1])], "layer", "share of triples"
                    ),
                )
                for model, found in by_layer.items()
            ),
        ]


def whole(figure: Figure) -> Figure:
    """The figure with all shares from 0 to 1 on both axes, so that several can be compared."""
    axis = {"range": [-0.03, 1.03], "tickvals": [0, 0.25, 0.5, 0.75, 1]}
    return figure.update_xaxes(axis).update_yaxes(axis)


def findings_in(results: Results, model: str) -> str:
    """What was found in one model, in a sentence."""
    symmetric, positive, defect = (
        number(results.summary(f"{TRAINED}, {model}", name).estimate) for name in ("symmetric", "positive", "defect")
    )
    floor = number(results.summary(f"{RANDOM}, {model}", "defect").estimate)
    return (
        f"In the heads of {model} the form W_Qᵀ W_K is symmetric to a share of {symmetric} and positive to {positive}, where random "
        f"maps have 0.5 and a metric 1; a share of {defect} of triples of tokens forms no triangle, with random maps {floor}."
    )


@dataclass(frozen=True)
class Maps:
    """W_Q and W_K of the heads of a layer, and how near the form M = W_Qᵀ W_K is to that of a metric."""

    queries: Float[Tensor, "heads e width"]
    keys: Float[Tensor, "heads e width"]
    symmetric: Float[Tensor, " heads"]
    positive: Float[Tensor, " heads"]

    def of(self, x: Float[Tensor, "n width"]) -> tuple[Float[Tensor, "heads n e"], Float[Tensor, "heads n e"]]:
        """The queries and keys of these tokens. Biases are left out, as they cancel in differences of tokens."""
        return x @ self.queries.mT, x @ self.keys.mT


@lru_cache(maxsize=4)  # the random ones of each seed are 80 MB
@torch.no_grad()
def maps(kind: str, name: str, seed: int) -> tuple[Maps, ...]:
    """The maps of each layer: those of the model, random ones, or with W_K = W_Q."""
    generator, found = torch.Generator().manual_seed(seed), []
    model = reader(name).model
    for block in blocks(model):
        width = projections(block)[0].out_features // model.config.num_attention_heads
        queries, keys = (own.weight.unflatten(0, (-1, width)) for own in projections(block))
        if kind == RANDOM:
            queries, keys = (torch.randn(own.shape, generator=generator) for own in (queries, keys))
        keys = keys.repeat_interleave(len(queries) // len(keys), 0)  # of grouped heads, several share their keys
        keys = queries if kind == METRIC else keys
        found.append(Maps(queries, keys, symmetric_share(queries, keys), positive_share(queries, keys)))
    return tuple(found)


def symmetric_share(
    queries: Float[Tensor, "*heads e width"], keys: Float[Tensor, "*heads e width"]
) -> Float[Tensor, "*heads"]:
    """|(M + Mᵀ)/2|² / |M|² = ½ (1 + ⟨M, Mᵀ⟩ / |M|²) of M = W_Qᵀ W_K, from e × e matrices.

    ⟨M, Mᵀ⟩ = tr (W_K W_Qᵀ)² and |M|² = ⟨W_Q W_Qᵀ, W_K W_Kᵀ⟩.

    >>> import torch
    >>> from limelight.claims.pseudo_metric_far_from_metric import symmetric_share
    >>> W = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    >>> symmetric_share(W, W).round(decimals=6), symmetric_share(W[:1], W[:1].roll(1, -1)) < 1
    (tensor(1.), tensor(True))
    """
    mixed = keys @ queries.mT
    together = (mixed * mixed.mT).sum((-1, -2))
    size = ((queries @ queries.mT) * (keys @ keys.mT)).sum((-1, -2))
    return (1 + together / size) / 2


def positive_share(
    queries: Float[Tensor, "*heads e width"], keys: Float[Tensor, "*heads e width"]
) -> Float[Tensor, "*heads"]:
    """Σ λ⁺ / Σ |λ| over the eigenvalues of (M + Mᵀ)/2, which has rank 2e at most.

    With B = (W_Q; W_K) it is ½ Bᵀ J B, where J exchanges the two halves. If Bᵀ = Q R with orthonormal columns in Q, its
    nonzero eigenvalues are those of the 2e × 2e matrix ½ R J Rᵀ.

    >>> import torch
    >>> from limelight.claims.pseudo_metric_far_from_metric import positive_share
    >>> W = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    >>> positive_share(W, W).round(decimals=6), positive_share(W, -W).abs().round(decimals=6)
    (tensor(1.), tensor(0.))
    """
    both = torch.cat([queries, keys], -2).double()
    R = torch.linalg.qr(both.mT).R
    exchanged = R.roll(queries.shape[-2], -1)
    values = torch.linalg.eigvalsh((R @ exchanged.mT + exchanged @ R.mT) / 4)
    return (values.clamp(min=0).sum(-1) / values.abs().sum(-1)).to(queries.dtype)


@cache
@torch.no_grad()
def entering(name: str, seed: int) -> tuple[Float[Tensor, "n width"], ...]:
    """The tokens of a passage as they enter the maps of queries and keys of each layer."""
    own, found = reader(name), []
    hooks = [
        projections(block)[0].register_forward_pre_hook(lambda part, args: found.append(args[0][0]))
        for block in blocks(own.model)
    ]
    own.model(**own.tokens(passages.passages()[seed % PASSAGES]))
    for hook in hooks:
        hook.remove()
    return tuple(found)
