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
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight import figures
from limelight.data import digits
from limelight.data.large_digits import SIDE, anywhere, on_canvas, turned
from limelight.data.stimuli import arcs, bars, gabors, gratings
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
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
LEARNED, GABOR, SHUFFLED = "trained", "Gabor first layer", "shuffled pixels"
UNTRAINED, NO_LABELS = "untrained", "random labels"


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

    def judge(self, results: Results) -> Verdict:
        def step(measure: str, first: int, second: int) -> object:
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
                    results.summary(LEARNED, "letters"), "at least", 0.25, "share of units",
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
                results.summary(NO_LABELS, "letters"), "at least", 0.25, "share of units",
            ),
        )  # fmt: skip
