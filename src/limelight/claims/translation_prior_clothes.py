"""Translation prior on clothes: what holds of digits is put to Fashion-MNIST, where a user has it.

Digits are strokes, and clothes are areas: a shirt and a coat differ in details, a shoe from both in its outline. The
arms, the numbers of images, the search and the thresholds are those of `translation_prior`, with pictures of clothes
that are shrunk to the size of the digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limelight.claims.translation_prior import (
    ATTENTION,
    CONV,
    FULL,
    NO_LABELS,
    RELATIVE,
    SHUFFLED,
    SIZES,
    STEM,
    TEST,
    TranslationPrior,
)
from limelight.data import fashion_mnist

SIDE = 8  # pixels, each way, as the digits have


class TranslationPriorClothes(TranslationPrior):
    """The claim of `translation_prior` on pictures of clothes."""

    name = "translation_prior_clothes"
    things = "clothes"
    title = "On clothes, too, a prior saves training images where it is right, and costs accuracy where it is wrong"
    question = (
        "Pictures of clothes, 8×8 pixels, stand anywhere in a frame. Does a convolution need fewer of them than a fully "
        "connected network, as it does of digits? Does self-attention over patches, with a convolutional stem, or with "
        "relative positions? And when all images are shuffled in one way, does the convolution's prior still help?"
    )

    chosen = {
        FULL: 0.002, CONV: 0.02, ATTENTION: 0.006, STEM: 0.006, RELATIVE: 0.006, SHUFFLED: 0.02, NO_LABELS: 0.006
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"fashion-mnist": fashion_mnist.fingerprint()}

    def missing(self) -> str:
        return fashion_mnist.missing()

    def drawn(self, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        return fashion_mnist.split(SIZES[-1], TEST, SIDE, generator)
