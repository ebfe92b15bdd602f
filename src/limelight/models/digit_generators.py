"""Ways to draw digits, all with the same four methods: reconstruct an image, clean it, vary it, and draw new ones.

Images are (n, 8, 8) with gray values in [0, 1]. What is drawn is rounded to the gray values of scanned digits by
whoever compares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.data.digit_levels import MIDDLE, SPREAD, bounded, unbounded
from limelight.errors import InputError
from limelight.models.autoencoder import Autoencoder
from limelight.models.denoiser import Denoiser
from limelight.models.diffusion import ddim_encoded, ddim_samples, variations
from limelight.models.variational_autoencoder import VariationalAutoencoder

SIDE, LATENT = 8, 8  # pixels each way, and numbers of a code
DDIM_STEPS = 25  # steps in which a diffusion model draws
COMPONENTS = 40  # Gaussians of a mixture

Images = Float[Tensor, "n 8 8"]
Codes = Float[Tensor, "n latent"]
DrawCodes = Callable[[int, torch.Generator], Tensor]  # from n to (n, latent)


class DigitGenerator(ABC):
    """The interface of all ways to draw digits."""

    @abstractmethod
    def reconstruct(self, images: Images) -> Images:
        """The images again, as well as it can."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Images:
        """n new images."""

    def clean(self, images: Images, noise: float) -> Images:
        """Images without the noise of this standard deviation, of gray values, that was added to them."""
        return self.reconstruct(images)

    def vary(self, images: Images, fraction: float, generator: torch.Generator) -> Images:
        """An image like each of these. The fraction of the way to noise is of use only where there is such a way."""
        return self.reconstruct(images)


class PrincipalComponents(DigitGenerator):
    """The `LATENT` directions in which images vary most; new images have normal coordinates in them."""

    def __init__(self, seen: Images) -> None:
        self.mean = seen.flatten(1).mean(0)
        _, spread, directions = torch.linalg.svd(seen.flatten(1) - self.mean, full_matrices=False)
        self.directions, self.spread = directions[:LATENT], spread[:LATENT] / (len(seen) - 1) ** 0.5

    def reconstruct(self, images: Images) -> Images:
        return self._image((images.flatten(1) - self.mean) @ self.directions.mT)

    def draw(self, n: int, generator: torch.Generator) -> Images:
        return self._image(self.spread * torch.randn(n, LATENT, generator=generator))

    def _image(self, codes: Codes) -> Images:
        return (self.mean + codes @ self.directions).unflatten(1, (SIDE, SIDE))


class AutoencoderGenerator(DigitGenerator):
    """An autoencoder; new images are those of codes that `codes` draws."""

    def __init__(self, network: Autoencoder, codes: DrawCodes) -> None:
        self.network, self.codes = network, codes

    @torch.no_grad()
    def reconstruct(self, images: Images) -> Images:
        return self.network(images)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> Images:
        return self.network.decode(self.codes(n, generator))


def plain_codes() -> DrawCodes:
    """Codes from N(0, 1), which knows nothing of the codes of images."""
    return lambda n, generator: torch.randn(n, LATENT, generator=generator)


def gaussian_codes(codes: Codes) -> DrawCodes:
    """Codes from the normal distribution that has the mean and the covariance of these."""
    mean, root = codes.mean(0), torch.linalg.cholesky(codes.mT.cov())
    return lambda n, generator: mean + torch.randn(n, LATENT, generator=generator) @ root.mT


def mixture_codes(codes: Codes, seed: int) -> DrawCodes:
    """Codes from a mixture of `COMPONENTS` normal distributions that is fitted to these (Ghosh et al. 2020)."""
    from sklearn.mixture import GaussianMixture

    floor = 0.01 * float(codes.var())  # added to each variance, so that no component shrinks to one image
    fitted = GaussianMixture(COMPONENTS, reg_covar=floor, random_state=seed).fit(codes.double().numpy())
    shares, means = (torch.tensor(part).float() for part in (fitted.weights_, fitted.means_))
    roots = torch.linalg.cholesky(torch.tensor(fitted.covariances_)).float()

    def draw(n: int, generator: torch.Generator) -> Tensor:
        which = torch.multinomial(shares, n, replacement=True, generator=generator)
        return means[which] + (roots[which] @ torch.randn(n, LATENT, 1, generator=generator))[..., 0]

    return draw


class Variational(DigitGenerator):
    """A variational autoencoder; it varies an image by another code from the image's distribution."""

    def __init__(self, network: VariationalAutoencoder) -> None:
        self.network = network

    @torch.no_grad()
    def reconstruct(self, images: Images) -> Images:
        return self.network(images)

    @torch.no_grad()
    def vary(self, images: Images, fraction: float, generator: torch.Generator) -> Images:
        return self.network.decode(self.network.draw(images, generator))

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator) -> Images:
        return self.network.decode(torch.randn(n, LATENT, generator=generator))


class Diffusion(DigitGenerator):
    """A diffusion model; it reconstructs an image from the noise that leads to it."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def reconstruct(self, images: Images) -> Images:
        noise = ddim_encoded(self.denoiser, self.schedule, unbounded(images), self.schedule.steps)
        return bounded(ddim_samples(self.denoiser, self.schedule, noise, self.schedule.steps))

    def vary(self, images: Images, fraction: float, generator: torch.Generator) -> Images:
        start = round(fraction * self.schedule.steps)
        return bounded(variations(self.denoiser, self.schedule, unbounded(images), start, generator))

    def clean(self, images: Images, noise: float) -> Images:
        """The guess of the image at the timestep whose (1 − ᾱ_t)/ᾱ_t is nearest to the variance of this noise."""
        kept = self.schedule.alpha_bar[1:]
        t = 1 + int(((1 - kept) / kept - (noise / SPREAD) ** 2).abs().argmin())
        noisy = kept[t - 1].sqrt() * (images - MIDDLE) / SPREAD
        return bounded(ddim_samples(self.denoiser, self.schedule, noisy, steps=1, start=t))

    def draw(self, n: int, generator: torch.Generator) -> Images:
        return bounded(self.walk(torch.randn(n, SIDE, SIDE, generator=generator)))

    def walk(self, noise: Float[Tensor, "n 8 8"]) -> Float[Tensor, "n 8 8"]:
        """The unbounded images that noise leads to."""
        return ddim_samples(self.denoiser, self.schedule, noise, DDIM_STEPS)


class RealImages(DigitGenerator):
    """The images that the others learn from; nothing is done to an image."""

    def __init__(self, seen: Images) -> None:
        self.seen = seen

    def reconstruct(self, images: Images) -> Images:
        return images

    def draw(self, n: int, generator: torch.Generator) -> Images:
        if n > len(self.seen):
            raise InputError(f"RealImages has {len(self.seen)} images, and cannot draw {n}")
        return self.seen[torch.randperm(len(self.seen), generator=generator)[:n]]


class NoiseImages(DigitGenerator):
    """Images whose pixels are drawn one by one, each from its values in the images; nothing is reconstructed."""

    def __init__(self, seen: Images, generator: torch.Generator) -> None:
        self.seen, self.generator = seen, generator

    def reconstruct(self, images: Images) -> Images:
        return self.draw(len(images), self.generator)

    def draw(self, n: int, generator: torch.Generator) -> Images:
        which = torch.randint(len(self.seen), (n, SIDE * SIDE), generator=generator)
        return self.seen.flatten(1).gather(0, which).unflatten(1, (SIDE, SIDE))
