"""The subject of a scene: does the attention of a small vision transformer mark the digit that it learned to name?

This is the claim `subject_of_picture` with nothing to install. Its network is a stand-in for a large one: a vision
transformer of two blocks with a class token, which learns here, in seconds, which digit lies among pieces of others, from
the class alone. The map of a head is the attention of the class token to each place, in each of its eight heads.

As there, an arm that has several maps chooses one of them, and the share of the peak at which a map ends, on other scenes
than those that are judged, and the untrained network and the lengths of the keys have the same choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.data import digits
from limelight.data.cluttered_digits import SIDE, Scenes, scenes
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.interpret.boxes import boxes_around_peaks, enlarged, intersection_over_union, pointed
from limelight.interpret.marking import overlap_above, stretched, weight_by_area
from limelight.models.class_token_network import ClassTokenNetwork
from limelight.models.fresh import fresh
from limelight.models.training import descend
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

TRAIN, TEST = 1297, 200  # digits that are learned, and scenes on which maps are judged, and on which they are chosen
STEPS, BATCH, RATE = 350, 32, 0.003
SHARES = torch.tensor([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
MARKS = 1.5  # a head marks the digit if it gives it this many times its share of the area, in the median scene
SHOWN = 8
CHANCE = 0.1

HEAD, LAST = "one head", "all heads of the last block"
EQUAL, LENGTHS = "one head, keys equally long", "lengths of the keys"
GRADIENT, BRIGHTNESS, MIDDLE = "gradient × input", "brightness", "disc in the middle"
UNTRAINED = "one head, untrained"
WITHOUT = (BRIGHTNESS, MIDDLE)  # a network


class SubjectOfScene(Claim):
    """The claim that the attention of a small vision transformer marks the digit in a scene."""

    name = "subject_of_scene"
    title = "Attention marks the subject of a scene, in a small vision transformer"
    question = (
        "A small vision transformer has learned which digit lies among pieces of others, and was never told where. Does the "
        "attention of its class token fall on the digit more than by its area? Does it mark the digit better than the network "
        "before training, than the lengths of the keys alone, than the gradient, and than brightness or a disc in the middle?"
    )
    source = (
        "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known), Attention; Caron et al. 2021 "
        "(2104.14294)"
    )
    arms = {
        HEAD: "the attention of the class token in the head that marked other scenes best",
        LAST: "the mean over the heads of the last block",
        EQUAL: "the head that marked other scenes best after all keys of a head got the same length",
        LENGTHS: "the lengths of the keys, long or short, in the head in which they marked other scenes best",
        GRADIENT: "the size of each pixel times the gradient of the largest logit",
        BRIGHTNESS: "how bright a place is, without a network",
        MIDDLE: "how near a place is to the middle, without a network",
        UNTRAINED: "the best head, as before, of the network before its training: the control",
    }
    control = UNTRAINED
    measures = {
        "weight": Measure(
            "weight that falls on the digit's box, by its share of the area, in the median scene", "times", "higher",
            failed=0.0,
        ),
        "overlap": Measure("overlap of the map above its threshold with the digit's box", "mean IoU", "higher", failed=0.0),
        "box": Measure("overlap of the box around the map's peak with the digit's", "mean IoU", "higher", failed=0.0),
        "pointing": Measure("scenes whose highest peak lies on the digit", "share", "higher", failed=0.0),
        "marking": Measure(
            f"maps that give the digit at least {MARKS:g} times its share of the area", "share", "neither", failed=0.0
        ),
        "accuracy": Measure(
            "scenes whose digit is named rightly; a guess where there is no network", "share", "higher", failed=0.0
        ),
    }  # fmt: skip

    def data(self) -> Mapping[str, str]:
        return {"digits": digits.fingerprint()}

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the trained network and what it sees

    def measure(self, arm: str, seed: int) -> Measurement:
        chosen_on, test = scenes_of(seed)
        choice = chosen(maps_of(arm, seed, chosen_on), masks_of(chosen_on))
        maps, masks = maps_of(arm, seed, test), masks_of(test)
        weights = weights_on(maps, masks)
        own = enlarged(stretched(maps[:, choice.map]), SIDE, SIDE)
        boxes = boxes_around_peaks(own, choice.share)
        return Measurement(
            values={
                "weight": float(weights[choice.map]),
                "overlap": float(overlaps(own[:, None], masks, torch.tensor([choice.share])).mean()),
                "box": float(intersection_over_union(boxes, test.boxes.float()).mean()),
                "pointing": float(pointed(own, test.boxes.float()).mean()),
                "marking": float((weights >= MARKS).float().mean()),
                "accuracy": CHANCE if arm in WITHOUT else right(trained(seed, steps_of(arm)), test),
            },
            arrays={
                "maps": own[:SHOWN].numpy().round(3),
                "boxes": boxes[:SHOWN].numpy(),
                **({"weights": weights.unflatten(0, (2, -1)).numpy().round(3)} if arm in (HEAD, UNTRAINED) else {}),
                **({"images": test.images[:SHOWN].numpy(), "true": test.boxes[:SHOWN].numpy()} if arm == HEAD else {}),
            },
        )

    def judge(self, results: Results) -> Verdict:
        def more(other: str, by: float, told: str) -> Part:
            effect = results.difference(HEAD, other, "overlap")
            return Part(
                f"its map overlaps the digit's box by at least {by:g} more than {told}", effect, "at least", by, "IoU"
            )

        return Verdict.of(
            [
                Part(
                    "the chosen head gives the digit at least twice its share of the area",
                    results.summary(HEAD, "weight"), "at least", 2.0, "times",
                ),
                more(MIDDLE, 0.1, "a disc in the middle"),
                more(UNTRAINED, 0.1, "the best head before training"),
                more(LENGTHS, 0.1, "the lengths of keys"),
                more(BRIGHTNESS, 0.1, "brightness"),
                more(GRADIENT, 0.0, "gradient × input"),
                Part(
                    "if all keys of a head are equally long, the best head overlaps the digit's box by at most 0.1 less",
                    results.difference(HEAD, EQUAL, "overlap"), "at most", 0.1, "IoU",
                ),
                Part(
                    "the highest peak of the chosen head lies on the digit in at least 90 % of scenes",
                    results.summary(HEAD, "pointing"), "at least", 0.9, "share",
                ),
                Part(
                    f"at least half of all heads give the digit {MARKS:g} times its share of the area",
                    results.summary(HEAD, "marking"), "at least", 0.5, "of heads",
                ),
            ],
            control=Part(
                "before training, the chosen head gives the digit at least twice its share of the area",
                results.summary(UNTRAINED, "weight"), "at least", 2.0, "times",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        weight, overlap = (
            {arm: results.summary(arm, measure).estimate for arm in self.arms} for measure in ("weight", "overlap")
        )
        box, pointing, marking, accuracy = (
            results.summary(HEAD, measure).estimate for measure in ("box", "pointing", "marking", "accuracy")
        )
        return (
            f"A small vision transformer that names {accuracy:.0%} of the digits rightly stands in for a large one. Its head that "
            f"marks other scenes best gives the digit {number(weight[HEAD])} times its share of the area (before training "
            f"{number(weight[UNTRAINED])} times), its peak lies on it in {pointing:.0%} of scenes, and its map overlaps the digit's "
            f"box with an IoU of {overlap[HEAD]:.2f} ({box:.2f} for boxes); before training it is {overlap[UNTRAINED]:.2f}. A disc "
            f"in the middle has {overlap[MIDDLE]:.2f}, brightness {overlap[BRIGHTNESS]:.2f}, gradient × input "
            f"{overlap[GRADIENT]:.2f}, the lengths of keys {overlap[LENGTHS]:.2f}, and the best head with keys of one length "
            f"{overlap[EQUAL]:.2f}. Of all heads {marking:.0%} give the digit at least {MARKS:g} times its share."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        images, truth = (results.array(HEAD, name, seed) for name in ("images", "true"))
        boxes = {arm: results.array(arm, "boxes", seed) for arm in (HEAD, BRIGHTNESS)}
        maps = {arm: results.array(arm, "maps", seed) for arm in (HEAD, LAST, LENGTHS)}
        heads = {
            told: results.stack(arm, "weights").mean(0) for arm, told in ((HEAD, "trained"), (UNTRAINED, "untrained"))
        }
        return [
            Picture(
                f"{SHOWN} scenes of seed {seed}, which the network never saw, the box of the digit, and boxes around peaks.",
                figures.boxed_images(images, {"digit": truth, **boxes}, colors=figures.PHOTOGRAPH),
            ),
            Picture(
                "Four of them, and maps from their least value to their largest: the higher, the bluer.",
                *figures.map_grid(images, maps, 4, figures.PHOTOGRAPH),
            ),
            Picture(
                "How much of its weight each head gives the digit, by the digit's share of the area: 1 is what an even map gives. "
                "The mean over networks. Rows are blocks and columns are heads, both counted from zero.",
                *figures.matrices(heads, "head", "block", "times its share", first=0),
            ),
            Picture(
                "A dot for each network, and the mean with its interval.",
                *comparison(results, ["weight", "overlap", "pointing"]),
            ),
        ]


class Choice(NamedTuple):
    """Which of an arm's maps is judged, and the share of its height at which it ends."""

    map: int
    share: float


def chosen(maps: Float[Tensor, "n maps rows cols"], masks: Bool[Tensor, "n h w"]) -> Choice:
    """The map and the share with the largest mean overlap on these scenes."""
    found = overlaps(enlarged(stretched(maps).flatten(0, 1), SIDE, SIDE).unflatten(0, maps.shape[:2]), masks, SHARES)
    best, share = torch.unravel_index(found.mean(0).argmax(), found.shape[1:])
    return Choice(int(best), round(float(SHARES[share]), 2))


def overlaps(
    maps: Float[Tensor, "n maps h w"], masks: Bool[Tensor, "n h w"], shares: Float[Tensor, " shares"]
) -> Float[Tensor, "n maps shares"]:
    return torch.stack([overlap_above(own, mask, shares) for own, mask in zip(maps, masks, strict=True)])


def weights_on(maps: Float[Tensor, "n maps rows cols"], masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " maps"]:
    """The weight that each map gives the digit's box, by its share of the area, in the median scene."""
    covered = F.adaptive_avg_pool2d(masks.float(), (maps.shape[2], maps.shape[3]))
    return torch.stack([weight_by_area(*each) for each in zip(maps, covered, strict=True)]).median(0).values


def maps_of(arm: str, seed: int, seen: Scenes) -> Float[Tensor, "n maps rows cols"]:
    """The maps among which an arm chooses, one for each place of the network's tokens: none of them below zero."""
    side = SIDE // 2
    if arm == BRIGHTNESS:
        return F.adaptive_avg_pool2d(seen.images, side)[:, None]
    if arm == MIDDLE:
        return nearness_to_middle(side).expand(len(seen.images), 1, -1, -1)
    model = trained(seed, steps_of(arm))
    if arm == GRADIENT:
        return F.adaptive_avg_pool2d(gradient_by_input(model, seen.images), side)[:, None]
    maps = class_token_maps(model, seen.images, arm).unflatten(-1, (side, side))
    if arm == LAST:
        return maps[:, -1].mean(1, keepdim=True)
    if arm == LENGTHS:
        maps = torch.cat([maps, 1 / maps], 2)
    return maps.flatten(1, 2)


@torch.no_grad()
def class_token_maps(
    model: ClassTokenNetwork, images: Float[Tensor, "n h w"], arm: str
) -> Float[Tensor, "n blocks heads places"]:
    """In each head, the attention of the class token to each place, or for `LENGTHS` the length of the place's key."""
    found = []
    for q, k in model.asked(images):
        lengths = k.norm(dim=-1, keepdim=True)
        k = k * lengths.mean(-2, keepdim=True) / lengths if arm == EQUAL else k
        weights = lengths[..., 0] if arm == LENGTHS else Attention(q, k).dense()[:, :, 0]
        found.append(weights[..., 1:])  # without the class token itself
    return torch.stack(found, 1)


def gradient_by_input(model: ClassTokenNetwork, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """|x · ∂ max_c y_c / ∂x|: how much each pixel matters to the largest logit, to first order."""
    pixels = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(pixels).amax(-1).sum(), pixels)
    return (gradient * images).abs()


def nearness_to_middle(side: int) -> Float[Tensor, "side side"]:
    """1 − r / max r for each place, r its distance from the middle."""
    from_middle = torch.arange(side) - (side - 1) / 2
    distance = (from_middle[:, None].square() + from_middle.square()).sqrt()
    return 1 - distance / distance.max()


def masks_of(seen: Scenes) -> Bool[Tensor, "n h w"]:
    """The pixels of the digits' boxes."""
    top, left, bottom, right = seen.boxes.T[..., None]
    at = torch.arange(SIDE)
    rows, columns = (at >= top) & (at < bottom), (at >= left) & (at < right)
    return rows[:, :, None] & columns[:, None]


@cache
def scenes_of(seed: int) -> tuple[Scenes, Scenes]:
    """Scenes on which maps are chosen, and others on which they are judged, of digits that no network has learned."""
    generator = torch.Generator().manual_seed(seed)
    _, (images, labels) = digits.split(TRAIN, 500, generator)
    halves = zip(images.chunk(2), labels.chunk(2), strict=True)
    chosen_on, test = (scenes(*half, TEST, generator) for half in halves)
    return chosen_on, test


def steps_of(arm: str) -> int:
    return 0 if arm == UNTRAINED else STEPS


@cache
def trained(seed: int, steps: int) -> ClassTokenNetwork:
    """A network that has learned for so many steps which digit lies in a scene. Arms share it."""
    generator = torch.Generator().manual_seed(seed)
    (images, labels), _ = digits.split(TRAIN, 500, generator)
    model = fresh(lambda: ClassTokenNetwork(SIDE, 10), seed)

    def loss() -> Tensor:
        batch = scenes(images, labels, BATCH, generator)
        return F.cross_entropy(model(batch.images), batch.labels)

    for _ in descend(model, loss, steps, RATE):
        pass
    return model.eval()


@torch.no_grad()
def right(model: ClassTokenNetwork, test: Scenes) -> float:
    """The share of scenes whose digit the network names."""
    return float((model(test.images).argmax(-1) == test.labels).float().mean())
