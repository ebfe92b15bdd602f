"""The hierarchy of convolutions: what do units of each layer answer to, measured with stimuli made for it?

daulet's "Neural Net Intuition" (nn-intuition on GitHub) says that a first convolution finds features such as lines, and
that a hierarchy of convolutions finds more complex ones: curve → semicircle → a letter. Pictures of filters suggest this;
here it is measured, as in a physiologist's laboratory. A network of three convolutions learns to name handwritten
digits. Then its layers are shown bars of all orientations, arcs and straight segments of one length, and whole digits
that it never saw. A channel's response is its largest activation over places, less that to an empty image.

The same measures are taken of a network before it is trained, of one whose images have their pixels shuffled in one way,
of one that learned random labels, and of one whose first layer was set to Gabor functions, which answer to lines of one
orientation: a measure of orientation has to find them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from plotly.graph_objects import Figure
from torch import Tensor

from limelight import figures
from limelight.data import digits
from limelight.data.large_digits import SIDE, anywhere, on_canvas, turned
from limelight.data.stimuli import arcs, bars, gabors, gratings
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.statistics import Interval
from limelight.experiment.verdict import Part, Verdict
from limelight.interpret.class_selectivity import class_areas, tolerance
from limelight.interpret.curvature import curvature_preference
from limelight.interpret.orientation import circular_variance, line_share
from limelight.interpret.receptive_field import effective_side, receptive_fields
from limelight.models.convolutional_hierarchy import ConvolutionalHierarchy
from limelight.models.training import batch_loss, descend
from limelight.report.comparison import comparison

TRAIN, TEST, CLASSES = 1297, 500, 10
LAYERS = (1, 2, 3)
CURVED = 0.1  # a unit prefers arcs if its best one excites it at least 22% more than its best segment
LETTER = 0.9  # a unit stands for a digit if it tells it from the others with an area under the curve of at least this
STEPS, BATCH, RATE = 600, 32, 0.003  # with which the accuracy on unseen digits had settled on seeds 1000 to 1002
REACH = 2  # pixels by which a digit lies off the middle, each way, at most
SHIFT, TURN = 2, 20.0  # pixels and degrees by which digits are moved and turned to see what is left of a response

ORIENTATIONS = torch.arange(12) * math.pi / 12  # of bars and gratings, in radians
OFFSETS = torch.arange(8) / 2  # pixels by which a bar is moved across itself
WAVELENGTHS = (4.0, 6.0, 9.0)  # pixels; a unit is judged by the one that excites it most
PHASES = torch.arange(4) * math.pi / 2
# Pixels of an arc, and how far it turns, to a semicircle. It is as long as layer 2 sees: of arcs of 10 pixels, the pooling
# leaves so little that a unit built as the template of a semicircle would prefer a segment.
LENGTH, TURNS = 14.0, (math.pi / 3, 2 * math.pi / 3, math.pi)
AROUND = torch.arange(16) * math.pi / 8  # orientations of arcs; those of segments are half as far apart
SHIFTS = torch.cartesian_prod(torch.arange(0.0, 4.0, 2.0), torch.arange(0.0, 4.0, 2.0))  # pixels
SHOWN, BEST, FIELD_IMAGES = 5, 3, 32  # units of a layer and patches of a unit that are drawn; images for a gradient

LEARNED, GABOR, SHUFFLED = "trained", "Gabor first layer", "shuffled pixels"
UNTRAINED, NO_LABELS = "untrained", "random labels"


PROPERTIES: tuple[tuple[str, str, str, Literal["higher", "lower", "neither"], float], ...] = (
    ("orientation", "selectivity for the orientation of a bar", "1 − circular variance", "neither", 0.0),
    ("gratings", "selectivity for the orientation of a grating", "1 − circular variance", "neither", 0.0),
    ("curved", "units that prefer an arc to a straight segment", "share of units", "neither", 0.0),
    ("class", "how well a unit tells its best digit from the others", "area under the ROC curve", "higher", 0.5),
    ("letters", "units that stand for a digit", "share of units", "higher", 0.0),
    ("field", "side of the square of pixels that move a unit", "pixels", "neither", 1.0),
    ("shift", f"what a shift by {SHIFT} pixels leaves of a response", "correlation", "neither", 0.0),
    ("turn", f"what a turn by {TURN:.0f}° leaves of a response", "correlation", "neither", 0.0),
)  # of each layer: what is measured, its unit, and its value if training failed


class ConvolutionHierarchy(Claim):
    """The claim that layers of convolutions find lines, then curves, then characters."""

    name = "convolution_hierarchy"
    title = "Layers of convolutions learn to answer to lines, then to curves, then to whole characters"
    question = (
        "A network of three convolutions has learned to name handwritten digits. Shown bars, arcs and digits, what do "
        "the units of each layer answer to? Are those of the first the most selective for the orientation of a line, do "
        "more of those of the second prefer an arc to a straight segment, and do those of the third stand for a digit? "
        "And how much of this does an untrained network do as well?"
    )
    source = "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known), Convolution"
    arms = {
        LEARNED: "three convolutions, trained to name the digit",
        GABOR: "the same with a first layer of Gabor functions of eight orientations, which is not trained",
        SHUFFLED: "the same, trained on images whose pixels are all shuffled in one way",
        UNTRAINED: "the same before training",
        NO_LABELS: "the same, trained on labels drawn at random: the control",
    }
    control = NO_LABELS
    measures = {
        **{
            f"{name} {layer}": Measure(f"{description}, layer {layer}", unit, better, failed=failed)
            for name, description, unit, better, failed in PROPERTIES
            for layer in LAYERS
        },
        "lines": Measure(
            "what lines of one orientation explain of a first filter", "share of the variance", "neither", failed=0.0
        ),
        "growth": Measure(
            "how much wider what moves a unit is than in the layer before; the smaller of both steps", "times",
            "neither", failed=1.0,
        ),
        "silent": Measure("units that answer to all unseen digits alike", "share of all units", "neither", failed=1.0),
        "accuracy": Measure("unseen digits that are named rightly", "share", "higher", failed=0.0),
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        known, unseen = digits.split(TRAIN, TEST, generator)
        shown = Shown(arm == SHUFFLED, generator)
        model = network(arm, shown, *known, generator)
        shapes, orientation, curved = responses_to_shapes(model)
        characters, pictures = responses_to_digits(model, shown, known, unseen, generator)
        fields, field_pictures = fields_of(model, shown(on_canvas(unseen[0][:FIELD_IMAGES], no_shift(FIELD_IMAGES))))
        growth = [fields[f"field {layer + 1}"] / fields[f"field {layer}"] for layer in (1, 2)]
        filters = first_filters(model)
        return Measurement(
            values={
                **shapes, **characters, **fields,
                "lines": float(line_share(filters).mean()),
                "growth": min(growth),
            },
            arrays={
                "filters": filters.numpy(), "orientation": orientation, "curved": curved,
                **(pictures | field_pictures if arm == LEARNED else {}),
            },
        )  # fmt: skip

    def judge(self, results: Results) -> Verdict:
        def step(measure: str, first: int, second: int) -> Interval:
            return results.difference(LEARNED, LEARNED, f"{measure} {first}", less=f"{measure} {second}")

        return Verdict.of(
            [
                Part(
                    "units of layer 1 are more selective for the orientation of a bar than those of layer 2, by at least 0.05",
                    step("orientation", 1, 2), "at least", 0.05, "1 − circular variance",
                ),
                Part(
                    "and than those of layer 3, by at least 0.05",
                    step("orientation", 1, 3), "at least", 0.05, "1 − circular variance",
                ),
                Part(
                    "training makes units of layer 1 more selective for orientation, by at least 0.05",
                    results.difference(LEARNED, UNTRAINED, "orientation 1"), "at least", 0.05, "1 − circular variance",
                ),
                Part(
                    "and their filters more like lines, by at least 0.05 of their variance",
                    results.difference(LEARNED, UNTRAINED, "lines"), "at least", 0.05, "of the variance",
                ),
                Part(
                    "in layer 2 at least a tenth more of the units prefer an arc to a straight segment than in layer 1",
                    step("curved", 2, 1), "at least", 0.1, "share of units",
                ),
                Part(
                    "and at least a tenth more than before training",
                    results.difference(LEARNED, UNTRAINED, "curved 2"), "at least", 0.1, "share of units",
                ),
                Part(
                    "units of layer 2 tell a digit from the others better than those of layer 1, by at least 0.02",
                    step("class", 2, 1), "at least", 0.02, "area under the ROC curve",
                ),
                Part(
                    "and those of layer 3 better than those of layer 2, by at least 0.02",
                    step("class", 3, 2), "at least", 0.02, "area under the ROC curve",
                ),
                Part(
                    "training makes units of layer 3 tell a digit better, by at least 0.05",
                    results.difference(LEARNED, UNTRAINED, "class 3"), "at least", 0.05, "area under the ROC curve",
                ),
                Part(
                    "at least a quarter of the units of layer 3 stand for a digit (an area of at least 0.9)",
                    results.summary(LEARNED, "letters 3"), "at least", 0.25, "share of units",
                ),
                Part(
                    "what moves a unit is at least 1.5 times wider in each layer than in the one before",
                    results.summary(LEARNED, "growth"), "at least", 1.5, "times",
                ),
                Part(
                    "a shift by 2 pixels leaves more of a response in layer 3 than in layer 1, by at least 0.1",
                    step("shift", 3, 1), "at least", 0.1, "correlation",
                ),
                Part(
                    "and so does a turn by 20°, by at least 0.1",
                    step("turn", 3, 1), "at least", 0.1, "correlation",
                ),
            ],
            control=Part(
                "trained on random labels, at least a quarter of the units of layer 3 stand for a digit",
                results.summary(NO_LABELS, "letters 3"), "at least", 0.25, "share of units",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def at(measure: str, arm: str = LEARNED) -> list[float]:
            return [results.summary(arm, f"{measure} {layer}").estimate for layer in LAYERS]

        def three(values: Sequence[float], form: str = ".2f") -> str:
            return ", ".join(f"{value:{form}}" for value in values[:-1]) + f" and {values[-1]:{form}}"

        lines = {arm: results.summary(arm, "lines").estimate for arm in (LEARNED, UNTRAINED)}
        letters = results.summary(LEARNED, "letters 3").estimate
        return (
            f"In the three layers of a network that names digits, selectivity for the orientation of a bar is "
            f"{three(at('orientation'))} (before training {three(at('orientation', UNTRAINED))}); "
            f"{three(at('curved'), '.0%')} of the units prefer an arc to a straight segment "
            f"({three(at('curved', UNTRAINED), '.0%')}); and a unit tells its best digit from the others with an area "
            f"under the ROC curve of {three(at('class'))} ({three(at('class', UNTRAINED))}). Lines explain {lines[LEARNED]:.0%} "
            f"of a first filter ({lines[UNTRAINED]:.0%}), and {letters:.0%} of the third layer's units stand for a digit."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]

        def of_layers(name: str) -> dict[str, np.ndarray | None]:
            return {f"layer {layer}": results.array(LEARNED, f"{name} {layer}", seed) for layer in LAYERS}

        return [
            Picture(
                "By layer, a dot for each seed: selectivity for orientation; the share of units that prefer an arc to a segment; "
                "how well a unit tells its best digit from the others; and the share of units that stand for a digit.",
                *(self._by_layer(results, name) for name in ("orientation", "curved", "class", "letters")),
            ),
            Picture(
                f"The first layer's filters of seed {seed}, each scaled to its largest weight: blue where ink excites, orange "
                "where it inhibits.",
                *figures.signed_images({arm: results.array(arm, "filters", seed) for arm in self.arms}),
            ),
            Picture(
                f"What excites a unit: a column for each of {SHOWN} units of seed {seed} after training, with the {BEST} patches of "
                "unseen digits to which it answers most. A unit of layer 3 sees a whole digit.",
                *figures.image_tables({name: _columns(found) for name, found in of_layers("patches").items()}),
            ),
            Picture(
                f"The pixels that move a unit in the middle of the image, by the mean squared gradient; {SHOWN} units of each "
                f"layer, seed {seed}.",
                *figures.map_grid(None, of_layers("fields"), SHOWN),
            ),
            Picture(
                "Responses of the first layer's units to a bar, by the angle between it and the one that excites them most, "
                "relative to their best: the median over units and seeds, and the middle half.",
                figures.curves(
                    {arm: tuning(results.stack(arm, "orientation")) for arm in self.arms},
                    [15.0 * k for k in range(-6, 6)], "degrees from the preferred orientation", "response / best response",
                ),
            ),
            Picture(
                "Mean best response of a layer's units to an arc of 14 pixels, by how far it turns, relative to a straight "
                "segment of that length: the median over seeds, and the middle half. At 180° an arc is a semicircle.",
                figures.curves(
                    {
                        **{f"layer {k + 1}": results.stack(LEARNED, "curved")[:, k] for k in range(len(LAYERS))},
                        "layer 2, untrained": results.stack(UNTRAINED, "curved")[:, 1],
                    },
                    [0.0, *(math.degrees(turn) for turn in TURNS)], "degrees", "response / response to a segment",
                ),
            ),
            Picture(
                "By layer, a dot for each seed: selectivity for the orientation of a grating; the side of what moves a unit; and "
                "what a shift and a turn leave of a response.",
                *(self._by_layer(results, name) for name in ("gratings", "field", "shift", "turn")),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval.",
                *comparison(results, ["lines", "accuracy", "silent"]),
            ),
        ]  # fmt: skip

    def _by_layer(self, results: Results, name: str) -> Figure:
        """A measure of each layer by all arms, with a dot for each seed."""
        found = {
            arm: np.stack([results.values(arm, f"{name} {layer}") for layer in LAYERS], axis=1) for arm in self.arms
        }
        measure = self.measures[f"{name} 1"]
        title = measure.description.removesuffix(", layer 1").capitalize()
        return figures.strip_plot(found, None, LAYERS, "layer", measure.unit, title)


def tuning(responses: Float[np.ndarray, "seeds units orientations"]) -> Float[np.ndarray, "answering orientations"]:
    """The tuning curves of all units that a bar excites, relative to their best response, which stands in the middle."""
    every = responses.reshape(-1, responses.shape[-1])
    every = every[every.max(1) > 0]
    middle = every.shape[1] // 2
    rolled = [np.roll(each, middle - int(each.argmax())) for each in every]
    return np.array([each / each.max() for each in rolled])


def _columns(patches: np.ndarray | None) -> np.ndarray | None:
    """Patches (units, best, side, side) with a column for each unit."""
    return None if patches is None else patches.swapaxes(0, 1)


class Shown:
    """How images are shown to a network: as they are, or with all pixels shuffled in one way."""

    def __init__(self, is_shuffled: bool, generator: torch.Generator) -> None:
        self.order = torch.randperm(SIDE * SIDE, generator=generator) if is_shuffled else torch.arange(SIDE * SIDE)

    def __call__(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        return images.flatten(1)[:, self.order].view_as(images)


def network(
    arm: str, shown: Shown, images: Tensor, labels: Tensor, generator: torch.Generator
) -> ConvolutionalHierarchy:
    """The arm's network, trained on these digits."""
    model = ConvolutionalHierarchy(CLASSES)
    if arm == GABOR:
        model.fix_first_layer(gabors(ConvolutionalHierarchy.KERNELS[0], torch.arange(8) * math.pi / 8, wavelength=4.0))
    if arm == NO_LABELS:
        labels = labels[torch.randperm(len(labels), generator=generator)]
    placed = shown(anywhere(images, REACH, generator))
    for _ in descend(
        model, batch_loss(model, placed, labels, BATCH, generator), 0 if arm == UNTRAINED else STEPS, RATE
    ):
        pass
    return model


@torch.no_grad()
def peaks(
    model: ConvolutionalHierarchy, images: Float[Tensor, "*stimuli h w"]
) -> list[Float[Tensor, "*stimuli units"]]:
    """Each unit's largest activation over places, for each of the three layers."""
    found = model.layers(images.flatten(0, -3))
    return [each.amax((-2, -1)).unflatten(0, images.shape[:-2]) for each in found]


def excitation(model: ConvolutionalHierarchy, images: Tensor, ground: float) -> list[Tensor]:
    """How far each unit's largest activation exceeds that to an image that is `ground` everywhere; at least 0."""
    empty = peaks(model, torch.full((1, SIDE, SIDE), ground))
    return [(each - rest[0]).clamp(min=0) for each, rest in zip(peaks(model, images), empty, strict=True)]


def responses_to_shapes(model: ConvolutionalHierarchy) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """The measures by bars, gratings and arcs; and for pictures the tuning curves of layer 1, (units, orientations), and
    each layer's mean response to segments and arcs relative to the segment, (layers, turns)."""
    to_bars = [each.amax(1).mT for each in excitation(model, bars(SIDE, ORIENTATIONS, OFFSETS), 0.0)]
    waves = torch.stack([gratings(SIDE, ORIENTATIONS, PHASES, wavelength) for wavelength in WAVELENGTHS])
    to_gratings = [best_wave(each.amax(2)) for each in excitation(model, waves, 0.5)]
    straight = excitation(model, arcs(SIDE, AROUND / 2, SHIFTS, LENGTH, 0.0), 0.0)
    curved = excitation(model, torch.stack([arcs(SIDE, AROUND, SHIFTS, LENGTH, turn) for turn in TURNS]), 0.0)
    segment, arc = [each.amax((0, 1)) for each in straight], [each.amax((1, 2)).mT for each in curved]
    values = {}
    for layer, bar, wave, s, c in zip(LAYERS, to_bars, to_gratings, segment, arc, strict=True):
        preference = curvature_preference(s, c)
        values[f"orientation {layer}"] = mean_of_responding(1 - circular_variance(bar, ORIENTATIONS))
        values[f"gratings {layer}"] = mean_of_responding(1 - circular_variance(wave, ORIENTATIONS))
        values[f"curved {layer}"] = mean_of_responding(
            torch.where(preference.isnan(), preference, (preference >= CURVED).float())
        )
    relative = [torch.cat([s[:, None], c], 1).sum(0) for s, c in zip(segment, arc, strict=True)]
    return values, to_bars[0].numpy(), torch.stack([each / each[0] for each in relative]).numpy()


def best_wave(responses: Float[Tensor, "wavelengths orientations units"]) -> Float[Tensor, "units orientations"]:
    """Each unit's responses at the wavelength that has its largest response."""
    best = responses.amax(1).argmax(0)
    return responses.permute(2, 0, 1)[torch.arange(len(best)), best]


def mean_of_responding(values: Float[Tensor, " units"]) -> float:
    """The mean over the units whose value is a number; a unit that nothing excites has none."""
    return float(values[~values.isnan()].mean())


def responses_to_digits(
    model: ConvolutionalHierarchy,
    shown: Shown,
    known: tuple[Tensor, Tensor],
    unseen: tuple[Tensor, Tensor],
    generator: torch.Generator,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The measures by digits, and for pictures the patches of unseen digits that excite a unit of each layer most.

    The class of a unit is chosen on digits that the network knows, and it is judged by digits that it never saw.
    """
    images = shown(anywhere(unseen[0], REACH, generator))
    responses = peaks(model, images)
    areas, silent = [], []
    for before, after in zip(peaks(model, shown(anywhere(known[0], REACH, generator))), responses, strict=True):
        best = class_areas(before, known[1], CLASSES).argmax(1)
        found = class_areas(after, unseen[1], CLASSES).gather(1, best[:, None])[:, 0]
        areas.append(found)  # ½ for a unit that answers to all digits alike
        silent.append(after.amax(0) == after.amin(0))
    with torch.no_grad():
        right = model(images).argmax(1) == unseen[1]
    values = {
        **{f"class {layer}": float(area.mean()) for layer, area in zip(LAYERS, areas, strict=True)},
        **{
            f"letters {layer}": float((area >= LETTER).float().mean())
            for layer, area in zip(LAYERS, areas, strict=True)
        },
        "silent": float(torch.cat(silent).float().mean()),
        "accuracy": float(right.float().mean()),
        **left_by_changes(model, shown, unseen[0], generator),
    }
    return values, exciting_patches(model, images)


def left_by_changes(
    model: ConvolutionalHierarchy, shown: Shown, images: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """What a shift leaves of the responses of the units in the middle, and a turn of the largest over all places."""
    middle = on_canvas(images, no_shift(len(images)))
    ways = SHIFT * torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
    moved = on_canvas(images, ways[torch.randint(len(ways), (len(images),), generator=generator)])
    rolled = turned(middle, TURN)
    pairs = {
        "shift": (in_the_middle(model, shown(middle)), in_the_middle(model, shown(moved))),
        "turn": (peaks(model, shown(middle)), peaks(model, shown(rolled))),
    }
    return {
        f"{name} {layer}": mean_of_responding(tolerance(first, second))
        for name, both in pairs.items()
        for layer, first, second in zip(LAYERS, *both, strict=True)
    }


@torch.no_grad()
def in_the_middle(model: ConvolutionalHierarchy, images: Tensor) -> list[Float[Tensor, "n units"]]:
    """The activations at the middle place of each layer."""
    return [middle_of(each) for each in model.layers(images)]


def middle_of(activations: Float[Tensor, "n units rows cols"]) -> Float[Tensor, "n units"]:
    rows, columns = activations.shape[-2:]
    return activations[..., rows // 2, columns // 2]


def fields_of(model: ConvolutionalHierarchy, images: Tensor) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The side of what moves a unit in each layer; and for pictures some units' squared gradients, (units, h, w)."""
    values, pictures = {}, {}
    for i, layer in enumerate(LAYERS):
        fields = receptive_fields(lambda pixels, i=i: middle_of(model.layers(pixels)[i]), images)  # type: ignore[misc]
        values[f"field {layer}"] = mean_of_responding(effective_side(fields))
        moved = fields[fields.amax((1, 2)) > 0][:SHOWN]
        pictures[f"fields {layer}"] = (moved / moved.amax((1, 2), keepdim=True)).numpy().round(3)
    return values, pictures


@torch.no_grad()
def exciting_patches(model: ConvolutionalHierarchy, images: Tensor) -> dict[str, np.ndarray]:
    """For the units of each layer that are excited most, the patches that they answer to most, (units, patches, side,
    side), each of another digit: what the unit sees at the place of its largest activation."""
    found = {}
    for layer, seen, field, stride in zip(LAYERS, model.layers(images), model.FIELDS, model.STRIDES, strict=True):
        peak, place = seen.flatten(2).max(2)
        units = peak.amax(0).argsort(descending=True)[:SHOWN]
        rows = []
        for unit in units.tolist():
            best = peak[:, unit].argsort(descending=True)[:BEST]
            top, left = (stride * at for at in divmod_of(place[best, unit], seen.shape[3]))
            rows.append(torch.stack([cut(images[i], t, f, field) for i, t, f in zip(best, top, left, strict=True)]))
        found[f"patches {layer}"] = torch.stack(rows).numpy().round(2)
    return found


def divmod_of(place: Int[Tensor, " n"], columns: int) -> tuple[Tensor, Tensor]:
    return place // columns, place % columns


def cut(image: Float[Tensor, "h w"], top: Tensor, left: Tensor, side: int) -> Float[Tensor, "side side"]:
    return image[int(top) : int(top) + side, int(left) : int(left) + side]


def first_filters(model: ConvolutionalHierarchy) -> Float[Tensor, "units 5 5"]:
    weight = model.convolutions[0].weight
    assert isinstance(weight, Tensor)
    return weight.detach()[:, 0]


def no_shift(count: int) -> Int[Tensor, "n 2"]:
    """No shift, for so many images."""
    return torch.zeros(count, 2, dtype=torch.long)
