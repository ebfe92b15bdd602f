"""The settings of the page of generative models, and the labels of their choices."""

from __future__ import annotations

from limelight.lab.address import Choice, Field, Number, Switch

DIFFUSION, TRANSFORMER = "diffusion", "transformer"
MODELS = {
    DIFFUSION: "diffusion, which draws digits",
    TRANSFORMER: "a Transformer, which writes backwards",
}
DIGITS = 10
SHOWN = 8  # samples on the page
HEADS = 4  # of the Transformer
SHORTEST, LONGEST = 4, 12  # letters of a sequence

SPEEDS = {DIFFUSION: "drawing", TRANSFORMER: "writing"}  # a step of the latter takes twice as long, and teaches more
OF_DIFFUSION = ("digit", "scale", "walk")
OF_TRANSFORMER = ("positions", "cross", "feed", "mask", "head", "length")

FIELDS: tuple[Field, ...] = (
    Choice("what", "Train", MODELS, DIFFUSION),
    Number("digit", "Digit to draw", 0, DIGITS - 1, 3),
    Number("scale", "Guidance toward this digit; 0 is none", 0, 8, 0, 0.25),
    Number("walk", "Steps from noise to an image", 1, 50, 25),
    Switch("positions", "Positions", True),
    Switch("cross", "Cross-attention", True),
    Switch("feed", "Feed-forward networks", True),
    Switch("mask", "Causal mask", True),
    Number("head", "Attention head to look at; 0 is the mean of all", 0, HEADS, 0),
    Number("length", "Letters of a sequence", SHORTEST, LONGEST, 9),
    Number("drawing", "Steps per second, at most", 1, 500, 150, log=True),
    Number("writing", "Steps per second, at most", 1, 500, 40, log=True),
    Number("rate", "Learning rate, times the usual one", 0.1, 10, 1, 0.01, log=True),
    Number("seed", "Seed", 0, 9999, 0),
)
