"""Sinks by key norms: is a token an attention sink because of the length of its key, or because of its direction?

Many heads put most of their weight on one token that means little, such as the first one of a text: an attention sink
(Xiao et al. 2309.17453). A score is scale · |q| |k| cos(q, k). So a key may win by its length, which counts the same
for every query of a given angle, or by its direction, if all queries lie on its side. Gu et al. (2410.10781) see keys
of sinks that are short, and lie at a small angle to the queries.

Here each is taken away by itself. A text is read by a language model and by a sentence encoder. The sink is the token
that gets most weight in all heads together. In each head alone, with everything before it as it was, its key gets the
mean length of the other keys, or the direction of another key; or all keys get the same length. Then all heads are
changed at once, to see what that does to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.data import passages
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.mask import Boolean
from limelight.microscope import (
    AttentionChange,
    EqualKeyNorms,
    HeadInputs,
    Scope,
    WatchedAttention,
    WithoutSinks,
    attach,
)
from limelight.microscope.head_measures import MEASURES
from limelight.models.readers import ENCODER, LANGUAGE, missing_readers, reader, weights_of_readers
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

PASSAGES = 66  # with this many, a replication's seeds, from 1,000,000 on, have other passages than the first thirty
SINK = 0.3  # a head has a sink if a token gets at least this share of the weight of the queries that see it
HALF = 0.5
MODELS = (LANGUAGE, ENCODER)
WHOLE, EQUAL, LENGTH = "unchanged", "equal lengths", "sink: mean length"
DIRECTION, WITHOUT, SCALED = "sink: another direction", "without the sink", "another key rescaled"
PERMUTED = "other lengths permuted"


@dataclass(frozen=True)
class Drawn:
    """The sink of a text, another token, and an order of the tokens that leaves the sink where it is."""

    sink: int
    other: int
    order: Tensor


class SinkLength(AttentionChange):
    """k_s ← k_s · mean_{j≠s} |k_j| / |k_s|: the sink's key keeps its direction, and is as long as the others are."""

    def __init__(self, drawn: Drawn) -> None:
        super().__init__()
        self.drawn = drawn

    def change(self, head: HeadInputs) -> HeadInputs:
        return scaled(head, self.drawn.sink, factor(head, self.drawn))


class OtherScaled(SinkLength):
    """k_o ← k_o · mean_{j≠s} |k_j| / |k_s|: the same factor as the sink's, for the key of another token."""

    def change(self, head: HeadInputs) -> HeadInputs:
        return scaled(head, self.drawn.other, factor(head, self.drawn))


class SinkDirection(SinkLength):
    """k_s ← |k_s| · k_o / |k_o|: the sink's key keeps its length, and points where another token's key does."""

    def change(self, head: HeadInputs) -> HeadInputs:
        k, sink = head.k.clone(), self.drawn.sink
        other = k[:, self.drawn.other]
        k[:, sink] = other * (k[:, sink].norm(dim=-1) / other.norm(dim=-1))[:, None]
        return head.changed(k=k)


class OthersPermuted(SinkLength):
    """k_j ← k_j · |k_π(j)| / |k_j|, with π(s) = s: the other tokens exchange the lengths of their keys."""

    def change(self, head: HeadInputs) -> HeadInputs:
        norms = head.k.norm(dim=-1, keepdim=True)
        return head.changed(k=head.k * (norms[:, self.drawn.order] / norms))


class WithoutSink(SinkLength):
    """P_is = 0: nobody sees the sink, as `WithoutSinks` does it for the first token."""

    def change(self, head: HeadInputs) -> HeadInputs:
        if self.drawn.sink == 0:
            return WithoutSinks().change(head)
        hidden = Boolean((torch.arange(head.k.shape[-2]) != self.drawn.sink)[None, :])
        return head.changed(mask=hidden if head.mask is None else head.mask & hidden)


CHANGES: dict[str, tuple[Callable[[Drawn], AttentionChange] | None, str]] = {
    WHOLE: (None, "as it is"),
    EQUAL: (lambda drawn: EqualKeyNorms(), "all keys of a head get their mean length"),
    LENGTH: (SinkLength, "the sink's key gets the mean length of the others"),
    DIRECTION: (SinkDirection, "the sink's key gets the direction of another token's"),
    WITHOUT: (WithoutSink, "nobody sees the sink"),
    SCALED: (OtherScaled, "another token's key is scaled by the factor that gives the sink the mean length"),
    PERMUTED: (OthersPermuted, "the other keys exchange their lengths, the sink keeps its own: the control"),
}
ARMS = {f"{change}, {model}": (change, model) for model in reversed(MODELS) for change in CHANGES}


class SinksByKeyNorms(Claim):
    """The claim that the length of its key makes a token an attention sink."""

    name = "sinks_by_key_norms"
    title = "Attention sinks are made by the lengths of keys"
    question = (
        "In most heads of a language model one token gets most of the weight, whatever the query: an attention sink. Does it "
        "get it by the length of its key? What is left of the sink if all keys are equally long, if only its own key gets "
        "the mean length, or if only its direction is another token's? And what does each of them do to the model?"
    )
    source = (
        "Xiao et al. 2023 (2309.17453) for sinks, Gu et al. 2024 (2410.10781) for their keys; "
        "SmolLM2-135M-Instruct, all-MiniLM-L6-v2"
    )
    arms = {arm: f"{CHANGES[change][1]}, in {model}" for arm, (change, model) in ARMS.items()}
    control = f"{PERMUTED}, {LANGUAGE}"
    measures = {
        "kept": Measure("heads that still have their sink, of those that have one", "share", "neither", failed=0.0),
        "weight": Measure("weight that a query gives the sink, in these heads", "share", "neither", failed=0.0),
        "damage": Measure(
            "rise of the loss of SmolLM2, in nats a token; change of MiniLM's embedding, 1 − cosine",
            "nats or 1 − cosine", "neither", failed=float("inf"), summary="median",
        ),
        "explained": Measure(
            "variance of a query's scores that key lengths explain, in these heads", "share", "neither", failed=0.0
        ),
        "longer": Measure(
            "length of the sink's key, of the mean of the others, in these heads", "times", "neither", failed=1.0
        ),
        "angle": Measure("cosine between the queries and the sink's key, in these heads", "cosine", "neither", failed=0.0),
        "angle_others": Measure(
            "cosine between the queries and the other keys, in these heads", "cosine", "neither", failed=0.0
        ),
        "heads": Measure("heads of the model that have the sink", "share", "neither", failed=0.0),
    }  # fmt: skip

    def data(self) -> Mapping[str, str]:
        return {**weights_of_readers(), "passages": passages.fingerprint()}

    def missing(self) -> str:
        return missing_readers()

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the run of the model

    def measure(self, arm: str, seed: int) -> Measurement:
        kind, name = ARMS[arm]
        own = studied(name, seed)
        make = CHANGES[kind][0]
        change = None if make is None else make(own.drawn)
        seen = [changed(P, change) for P in own.scope]
        rates = sink_rates(seen, own)
        return Measurement(
            values={
                "kept": float((rates[own.has_sink] >= SINK).float().mean()),
                "weight": float(rates[own.has_sink].mean()),
                "damage": 0.0 if change is None else damage(name, own, change),
                "heads": float(own.has_sink.float().mean()),
                **{measure: float(values[own.has_sink].mean()) for measure, values in of_keys(seen, own).items()},
            },
            arrays={"rates": rates.numpy()} | ({"longer": lengths(seen, own).numpy()} if kind == WHOLE else {}),
        )

    def judge(self, results: Results) -> Verdict:
        parts = []
        for model in MODELS:
            parts += [
                Part(
                    f"{model}: if all keys of a head are equally long, at most half of the heads with a sink still have it",
                    results.summary(f"{EQUAL}, {model}", "kept"), "at most", HALF, "of heads",
                ),
                Part(
                    f"{model}: if the sink's key alone gets the mean length of the others, at most half still have it",
                    results.summary(f"{LENGTH}, {model}", "kept"), "at most", HALF, "of heads",
                ),
                Part(
                    f"{model}: another length takes the sink from at least as many heads as another direction",
                    results.difference(f"{LENGTH}, {model}", f"{DIRECTION}, {model}", "kept"), "at most", 0.0, "of heads",
                ),
                Part(
                    f"{model}: key lengths explain at least half of the variance of a query's scores, in heads with a sink",
                    results.summary(f"{WHOLE}, {model}", "explained"), "at least", HALF, "of the variance",
                ),
            ]  # fmt: skip
        return Verdict.of(
            parts,
            control=Part(
                f"{LANGUAGE}: if the other keys exchange their lengths, at most half of the heads with a sink still have it",
                results.summary(self.control, "kept"), "at most", HALF, "of heads",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        return " ".join(findings_in(results, model) for model in MODELS)

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        shown = (WHOLE, EQUAL, DIRECTION)
        rates = {kind: results.array(f"{kind}, {LANGUAGE}", "rates", seed) for kind in shown}
        found = {
            model: [results.array(f"{WHOLE}, {model}", name, seed) for name in ("longer", "rates")] for model in MODELS
        }
        return [
            Picture(
                "What is left of the sinks, and what the change does to the model if it is made in all heads. A dot for each text.",
                *comparison(results, ["kept", "weight", "damage"]),
            ),
            Picture(
                f"The weight that a query gives the sink in each head of {LANGUAGE}, on the text of seed {seed}. Rows are layers and "
                "columns are heads, both counted from zero, as the microscope counts them.",
                *figures.matrices(
                    rates, "head, counted from 0", "layer, counted from 0", "weight of the sink", first=0
                ),
            ),
            Picture(
                f"Each dot is a head, on the text of seed {seed}: how long the key of the sink is, of the mean of the others, and the "
                "weight that it gets.",
                *(
                    figures.scatter(
                        longer.flatten(), rate.flatten(), f"length of the sink's key, {model}", "weight of the sink"
                    )
                    for model, (longer, rate) in found.items()
                    if longer is not None and rate is not None
                ),
            ),
        ]


def findings_in(results: Results, model: str) -> str:
    """What was found in one model, in a sentence."""
    kept = {kind: f"{results.summary(f'{kind}, {model}', 'kept').estimate:.0%}" for kind in CHANGES}
    harm = {kind: number(results.summary(f"{kind}, {model}", "damage").estimate) for kind in CHANGES}
    heads, longer, angle, others, explained = (
        results.summary(f"{WHOLE}, {model}", name).estimate
        for name in ("heads", "longer", "angle", "angle_others", "explained")
    )
    what = "loss rises by" if model == LANGUAGE else "embedding turns by 1 − cosine ="
    return (
        f"In {model} {heads:.0%} of the heads give one token at least {SINK:.0%} of their weight. Its key is {number(longer)} times "
        f"as long as the others, its cosine with the queries is {number(angle)}, that of the others {number(others)}, and key lengths "
        f"explain {explained:.0%} of the variance of a query's scores. The sink stays in {kept[EQUAL]} of these heads if all keys are "
        f"equally long, in {kept[LENGTH]} if its key has the mean length, and in {kept[DIRECTION]} if it has another direction; with "
        f"this in all heads the {what} {harm[EQUAL]}, {harm[LENGTH]} and {harm[DIRECTION]}, without the sink {harm[WITHOUT]}."
    )


@dataclass(frozen=True)
class Study:
    """The unchanged model on a text: its heads, which of them have the sink, and the output to compare with."""

    inputs: dict[str, Tensor]
    scope: Scope
    drawn: Drawn
    has_sink: Tensor  # (layers, heads), boolean
    output: Tensor


@cache
@torch.no_grad()
def studied(name: str, seed: int) -> Study:
    """All arms of one seed and model are measured on the same run of the model."""
    model = reader(name).model
    inputs = reader(name).tokens(passages.passages()[seed % PASSAGES])
    with attach(model) as scope:
        output = outcome(name, inputs)
    rates = torch.stack([rates_of(P) for P in scope])
    often = scope[0].seen_by() >= rates.shape[-1] / 2  # the last keys of a causal text are seen by few queries
    sink = int(rates.mean((0, 1)).masked_fill(~often, -1).argmax())
    has_sink = rates[..., sink] >= SINK
    return Study(inputs, scope, drawn(sink, rates.shape[-1], seed), has_sink, output)


def drawn(sink: int, tokens: int, seed: int) -> Drawn:
    generator = torch.Generator().manual_seed(seed)
    others = torch.tensor([j for j in range(tokens) if j != sink])
    order = torch.arange(tokens)
    order[others] = others[torch.randperm(len(others), generator=generator)]
    return Drawn(sink, int(others[int(torch.randint(len(others), (1,), generator=generator))]), order)


def rates_of(P: WatchedAttention) -> Float[Tensor, "heads m"]:
    """The mean weight that each key gets from the queries that see it."""
    return P.column_mass() / P.seen_by()


def sink_rates(seen: Sequence[WatchedAttention], own: Study) -> Float[Tensor, "layers heads"]:
    """The mean weight that the sink gets, from the queries that see it in the unchanged model."""
    mass = torch.stack([P.column_mass()[:, own.drawn.sink] for P in seen])
    return mass / own.scope[0].seen_by()[own.drawn.sink]


def changed(P: WatchedAttention, change: AttentionChange | None) -> WatchedAttention:
    """The heads of one layer with this change, and the same tokens."""
    if change is None:
        return P
    head = change.change(HeadInputs(q=P.q, k=P.k, v=P.k, scale=P.scale, mask=P.mask))
    return WatchedAttention(head.q, head.k, scale=P.scale, mask=head.mask, positions=P.positions)


def factor(head: HeadInputs, drawn: Drawn) -> Float[Tensor, " heads"]:
    """mean_{j≠s} |k_j| / |k_s|."""
    norms = head.k.norm(dim=-1)
    return others(norms, drawn.sink).mean(-1) / norms[:, drawn.sink]


def scaled(head: HeadInputs, token: int, by: Float[Tensor, " heads"]) -> HeadInputs:
    k = head.k.clone()
    k[:, token] = k[:, token] * by[:, None]
    return head.changed(k=k)


def others(x: Float[Tensor, "*rest m"], token: int) -> Float[Tensor, "*rest m_less_one"]:
    return torch.cat([x[..., :token], x[..., token + 1 :]], -1)


def of_keys(seen: Sequence[WatchedAttention], own: Study) -> dict[str, Float[Tensor, "layers heads"]]:
    """What the keys of each head are like: the sink's beside the others."""
    (key_norms,) = (measure for measure in MEASURES if measure.name == "key_norms")
    cosines = torch.stack([cosine_of_queries(P) for P in seen])
    return {
        "explained": torch.stack([key_norms.of(P) for P in seen]),
        "longer": lengths(seen, own),
        "angle": cosines[..., own.drawn.sink],
        "angle_others": others(cosines, own.drawn.sink).mean(-1),
    }


def lengths(seen: Sequence[WatchedAttention], own: Study) -> Float[Tensor, "layers heads"]:
    """|k_s| / mean_{j≠s} |k_j|."""
    norms = torch.stack([P.k.norm(dim=-1) for P in seen])
    return norms[..., own.drawn.sink] / others(norms, own.drawn.sink).mean(-1)


def cosine_of_queries(P: WatchedAttention) -> Float[Tensor, "heads m"]:
    """The mean over queries of the cosine with each key, whether they see it or not."""
    q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (P.q, P.k))
    return (k @ q.mean(-2)[..., None])[..., 0]


@torch.no_grad()
def damage(name: str, own: Study, change: AttentionChange) -> float:
    """What the model's outcome loses if all heads are changed at once."""
    with own.scope.intervene(change):
        after = outcome(name, own.inputs)
    if name == ENCODER:
        return float(1 - torch.cosine_similarity(own.output, after, dim=0))
    return float(after - own.output)


def outcome(name: str, inputs: dict[str, Tensor]) -> Tensor:
    """The loss of the language model, and the embedding of the sentence encoder."""
    model = reader(name).model
    if name == ENCODER:
        return model(**inputs).last_hidden_state[0].double().mean(0)
    return model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.double()
