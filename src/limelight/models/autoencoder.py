"""Autoencoders: an image goes through a few numbers, from which it is drawn again."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.models.image_input import require_codes, require_images
from limelight.models.mlp import mlp


class Autoencoder(nn.Module):
    """x̂ = D(E(x)), trained to minimize the mean of (x − x̂)² over pixels.

    The code E(x) has fewer numbers than the image, so the encoder E must leave out what the decoder D can guess from
    all other images. Gray values are in [0, 1]. Raises `InputError` for images that are not (n, side, side). With
    linear E and D it finds the space of the principal components (Baldi & Hornik 1989). Hinton & Salakhutdinov 2006.

    >>> import torch
    >>> from limelight.models.autoencoder import Autoencoder
    >>> Autoencoder(side=8, hidden=32, latent=4)(torch.zeros(5, 8, 8)).shape
    torch.Size([5, 8, 8])
    """

    def __init__(self, side: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.side, self.latent = side, latent
        self.encoder, self.decoder = mlp(side * side, hidden, latent), mlp(latent, hidden, side * side)

    def forward(self, images: Float[Tensor, "n side side"]) -> Float[Tensor, "n side side"]:
        return self.decode(self.encode(images))

    def encode(self, images: Float[Tensor, "n side side"]) -> Float[Tensor, "n latent"]:
        """The code of each image."""
        require_images(images, self.side, type(self).__name__)
        return self.encoder(images.flatten(1))

    def decode(self, codes: Float[Tensor, "n latent"]) -> Float[Tensor, "n side side"]:
        """The image of each code."""
        require_codes(codes, self.latent, type(self).__name__)
        return torch.sigmoid(self.decoder(codes)).unflatten(1, (self.side, self.side))

    def loss(self, images: Float[Tensor, "n side side"], generator: torch.Generator) -> Float[Tensor, ""]:
        """The mean of (x − D(E(x)))². The generator draws what a subclass needs; here nothing is drawn."""
        return (self(images) - images).square().mean()


class DenoisingAutoencoder(Autoencoder):
    """x̂ = D(E(x + σ ε)) with ε ~ N(0, 1), trained to minimize the mean of (x − x̂)²: it learns to take noise away.

    Noise moves an image away from where images lie, and the network learns the way back. σ is in units of the gray
    values. Vincent, Larochelle, Bengio & Manzagol 2008.

    >>> import torch
    >>> from limelight.models.autoencoder import DenoisingAutoencoder
    >>> DenoisingAutoencoder(side=8, hidden=32, latent=4, noise=0.3)(torch.zeros(5, 8, 8)).shape
    torch.Size([5, 8, 8])
    """

    def __init__(self, side: int, hidden: int, latent: int, noise: float) -> None:
        super().__init__(side, hidden, latent)
        if not noise > 0:
            raise InputError(f"DenoisingAutoencoder(noise=…) expects a positive number, got {noise!r}")
        self.noise = noise

    def loss(self, images: Float[Tensor, "n side side"], generator: torch.Generator) -> Float[Tensor, ""]:
        """The mean of (x − D(E(x + σ ε)))², with ε from the generator."""
        noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
        return (self(images + self.noise * noise) - images).square().mean()
