"""From presence to detection: a classifier that never saw a box is asked where it saw what it named.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) lists as unproven that a network which has learned to
recognize the presence of an object could be inspected to detect it, "e.g. draw a bounding box around it". Here
networks learn which digit lies in a scene of clutter, from its class alone. A box is then drawn around the highest
peak of a map: of the class activation map (Zhou et al. 2016, 1512.04150), of gradient × input, or of the attention
of a network that pools by attention. Only the share of the peak at which a box ends was chosen, on other seeds.

What a box needs no network for is compared too: one around the brightest part of the scene, one of the usual size in
the middle, and one anywhere. And networks are compared with themselves before they were trained, since gradient × input
is partly a picture of its input, whatever the network (Adebayo et al. 2018, 1810.03292).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limelight import figures
from limelight.data import digits
from limelight.data.cluttered_digits import SIDE, Scenes, scenes
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.interpret.boxes import boxes_around_peaks, enlarged, intersection_over_union, pointed
from limelight.models.convolutional_network import AttentionPooledNetwork, ClassActivationNetwork
from limelight.models.training import descend
from limelight.report.comparison import comparison

TRAIN, TEST = 1297, 500  # digits, of which scenes are made
STEPS, BATCH, RATE = 400, 64, 0.01
SMOOTHED = 3  # pixels, each way, over which gradient × input and brightness are averaged
SHOWN = 8  # scenes that are kept to be drawn
CHANCE = 0.1
CLASS_MAP, GRADIENT, ATTENTION = "class activation map", "gradient × input", "attention"
BRIGHTNESS, MIDDLE, ANYWHERE = "brightness", "box in the middle", "box anywhere"
UNTRAINED_GRADIENT, UNTRAINED = "gradient × input, untrained", "class activation map, untrained"
WITHOUT = (BRIGHTNESS, MIDDLE, ANYWHERE)  # a network


class PresenceToDetection(Claim):
    """The claim that a classifier's activations say where the object is."""

    name = "presence_to_detection"
    title = "A classifier that never saw a box can be asked where the object is"
    question = (
        "A network has learned which digit lies among pieces of others, and was never told where. Can its activations, its "
        "gradient or its attention be turned into a box around the digit? And is that box better than one that is drawn "
        "without looking, in the middle of every scene?"
    )
    source = (
        "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known), Presence → Detection"
    )
    arms = {
        CLASS_MAP: "convolutions and a global average pool: how much each place speaks for the class that is named",
        GRADIENT: "the same network: the size of each pixel times the gradient of the largest logit",
        ATTENTION: "the same convolutions, pooled by the attention of one learned query: the weight of each place",
        BRIGHTNESS: "the brightest part of the scene, without a network",
        MIDDLE: "a box of the mean size in the middle of every scene, without a network",
        ANYWHERE: "a box of the mean size at a random place, without a network",
        UNTRAINED_GRADIENT: "gradient × input of the network before it is trained",
        UNTRAINED: "the class activation map of the network before it is trained: the control",
    }
    control = UNTRAINED
    measures = {
        "overlap": Measure("overlap of the box with the true one", "mean IoU", "higher", failed=0.0),
        "half": Measure("boxes that overlap the true one by at least half", "share", "higher", failed=0.0),
        "pointing": Measure("scenes whose highest peak lies on the digit", "share", "higher", failed=0.0),
        "accuracy": Measure(
            "scenes whose digit is named rightly; a guess where there is no network", "share", "higher", failed=0.0
        ),
    }

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the trained networks

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        known, others = digits.split(TRAIN, TEST, generator)
        test = scenes(*others, TEST, generator)
        if arm in (MIDDLE, ANYWHERE):
            boxes = of_usual_size(scenes(*known, TEST, generator), arm == ANYWHERE, generator)
            maps = centers(boxes)
        else:
            maps = maps_of(arm, seed, test.images)
            boxes = boxes_around_peaks(maps, SHARES[arm])
        overlap = intersection_over_union(boxes, test.boxes.float())
        return Measurement(
            values={
                "overlap": float(overlap.mean()),
                "half": float((overlap >= 0.5).float().mean()),
                "pointing": float(pointed(maps, test.boxes.float()).mean()),
                "accuracy": CHANCE if arm in WITHOUT else right(network(arm, seed), test),
            },
            arrays={
                "images": test.images[:SHOWN].numpy(),
                "truth": test.boxes[:SHOWN].numpy(),
                "boxes": boxes[:SHOWN].numpy(),
                "maps": maps[:SHOWN].numpy(),
            },
        )

    def judge(self, results: Results) -> Verdict:
        looking = (CLASS_MAP, GRADIENT, ATTENTION)
        return Verdict.of(
            [
                Part(
                    "boxes of the class activation map overlap the true ones by at least half, on average",
                    results.summary(CLASS_MAP, "overlap"), "at least", 0.5, "IoU",
                ),
                Part(
                    "at least six of ten of them overlap the true one by half",
                    results.summary(CLASS_MAP, "half"), "at least", 0.6, "share",
                ),
                *(
                    Part(
                        f"boxes of {arm} overlap the true ones by at least 0.2 more than a box in the middle",
                        results.difference(arm, MIDDLE, "overlap"), "at least", 0.2, "IoU",
                    )
                    for arm in looking
                ),
                Part(
                    "boxes of the class activation map overlap the true ones by at least 0.1 more than the brightest part",
                    results.difference(CLASS_MAP, BRIGHTNESS, "overlap"), "at least", 0.1, "IoU",
                ),
                Part(
                    "boxes of gradient × input overlap the true ones by at least 0.1 more than before the network is trained",
                    results.difference(GRADIENT, UNTRAINED_GRADIENT, "overlap"), "at least", 0.1, "IoU",
                ),
                *(
                    Part(
                        f"the highest peak of {arm} lies on the digit in at least 90 % of scenes",
                        results.summary(arm, "pointing"), "at least", 0.9, "share",
                    )
                    for arm in looking
                ),
            ],
            control=Part(
                "boxes of a network before it is trained overlap the true ones by at least 0.2 more than a box in the middle",
                results.difference(UNTRAINED, MIDDLE, "overlap"), "at least", 0.2, "IoU",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        overlap, pointing = (
            {arm: results.summary(arm, measure).estimate for arm in self.arms} for measure in ("overlap", "pointing")
        )
        half = results.summary(CLASS_MAP, "half").estimate
        return (
            f"A network that learned which digit lies in a scene, and was never told where, draws boxes with an IoU of "
            f"{overlap[CLASS_MAP]:.2f} by its class activation map ({half:.0%} of them above one half), {overlap[GRADIENT]:.2f} "
            f"by gradient × input and {overlap[ATTENTION]:.2f} by attention; one around the brightest part of the scene has "
            f"{overlap[BRIGHTNESS]:.2f}, and one in its middle {overlap[MIDDLE]:.2f}. Before the network is trained the first "
            f"two have {overlap[UNTRAINED]:.2f} and {overlap[UNTRAINED_GRADIENT]:.2f}. The highest peak lies on the digit in "
            f"{pointing[CLASS_MAP]:.0%}, {pointing[GRADIENT]:.0%} and {pointing[ATTENTION]:.0%} of scenes."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        images, truth = (results.array(CLASS_MAP, name, seed) for name in ("images", "truth"))
        drawn = {arm: results.array(arm, "boxes", seed) for arm in (CLASS_MAP, ATTENTION)}
        looks = {arm: results.array(arm, "maps", seed) for arm in (CLASS_MAP, GRADIENT, ATTENTION)}
        return [
            Picture(
                f"{SHOWN} scenes of seed {seed}, which the networks never saw, and the boxes that are drawn.",
                figures.boxed_images(images, {"true box": truth, **drawn}),
            ),
            Picture(
                "The first four of these scenes with the maps that the boxes come from: the higher, the bluer.",
                *figures.map_grid(images, looks, 4),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, list(self.measures)),
            ),
        ]


def class_maps(model: nn.Module, images: Tensor) -> Tensor:
    """The class activation map of the class that the network names."""
    assert isinstance(model, ClassActivationNetwork)
    with torch.no_grad():
        return enlarged(model.activation_map(images, model(images).argmax(-1)), SIDE, SIDE)


def gradient_maps(model: nn.Module, images: Tensor) -> Tensor:
    """|x · ∂ max_c y_c / ∂x|, smoothed: how much each pixel matters to the largest logit, to first order."""
    pixels = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(pixels).amax(-1).sum(), pixels)
    return smoothed((gradient * images).abs())


def attention_maps(model: nn.Module, images: Tensor) -> Tensor:
    """The attention of the learned query."""
    assert isinstance(model, AttentionPooledNetwork)
    with torch.no_grad():
        return enlarged(model.attention_map(images), SIDE, SIDE)


def smoothed(maps: Tensor) -> Tensor:
    """The mean over the pixels around each pixel."""
    return F.avg_pool2d(maps[:, None], SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False)[:, 0]


# For each network: its model, the steps for which it is trained, and its maps.
NETWORKS: dict[str, tuple[type[nn.Module], int, Callable[[nn.Module, Tensor], Tensor]]] = {
    CLASS_MAP: (ClassActivationNetwork, STEPS, class_maps),
    GRADIENT: (ClassActivationNetwork, STEPS, gradient_maps),
    ATTENTION: (AttentionPooledNetwork, STEPS, attention_maps),
    UNTRAINED_GRADIENT: (ClassActivationNetwork, 0, gradient_maps),
    UNTRAINED: (ClassActivationNetwork, 0, class_maps),
}

# The share of its peak at which a box ends: for each map the one whose boxes were best on seeds 1000 and 1001.
SHARES = {CLASS_MAP: 0.4, GRADIENT: 0.35, ATTENTION: 0.005, BRIGHTNESS: 0.5, UNTRAINED_GRADIENT: 0.35, UNTRAINED: 0.1}


def maps_of(arm: str, seed: int, images: Tensor) -> Tensor:
    """What an arm's boxes are drawn around: for each scene a map of its size."""
    return smoothed(images) if arm == BRIGHTNESS else NETWORKS[arm][2](network(arm, seed), images)


def network(arm: str, seed: int) -> nn.Module:
    """The network of an arm, as it classifies after training. Arms share it, so that it is trained once for a seed."""
    build, steps, _ = NETWORKS[arm]
    return trained(build, steps, seed)  # type: ignore[arg-type]  # mypy misses that a class has a hash


@cache
def trained(build: type[nn.Module], steps: int, seed: int) -> nn.Module:
    """A network that has learned for so many steps which digit lies in a scene, with the statistics that it stored."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    (images, labels), _ = digits.split(TRAIN, TEST, generator)
    model = build(10)

    def loss() -> Tensor:
        batch = scenes(images, labels, BATCH, generator)
        return F.cross_entropy(model(batch.images), batch.labels)

    for _ in descend(model, loss, steps, RATE):
        pass
    return model.eval()


@torch.no_grad()
def right(model: nn.Module, test: Scenes) -> float:
    """The share of scenes whose digit the network names."""
    return float((model(test.images).argmax(-1) == test.labels).float().mean())


def of_usual_size(known: Scenes, anywhere: bool, generator: torch.Generator) -> Tensor:
    """For each scene a box of the mean height and width of known boxes, in its middle or anywhere in it."""
    size = (known.boxes[:, 2:] - known.boxes[:, :2]).float().mean(0)
    place = torch.rand(TEST, 2, generator=generator) if anywhere else torch.full((TEST, 2), 0.5)
    first = place * (SIDE - size)
    return torch.cat([first, first + size], 1)


def centers(boxes: Tensor) -> Tensor:
    """Maps (n, SIDE, SIDE) whose peak is the pixel in the middle of each box."""
    maps = torch.zeros(len(boxes), SIDE, SIDE)
    row, column = ((boxes[:, :2] + boxes[:, 2:]) / 2).long().T
    maps[torch.arange(len(boxes)), row, column] = 1
    return maps
