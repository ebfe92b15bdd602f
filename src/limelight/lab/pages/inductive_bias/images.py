"""The images of the page of biases: those for training, and those for each test."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limelight.data.digit_transforms import arrangements, mirrored
from limelight.data.digits import split
from limelight.lab.pages.inductive_bias.settings import IMAGES, TEST

_TOGETHER = 256  # images in one call: the layers' outputs then fit into the cache, which takes half the time of all images at once


@dataclass(frozen=True)
class Images:
    """Training images with their labels, and unseen images with their digits, arranged as each test of `TESTS` needs."""

    images: Tensor
    labels: Tensor
    tests: dict[str, Tensor]
    truth: Tensor

    @torch.no_grad()
    def accuracies(self, model: nn.Module) -> list[float]:
        """The share of right answers on each test, and last that on the first `TEST` training images."""
        own, labels = self.images[:TEST], self.labels[:TEST]
        asked = torch.cat([*self.tests.values(), own])
        answers = torch.cat([model(part).argmax(-1) for part in asked.split(_TOGETHER)])
        right = answers == torch.cat([*[self.truth] * len(self.tests), labels])
        parts = right.float().split([*[len(self.truth)] * len(self.tests), len(own)])
        return [float(part.mean()) for part in parts]


def drawn(kind: str, size: int, seed: int) -> Images:
    """`size` training images of a kind, and `TEST` unseen ones. A seed gives the same digits for every kind."""
    generator = torch.Generator().manual_seed(seed)
    (images, labels), (unseen, truth) = split(IMAGES, TEST, generator)
    ways = arrangements(torch.cat([images, unseen]), generator)
    if kind == "random":
        labels = labels[torch.randperm(IMAGES, generator=generator)]
    own = ways["shifted" if kind == "random" else kind]
    tests = {"like": own[IMAGES:], "shifted": ways["shifted"][IMAGES:], "mirrored": mirrored(ways["centered"][IMAGES:])}
    return Images(own[:size], labels[:size], tests, truth)
