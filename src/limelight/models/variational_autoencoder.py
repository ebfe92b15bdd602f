"""Variational autoencoder: an autoencoder whose codes are made to fill a standard normal distribution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.models.image_input import require_codes, require_images
from limelight.models.mlp import mlp


class VariationalAutoencoder(nn.Module):
    """Minimizes −ELBO = E_q |x − D(z)|² / 2σ² + KL(q(z | x) ‖ N(0, 1)) with q(z | x) = N(μ(x), diag s²(x)).

    The encoder gives a normal distribution of codes in place of one code, and all of these together are pulled toward
    a standard normal distribution. So the decoder has been trained on codes like those drawn from N(0, 1). σ is the
    standard deviation of a pixel about D(z), in units of gray values: the larger it is, the more weight the KL
    divergence has. The ELBO's constant is left out. Raises `InputError` for images that are not (n, side, side). Kingma
    & Welling 2014.

    >>> import torch
    >>> from limelight.models.variational_autoencoder import VariationalAutoencoder
    >>> VariationalAutoencoder(side=8, hidden=32, latent=4, noise=0.2)(torch.zeros(5, 8, 8)).shape
    torch.Size([5, 8, 8])
    """

    def __init__(self, side: int, hidden: int, latent: int, noise: float) -> None:
        super().__init__()
        if not noise > 0:
            raise InputError(f"VariationalAutoencoder(noise=…) expects a positive number, got {noise!r}")
        self.side, self.latent, self.noise = side, latent, noise
        self.encoder, self.decoder = mlp(side * side, hidden, 2 * latent), mlp(latent, hidden, side * side)

    def forward(self, images: Float[Tensor, "n side side"]) -> Float[Tensor, "n side side"]:
        """D(μ(x)): the image of the mean code of each image."""
        return self.decode(self.posterior(images)[0])

    def posterior(
        self, images: Float[Tensor, "n side side"]
    ) -> tuple[Float[Tensor, "n latent"], Float[Tensor, "n latent"]]:
        """(μ, log s²) of q(z | x)."""
        require_images(images, self.side, "VariationalAutoencoder")
        mean, log_variance = self.encoder(images.flatten(1)).chunk(2, -1)
        return mean, log_variance

    def draw(self, images: Float[Tensor, "n side side"], generator: torch.Generator) -> Float[Tensor, "n latent"]:
        """A code for each image, drawn from its q(z | x)."""
        return drawn(*self.posterior(images), generator)

    def decode(self, codes: Float[Tensor, "n latent"]) -> Float[Tensor, "n side side"]:
        """The image of each code."""
        require_codes(codes, self.latent, "VariationalAutoencoder")
        return torch.sigmoid(self.decoder(codes)).unflatten(1, (self.side, self.side))

    def loss(self, images: Float[Tensor, "n side side"], generator: torch.Generator) -> Float[Tensor, ""]:
        """−ELBO without its constant, the mean over images, with one code drawn for each."""
        mean, log_variance = self.posterior(images)
        drawings = self.decode(drawn(mean, log_variance, generator))
        error = (drawings - images).square().sum((1, 2)) / (2 * self.noise**2)
        return (error + kl_from_standard_normal(mean, log_variance)).mean()


def drawn(
    mean: Float[Tensor, "n latent"], log_variance: Float[Tensor, "n latent"], generator: torch.Generator
) -> Float[Tensor, "n latent"]:
    """z = μ + s ε with ε ~ N(0, 1), so that gradients reach μ and s: the reparameterization trick."""
    return mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)


def kl_from_standard_normal(
    mean: Float[Tensor, "n latent"], log_variance: Float[Tensor, "n latent"]
) -> Float[Tensor, " n"]:
    """KL(N(μ, diag s²) ‖ N(0, 1)) = ½ Σ (μ² + s² − 1 − log s²), in nats (Kingma & Welling 2014, appendix B).

    >>> import torch
    >>> from limelight.models.variational_autoencoder import kl_from_standard_normal
    >>> kl_from_standard_normal(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2))
    tensor([2.])
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2
