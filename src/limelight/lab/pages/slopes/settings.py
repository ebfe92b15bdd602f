"""The settings of the page of slopes."""

from __future__ import annotations

from limelight.data.slope_bands import CENTERS, SLOPES
from limelight.lab.address import Field, Number, Switch

FIELDS: tuple[Field, ...] = (
    Number("experts", "Experts of the gate", 1, 10, 5),
    Number("temperature", "Temperature of the gate's softmax", 0.1, 5, 1, 0.01, log=True),
    Number("width", "Units in each of the ReLU network's two layers", 2, 32, 16),
    Number("rate", "Learning rate", 0.001, 0.3, 0.03, 0.001, log=True),
    Number("noise", "Noise in z", 0, 1, 0.02, 0.01),
    *(
        Number(f"a{i + 1}", f"Slope where y is near {center:+g}".replace("-", "−"), -3, 3, value, 0.1)
        for i, (center, value) in enumerate(zip(CENTERS, SLOPES, strict=True))
    ),
    Number("speed", "Steps per second, at most", 10, 2000, 300, log=True),
    Switch("outside", "Show the surfaces to twice the range of the data", True),
    Number("seed", "Seed", 0, 9999, 0),
)
