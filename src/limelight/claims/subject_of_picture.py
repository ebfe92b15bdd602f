"""The subject of a picture: does the attention of a trained vision transformer mark it, and which heads do?

daulet's "Neural Net Intuition" (nn-intuition on GitHub) writes that attention "could learn to extract image background, or
conversely highlight the subject". The class token of DINO, a vision transformer that learned without labels, attends to
objects (Caron et al. 2021, 2104.14294). Here DINOv2-small (Oquab et al. 2023, 2304.07193) looks at parts of photographs
into which a drawing is pasted, so that it is known which pixels are the subject's. The map of a head is the attention of
the class token to each patch, in each of its 72 heads.

Of so many maps one is good by chance. So every arm that has several chooses among them, and chooses the share of the
peak at which a map ends, on other pictures with other drawings than those that are judged. The same choice is given to
an untrained network, to one with random matrices of the trained size, to the lengths of the keys, which attention might
merely repeat, and to what needs no network: how much a patch differs in color, and a disc in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.data.pasted_objects import CHOOSING, JUDGED, SIDE, Pasted, fingerprint, missing, pasted
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.interpret.boxes import boxes_around_peaks, enlarged, intersection_over_union
from limelight.interpret.marking import overlap_above, ranked_higher, stretched, weight_by_area
from limelight.microscope import EqualKeyNorms, HeadInputs, attach
from limelight.models.dinov2 import MEAN, STD, VISION_TRANSFORMER, vision_transformer
from limelight.models.readers import scrambled, untrained
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

EACH = 4  # pictures that a run is the mean of
PILOT = 30  # pictures of a first run, by which the number above was chosen; they are not judged
FIRST, PICTURES = 1000, 22  # the seeds of the pictures on which maps are chosen: one for each of their drawings
SHARES = torch.tensor(
    [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9]
)
MARKS = (
    1.5  # a head marks the subject if it gives it this many times its share of the area, and leaves it out at 1/MARKS
)
GRAY = 56  # pixels of a gray picture that is kept to be drawn, each way
SHOWN = 8

HEAD, LAST, BACKGROUND = "one head", "all heads of the last layer", "one head, for the background"
EQUAL, LENGTHS = "one head, keys equally long", "lengths of the keys"
GRADIENT, COLOR, MIDDLE = "gradient × input", "difference in color", "disc in the middle"
SIZE, UNTRAINED = "one head, random matrices", "one head, untrained"
NETWORKS = {HEAD: "trained", UNTRAINED: "untrained", SIZE: "random matrices"}


class Choice(NamedTuple):
    """Which of an arm's maps is judged, and the share of its height, from its least to its largest value, at which it ends."""

    map: int
    share: float


class SubjectOfPicture(Claim):
    """The claim that the attention of a trained vision transformer marks the subject of a picture."""

    name = "subject_of_picture"
    title = "Attention marks the subject of a picture"
    question = (
        "A vision transformer that learned from pictures without labels looks at a drawing in front of a photograph. Does the "
        "attention of its class token fall on the drawing more than by its area, in one head and in how many? Does it mark the "
        "drawing better than the same network before training, than the lengths of the keys alone, than the gradient, and than "
        "what needs no network, color and a disc in the middle? And is there a head that leaves it out?"
    )
    source = (
        "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known), Attention; Caron et al. 2021 "
        "(2104.14294); DINOv2-small (Oquab et al. 2023, 2304.07193)"
    )
    arms = {
        HEAD: "the attention of the class token in the head that marked other pictures best",
        LAST: "the mean over the heads of the last layer",
        BACKGROUND: "the head that gave the subject the least of its weight on other pictures",
        EQUAL: "the head that marked other pictures best after all keys of a head got the same length",
        LENGTHS: "the lengths of the keys, long or short, in the head in which they marked other pictures best",
        GRADIENT: "the size of each pixel times the gradient of what the class token becomes, summed over a patch",
        COLOR: "how far the color of a patch is from the mean of the picture, without a network",
        MIDDLE: "how near a patch is to the middle, without a network",
        SIZE: "the best head, as before, of the network with random matrices of the trained size",
        UNTRAINED: "the best head, as before, of the network before its training: the control",
    }
    control = UNTRAINED
    measures = {
        "weight": Measure(
            "weight that falls on the subject, by its share of the area; the mean of four pictures", "times", "higher", failed=0.0, summary="median"
        ),
        "overlap": Measure("overlap of the map above its threshold with the subject", "IoU", "higher", failed=0.0),
        "box": Measure("overlap of the box around its peak with that of the subject", "IoU", "higher", failed=0.0),
        "ranked": Measure(
            "patches of the subject that have more than another patch, of all pairs", "share", "higher", failed=0.0
        ),
        "pointing": Measure("pictures whose highest peak lies on the subject", "share", "higher", failed=0.0),
        "marking": Measure(
            f"maps that give the subject at least {MARKS:g} times its share of the area", "share", "neither", failed=0.0
        ),
        "leaving": Measure(
            f"maps that give the subject at most 1/{MARKS:g} of its share of the area", "share", "neither", failed=0.0
        ),
    }  # fmt: skip

    def data(self) -> Mapping[str, str]:
        return {"weights": VISION_TRANSFORMER.sha256, "pictures": fingerprint()}

    def missing(self) -> str:
        return "; ".join(problem for problem in (VISION_TRANSFORMER.missing(), missing()) if problem)

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share what the networks see

    def measure(self, arm: str, seed: int) -> Measurement:
        numbers = [PILOT + EACH * seed + i for i in range(EACH)]
        seen = [marked(arm, number) for number in numbers]
        first = pasted(JUDGED, numbers[0])
        values = {measure: float(np.mean([each.values[measure] for each in seen])) for measure in self.measures}
        arrays = {name: seen[0].arrays[name].round(3) for name in ("map", "box", "true")}
        if arm in NETWORKS:
            arrays["weights"] = torch.stack([of_heads(arm, number) for number in numbers]).mean(0).numpy().round(4)
        if arm == HEAD:
            arrays["picture"] = gray(first).numpy().round(3)
        return Measurement(values, arrays)

    def judge(self, results: Results) -> Verdict:
        def more(other: str, by: float, told: str) -> Part:
            effect = results.difference(HEAD, other, "overlap")
            return Part(
                f"its map overlaps the subject by at least {by:g} more than {told}", effect, "at least", by, "IoU"
            )

        return Verdict.of(
            [
                Part(
                    "the chosen head gives the subject at least twice its share of the area, in the median run",
                    results.summary(HEAD, "weight"), "at least", 2.0, "times",
                ),
                more(MIDDLE, 0.2, "a disc in the middle"),
                more(UNTRAINED, 0.2, "the best head before training"),
                more(SIZE, 0.1, "the best head with random matrices of the trained size"),
                more(LENGTHS, 0.1, "the lengths of keys"),
                more(COLOR, 0.1, "the difference in color"),
                more(GRADIENT, 0.1, "gradient × input"),
                Part(
                    "if all keys of a head are equally long, the best head overlaps the subject by at most 0.1 less",
                    results.difference(HEAD, EQUAL, "overlap"), "at most", 0.1, "IoU",
                ),
                Part(
                    "the highest peak of the chosen head lies on the subject in at least 90 % of pictures",
                    results.summary(HEAD, "pointing"), "at least", 0.9, "share",
                ),
                Part(
                    f"at least half of all heads give the subject {MARKS:g} times its share of the area",
                    results.summary(HEAD, "marking"), "at least", 0.5, "of heads",
                ),
                Part(
                    "the head that is chosen for the background gives the subject at most half of its share",
                    results.summary(BACKGROUND, "weight"), "at most", 0.5, "times",
                ),
            ],
            control=Part(
                "before training, the chosen head gives the subject at least twice its share of the area",
                results.summary(UNTRAINED, "weight"), "at least", 2.0, "times",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        weight, overlap = (
            {arm: results.summary(arm, measure).estimate for arm in self.arms} for measure in ("weight", "overlap")
        )
        box, pointing, marking, leaving = (
            results.summary(HEAD, measure).estimate for measure in ("box", "pointing", "marking", "leaving")
        )
        return (
            f"The head of DINOv2-small that marks other pictures best gives the subject {number(weight[HEAD])} times its share of "
            f"the area, its peak lies on it in {pointing:.0%} of pictures, and its map overlaps it with an IoU of "
            f"{overlap[HEAD]:.2f} ({box:.2f} for boxes). A disc in the middle has {overlap[MIDDLE]:.2f}, difference in color "
            f"{overlap[COLOR]:.2f}, gradient × input {overlap[GRADIENT]:.2f}, the lengths of keys {overlap[LENGTHS]:.2f}, the best "
            f"head with keys of one length {overlap[EQUAL]:.2f}, with random matrices {overlap[SIZE]:.2f}, and before training "
            f"{overlap[UNTRAINED]:.2f}. Of all heads {marking:.0%} give the subject at least {MARKS:g} times its share, and "
            f"{leaving:.0%} at most 1/{MARKS:g} of it; the one chosen for the background gives it {number(weight[BACKGROUND])} times."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seeds = results.seeds()[:SHOWN]

        def shown(arm: str, name: str) -> Any:
            return torch.stack([torch.as_tensor(results.array(arm, name, seed)) for seed in seeds]).numpy()

        images = shown(HEAD, "picture")
        heads = {told: results.stack(arm, "weights").mean(0) for arm, told in NETWORKS.items()}
        return [
            Picture(
                f"{len(seeds)} of the pictures in gray, the box of the subject, and the boxes around the peaks of two maps.",
                figures.boxed_images(
                    images,
                    {"subject": shown(HEAD, "true"), HEAD: shown(HEAD, "box"), COLOR: shown(COLOR, "box")},
                    colors=figures.PHOTOGRAPH,
                ),
            ),
            Picture(
                "Four of them, and maps from their least value to their largest: the higher, the bluer.",
                *figures.map_grid(
                    images, {arm: shown(arm, "map") for arm in (HEAD, LAST, BACKGROUND, LENGTHS)}, 4, figures.PHOTOGRAPH
                ),
            ),
            Picture(
                "How much of its weight each head gives the subject, by the subject's share of the area: 1 is what an even map "
                "gives. The mean over pictures. Rows are layers and columns are heads, both counted from zero.",
                *figures.matrices(heads, "head", "layer", "times its share", first=0),
            ),
            Picture(
                "A dot for each run, the mean of four pictures; and the mean of all (for the weight the median) with its interval.",
                *comparison(results, ["weight", "overlap", "box"]),
            ),
        ]


# The map of each arm that marked the pictures of the seeds from 1000 on best, with its share: what `chosen` returns.
CHOSEN: dict[str, Choice] = {
    HEAD: Choice(64, 0.03),
    LAST: Choice(0, 0.15),
    BACKGROUND: Choice(69, 0.01),
    EQUAL: Choice(64, 0.1),
    LENGTHS: Choice(71, 0.5),
    GRADIENT: Choice(0, 0.2),
    COLOR: Choice(0, 0.3),
    MIDDLE: Choice(0, 0.6),
    SIZE: Choice(18, 0.2),
    UNTRAINED: Choice(32, 0.25),
}


def chosen(arm: str, seeds: Sequence[int] = range(FIRST, FIRST + PICTURES)) -> Choice:
    """The map of an arm, and the share, with the largest mean overlap on these pictures, none of which is judged.

    For the background it is the map whose weight on the subject is the least, by its geometric mean.
    """
    weights, overlaps = [], []
    for seed in seeds:
        picture, maps = pasted(CHOOSING, seed), maps_of(arm, CHOOSING, seed)
        weights.append(weight_by_area(maps, share_of_patches(picture, maps.shape[1:])))
        overlaps.append(overlap_above(enlarged(stretched(maps), SIDE, SIDE), picture.mask, SHARES))
    overlap = torch.stack(overlaps).mean(0)
    best = int(torch.stack(weights).log().mean(0).argmin() if arm == BACKGROUND else overlap.amax(-1).argmax())
    return Choice(best, round(float(SHARES[overlap[best].argmax()]), 2))


def marked(arm: str, seed: int) -> Measurement:
    """How well the chosen map of an arm marks the subject of one judged picture."""
    picture, choice, maps = pasted(JUDGED, seed), CHOSEN[arm], maps_of(arm, JUDGED, seed)
    covered, own = share_of_patches(picture, maps.shape[1:]), maps[choice.map]
    weights = weight_by_area(maps, covered)
    above = enlarged(stretched(own)[None], SIDE, SIDE)
    box = boxes_around_peaks(above, choice.share)
    return Measurement(
        values={
            "weight": float(weights[choice.map]),
            "overlap": float(overlap_above(above[0], picture.mask, torch.tensor([choice.share]))[0]),
            "box": float(intersection_over_union(box, picture.box[None].float())[0]),
            "ranked": float(ranked_higher(own, covered >= 0.5)),
            "pointing": float(picture.mask.flatten()[above.flatten().argmax()]),
            "marking": float((weights >= MARKS).float().mean()),
            "leaving": float((weights <= 1 / MARKS).float().mean()),
        },
        arrays={
            "map": stretched(own).numpy(),
            "box": (box[0] * GRAY / SIDE).numpy(),
            "true": (picture.box * GRAY / SIDE).numpy(),
        },
    )


def maps_of(arm: str, drawings: str, seed: int) -> Float[Tensor, "maps rows cols"]:
    """The maps among which an arm has chosen, on one picture: none of them below zero."""
    picture = pasted(drawings, seed)
    side = SIDE // network("trained").config.patch_size
    if arm == COLOR:
        return color_difference(F.adaptive_avg_pool2d(picture.pixels, side))[None]
    if arm == MIDDLE:
        return nearness_to_middle(side, side)[None]
    if arm == GRADIENT:
        return gradient_by_input(network("trained"), normalized(picture), side)[None]
    seen = seen_by(NETWORKS.get(arm, "trained"), drawings, seed)
    if arm == LAST:
        return seen.attention[-1].mean(0, keepdim=True)
    if arm == LENGTHS:
        return torch.cat([seen.lengths, 1 / seen.lengths]).flatten(0, 1)
    return (seen.equal if arm == EQUAL else seen.attention).flatten(0, 1)


class Seen(NamedTuple):
    """Of one picture, for each layer, head and patch: the class token's attention, as it is and with keys of one length,
    and the length of the patch's key."""

    attention: Float[Tensor, "layers heads rows cols"]
    equal: Float[Tensor, "layers heads rows cols"]
    lengths: Float[Tensor, "layers heads rows cols"]


@cache
@torch.no_grad()
def seen_by(kind: str, drawings: str, seed: int) -> Seen:
    """What a network sees in a picture. Arms share it, so that each network runs once for a picture."""
    pixels, model = normalized(pasted(drawings, seed)), network(kind)
    side = SIDE // model.config.patch_size
    with attach(model) as scope:
        model(pixels)
    layers = [HeadInputs(q=P.q[:, :1], k=P.k, v=P.k, scale=P.scale) for P in scope]
    equal = [EqualKeyNorms().change(layer) for layer in layers]
    return Seen(
        *(
            torch.stack(maps)[..., 1:].unflatten(-1, (side, side))  # the first token is the class token
            for maps in (
                [layer.attention().dense()[:, 0] for layer in layers],
                [layer.attention().dense()[:, 0] for layer in equal],
                [layer.k.norm(dim=-1) for layer in layers],
            )
        )
    )


@cache
def network(kind: str) -> Any:
    """The trained network, or its twin with the weights before training or with random matrices of the trained size."""
    model = vision_transformer()
    return {"trained": lambda: model, "untrained": lambda: untrained(model, 0)}.get(kind, lambda: scrambled(model, 0))()


def normalized(picture: Pasted) -> Float[Tensor, "1 3 h w"]:
    """The pixels as the network gets them."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    return ((picture.pixels - mean) / std)[None]


def gradient_by_input(model: Any, pixels: Float[Tensor, "1 3 h w"], side: int) -> Float[Tensor, "rows cols"]:
    """Σ |x · ∂ ½|z|² / ∂x| over each patch, for z what the last block makes of the class token."""
    states: list[Tensor] = []
    hook = model.layernorm.register_forward_pre_hook(lambda _norm, given: states.append(given[0]))
    try:
        with torch.enable_grad():
            inputs = pixels.clone().requires_grad_()
            model(inputs)
            (gradient,) = torch.autograd.grad(states[0][0, 0].square().sum() / 2, inputs)
    finally:
        hook.remove()
    return F.adaptive_avg_pool2d((gradient * pixels).abs().sum(1), side)[0]


def color_difference(colors: Float[Tensor, "3 rows cols"]) -> Float[Tensor, "rows cols"]:
    """How far the mean color of each patch is from that of the picture."""
    return (colors - colors.mean((1, 2), keepdim=True)).norm(dim=0)


def nearness_to_middle(rows: int, cols: int) -> Float[Tensor, "rows cols"]:
    """1 − r / max r for each patch, r its distance from the middle."""
    down, across = (torch.arange(n) - (n - 1) / 2 for n in (rows, cols))
    distance = (down[:, None].square() + across.square()).sqrt()
    return 1 - distance / distance.max()


def of_heads(arm: str, seed: int) -> Float[Tensor, "layers heads"]:
    """The weight that each head of an arm's network gives the subject of a judged picture, by its share of the area."""
    maps = seen_by(NETWORKS[arm], JUDGED, seed).attention
    return weight_by_area(maps, share_of_patches(pasted(JUDGED, seed), maps.shape[2:]))


def share_of_patches(picture: Pasted, shape: Sequence[int]) -> Float[Tensor, "rows cols"]:
    """The part of each patch that the subject covers."""
    return F.adaptive_avg_pool2d(picture.mask.float()[None], (shape[0], shape[1]))[0]


def gray(picture: Pasted) -> Float[Tensor, "gray gray"]:
    """A small gray picture, to be drawn."""
    return F.adaptive_avg_pool2d(picture.pixels.mean(0, keepdim=True), GRAY)[0]
