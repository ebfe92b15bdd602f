"""The settings of the page of biases, and the labels of their choices."""

from __future__ import annotations

from limelight.lab.address import Choice, Field, Number, Switch

NETWORKS = {"full": "fully connected", "conv": "convolution", "attention": "self-attention"}  # as in the claim
IMAGES, TEST = 1200, 500  # the largest number of training images, and the number of test images
SHOWN = 20  # test images on the page

KINDS = {
    "centered": "in the middle of the frame",
    "shifted": "shifted anywhere in the frame",
    "mirrored": "in the middle, half of them mirrored",
    "permuted": "shifted, then their pixels permuted, all in the same way",
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
    Number("rate", "Learning rates, times 0.003, 0.01 and 0.005", 0.1, 10, 1, 0.01, log=True),
    Number("speed", "Steps per second, at most", 2, 200, 60, log=True),
    Number("look", "Test image to look at", 1, SHOWN, 1),
    Switch("training", "Show the accuracy on the training images, dotted", True),
    Switch("log", "Logarithmic scale for the number of images seen", False),
    Number("seed", "Seed", 0, 9999, 0),
)
