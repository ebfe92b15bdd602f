"""Settings of the page of biases, and what each choice is called."""

from __future__ import annotations

from limelight.lab.address import Choice, Field, Number, Switch

NETWORKS = {"full": "fully connected", "conv": "convolution", "attention": "self-attention"}  # as in the claim
IMAGES, TEST = 1200, 500  # to train on, at most, and to be tested on
SHOWN = 20  # test images

KINDS = {
    "centered": "in the middle of the frame",
    "shifted": "shifted anywhere in the frame",
    "mirrored": "in the middle, half of them mirrored",
    "permuted": "shifted, then their pixels permuted, one order for all",
    "random": "shifted, with labels drawn at random: the control",
}
TESTS = {
    "like": "images like those trained on",
    "shifted": "images shifted anywhere",
    "mirrored": "images in the middle, all mirrored",
}

FIELDS: tuple[Field, ...] = (
    Choice("kind", "The images are", KINDS, "shifted"),
    Number("images", "Training images", 50, IMAGES, 250, log=True),
    Choice("tested", "Tested on", TESTS, "like"),
    Number("batch", "Images in a mini-batch", 4, 256, 64, log=True),
    Number("rate", "Learning rates, times those of the claim", 0.1, 10, 1, 0.01, log=True),
    Number("speed", "Steps in a second, at most", 2, 200, 60, log=True),
    Number("look", "Test image looked at", 1, SHOWN, 1),
    Switch("training", "Accuracy on the training images too, dotted", True),
    Switch("log", "Images seen on a logarithmic scale", False),
    Number("seed", "Seed", 0, 9999, 0),
)
