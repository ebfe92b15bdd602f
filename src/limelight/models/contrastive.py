"""Two networks that map images and texts into one space, where a picture lies near the words that describe it.

Nothing else ties the two: they share no layer and no labels, only a space of vectors, and learn from pairs alone.
Source: Radford et al. 2021, Learning transferable visual models from natural language supervision (2103.00020).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError

SHARPEST = 100.0  # the largest 1/temperature, as in the publication


class TwoTowers(nn.Module):
    """s_ij = ⟨f(image_i), g(text_j)⟩ / τ with vectors of length 1: the cosine of image and text by a temperature τ.

    images: a network (n, …) → (n, width), such as a perceptron or a convolution; texts: one (m, words) → (m, width).
    Scores of all pairs are (n, m). With a small τ the loss looks at the nearest wrong texts only, with a large one at
    all alike. τ is learned from its first value on, unless `learned` is false, and is at least 1/100.

    Raises `InputError` for a temperature that is not a positive number.

    >>> import torch
    >>> from limelight.models.contrastive import TwoTowers
    >>> model = TwoTowers(torch.nn.Linear(6, 4), torch.nn.Linear(5, 4))
    >>> model(torch.randn(3, 6), torch.randn(2, 5)).shape
    torch.Size([3, 2])
    """

    def __init__(self, images: nn.Module, texts: nn.Module, temperature: float = 0.07, learned: bool = True) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature expects a positive number, got {temperature!r}")
        self.images, self.texts = images, texts
        self.log_sharpness = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learned)

    def forward(self, images: Float[Tensor, "n ..."], texts: Tensor) -> Float[Tensor, "n m"]:
        sharpness = self.log_sharpness.clamp(max=math.log(SHARPEST)).exp()
        return sharpness * self.embed_images(images) @ self.embed_texts(texts).mT

    def embed_images(self, images: Float[Tensor, "n ..."]) -> Float[Tensor, "n width"]:
        """The vectors of the images, of length 1."""
        return F.normalize(self.images(images), dim=-1)

    def embed_texts(self, texts: Tensor) -> Float[Tensor, "m width"]:
        """The vectors of the texts, of length 1."""
        return F.normalize(self.texts(texts), dim=-1)


def contrastive_loss(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """−½ mean_i [log softmax_j(s_ij) + log softmax_j(s_ji)] at j = i: each image picks its text, each text its image.

    The texts of the other pairs of the batch are the wrong answers. Raises `InputError` for scores that are not square.

    >>> import torch
    >>> from limelight.models.contrastive import contrastive_loss
    >>> round(float(contrastive_loss(torch.zeros(8, 8))), 4)  # ln 8: all are alike
    2.0794
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise InputError(f"contrastive_loss expects as many images as texts, scores (n, n); got {tuple(scores.shape)}")
    right = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores.mT, right)) / 2


@torch.no_grad()
def recall(scores: Float[Tensor, "n m"], right: Tensor) -> Float[Tensor, " n"]:
    """1 where the largest score of a row is in the column `right` of that row, else 0: recall@1 before its mean.

    Of equal largest scores the first counts.
    """
    return (scores.argmax(1) == right).float()
