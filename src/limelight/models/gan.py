"""A generative adversarial network whose generator a classifier can steer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.models.image_input import require_codes, require_images
from limelight.models.mlp import mlp

_WEIGHT = 4.0  # of the one number that says how much the images of a batch differ, among many pixels


class Generator(nn.Module):
    """G(z, y): an image, with values of any size, from noise z ~ N(0, 1) and the class y that is asked for.

    G learns what a class looks like from a classifier alone, through `steering_loss`.

    Raises `InputError` for noise that is not (n, latent) and for labels outside 0 … classes − 1. Goodfellow et al.
    2014; the class as an input: Mirza & Osindero 2014.

    >>> import torch
    >>> from limelight.models.gan import Generator
    >>> Generator(side=8, hidden=32, latent=4, classes=10)(torch.zeros(5, 4), torch.arange(5)).shape
    torch.Size([5, 8, 8])
    """

    def __init__(self, side: int, hidden: int, latent: int, classes: int) -> None:
        super().__init__()
        self.side, self.latent, self.classes = side, latent, classes
        self.network = mlp(latent + classes, hidden, hidden, side * side)

    def forward(self, noise: Float[Tensor, "n latent"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n side side"]:
        require_codes(noise, self.latent, "Generator")
        if len(labels) != len(noise) or bool(((labels < 0) | (labels >= self.classes)).any()):
            raise InputError(f"Generator expects {len(noise)} labels from 0 to {self.classes - 1}, got {labels}")
        asked = torch.cat([noise, F.one_hot(labels, self.classes).to(noise.dtype)], 1)
        return self.network(asked).unflatten(1, (self.side, self.side))


class Discriminator(nn.Module):
    """D(x): how real an image looks, as the log-odds that it is real, (n,).

    Noise of standard deviation `blur` is added to all images that it sees. Without it a discriminator soon separates a
    few images perfectly, and then its gradient does not show how to do better (Sønderby et al. 2017). Beside each image
    it sees how much the images of the batch differ, the mean over pixels of their standard deviation. So a generator
    that draws the same image again and again is recognized (Karras et al. 2018, section 3).

    Raises `InputError` for images that are not (n, side, side), or fewer than two.

    >>> import torch
    >>> from limelight.models.gan import Discriminator
    >>> Discriminator(side=8, hidden=32, blur=0.1)(torch.zeros(5, 8, 8), torch.Generator()).shape
    torch.Size([5])
    """

    def __init__(self, side: int, hidden: int, blur: float) -> None:
        super().__init__()
        self.side, self.blur = side, blur
        self.network = mlp(side * side + 1, hidden, hidden, 1)

    def forward(self, images: Float[Tensor, "n side side"], generator: torch.Generator) -> Float[Tensor, " n"]:
        require_images(images, self.side, "Discriminator")
        if len(images) < 2:
            raise InputError(
                f"Discriminator compares the images of a batch, so it expects at least two, got {len(images)}"
            )
        blurred = images + self.blur * torch.randn(images.shape, generator=generator, dtype=images.dtype)
        variety = images.flatten(1).std(0).mean().expand(len(images), 1)
        return self.network(torch.cat([blurred.flatten(1), _WEIGHT * variety], 1))[:, 0]


def discriminator_loss(real: Float[Tensor, " n"], fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """−½ log σ(D(x)) − ½ log(1 − σ(D(G(z)))), the means over images: low if D tells real from generated images.

    It is log 2 for D = 0, which does not distinguish them. Goodfellow et al. 2014, equation 1.

    >>> import torch
    >>> from limelight.models.gan import discriminator_loss
    >>> discriminator_loss(torch.zeros(3), torch.zeros(3))
    tensor(0.6931)
    """
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def generator_loss(fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """−log σ(D(G(z))): low if D takes generated images for real ones (Goodfellow et al. 2014).

    Unlike log(1 − σ(D(G(z)))) it has a gradient where D is sure.

    >>> import torch
    >>> from limelight.models.gan import generator_loss
    >>> generator_loss(torch.zeros(3))
    tensor(0.6931)
    """
    return F.softplus(-fake).mean()


def steering_loss(scores: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """−log p(y | G(z, y)) by a given classifier: low if the image looks like the class y that was asked for.

    The classifier stays as it is; only the generator learns from it. In an auxiliary-classifier GAN (Odena, Olah &
    Shlens 2017) it is a part of the discriminator.

    >>> import torch
    >>> from limelight.models.gan import steering_loss
    >>> steering_loss(torch.zeros(3, 2), torch.zeros(3).long())
    tensor(0.6931)
    """
    return F.cross_entropy(scores, labels)
