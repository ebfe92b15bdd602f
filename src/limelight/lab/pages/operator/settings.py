"""The settings of the page of the operator, and the labels of their choices."""

from __future__ import annotations

from limelight.lab.address import Choice, Field, Moved, Number

MOST = 60  # points
COORDINATE_MAX = 2.5  # the largest absolute value of a coordinate

SIMILARITIES = {
    "euclidean": "Euclidean",
    "dot": "Dot",
    "cosine": "Cosine",
    "laplacian": "Laplacian",
    "student": "Student’s t",
    "alignment": "Alignment",
}
NORMALIZATIONS = {
    "softmax": "softmax, with α",
    "sinkhorn": "Sinkhorn, 3 steps",
    "sparsemax": "sparsemax",
    "topk": "top 5",
    "sigmoid": "sigmoid",
}
MASKS = {"none": "none", "causal": "causal", "window": "4 before and after", "others": "no self"}
PROCESSES = {
    "drift": "drift to the average, x ← P x",
    "climb": "mean shift, x ← P k with fixed keys k",
    "heat": "diffusion of a value, h ← P h",
    "labels": "label spreading from two points",
    "circle": "tokens that cluster on a circle",
}
COLORS = {
    "auto": "chosen automatically",
    "weight": "weight from the chosen point",
    "entropy": "entropy",
    "mass": "column mass",
    "value": "value or label, if there is one, else the number",
}

FIELDS: tuple[Field, ...] = (
    Choice("similarity", "Similarity", SIMILARITIES, "euclidean"),
    Number("bandwidth", "Bandwidth h", 0.05, 5, 0.5, 0.01, log=True),
    Choice("normalization", "Normalization", NORMALIZATIONS, "softmax"),
    Number("alpha", "α, from softmax to doubly normalized", 0, 1, 0, 0.05),
    Choice("mask", "Mask", MASKS, "none"),
    Choice("process", "Process on the points", PROCESSES, "drift"),
    Number("speed", "Steps per second, at most", 1, 60, 4),
    Choice(
        "arrangement", "Arrangement",
        {"moons": "two moons", "blobs": "three blobs", "ring": "ring", "uniform": "uniform", "line": "line"}, "moons",
    ),
    Number("n", "Points", 5, MOST, 30),
    Number("seed", "Seed", 0, 9999, 0),
    Number("point", "Chosen point, by its number", 1, MOST, 10),
    Choice("color", "Color of the points", COLORS, "auto"),
    Moved("moved", "Moved points", MOST, COORDINATE_MAX),
)  # fmt: skip
