"""Generators of digits, trained on some images: the settings that the claims about generation share.

Each network has first weights and batches that depend on the seed alone, so that a claim's arms share their training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.data.digit_levels import unbounded
from limelight.models.autoencoder import Autoencoder, DenoisingAutoencoder
from limelight.models.denoiser import Denoiser, NoisyClassifier
from limelight.models.diffusion import cosine_schedule, denoising_loss
from limelight.models.digit_generators import LATENT, SIDE
from limelight.models.fresh import fresh
from limelight.models.gan import Discriminator, Generator, discriminator_loss, generator_loss, steering_loss
from limelight.models.training import descend
from limelight.models.variational_autoencoder import VariationalAutoencoder

HIDDEN, WIDTH, BATCH, CLASSES = 128, 256, 128, 10
TIMES = 100  # timesteps of a diffusion model
CODES = 16  # numbers of noise of a GAN
PIXEL_NOISE = 0.2  # standard deviation of a pixel about what a variational autoencoder draws
Phases = Sequence[tuple[int, float]]  # steps and learning rate, one after the other
CODED: Phases = ((1000, 0.003), (300, 0.0005))
DIFFUSION: Phases = ((1800, 0.002), (700, 0.0004))
CLASSIFIER: Phases = ((600, 0.002), (200, 0.0004))
GAN_STEPS, GAN_RATE, STEERING, BLUR = 2000, 0.0003, 1.0, 0.7

Images = Float[Tensor, "n 8 8"]
Coder = TypeVar("Coder", Autoencoder, DenoisingAutoencoder, VariationalAutoencoder)


def autoencoder(seen: Images, seed: int) -> Autoencoder:
    """An autoencoder of these images."""
    return _coded(lambda: Autoencoder(SIDE, HIDDEN, LATENT), seen, seed)


def denoising_autoencoder(seen: Images, seed: int, noise: float) -> DenoisingAutoencoder:
    """An autoencoder that learns to take noise of this standard deviation from these images."""
    return _coded(lambda: DenoisingAutoencoder(SIDE, HIDDEN, LATENT, noise), seen, seed)


def variational_autoencoder(seen: Images, seed: int) -> VariationalAutoencoder:
    """A variational autoencoder of these images."""
    return _coded(lambda: VariationalAutoencoder(SIDE, HIDDEN, LATENT, PIXEL_NOISE), seen, seed)


def denoiser(seen: Images, seed: int) -> Denoiser:
    """The network of a diffusion model of these images, whose values are those of `unbounded`."""
    schedule, values = cosine_schedule(TIMES), unbounded(seen)
    network = fresh(lambda: Denoiser(schedule, SIDE, WIDTH), seed)
    generator = torch.Generator().manual_seed(seed)
    _descend(network, lambda: denoising_loss(network, schedule, values[_some(seen, generator)], generator), DIFFUSION)
    return network


def noisy_classifier(seen: Images, labels: Int[Tensor, " n"], seed: int) -> NoisyClassifier:
    """A classifier of these images, in values of `unbounded`: one half clean, the other half noised."""
    schedule, values = cosine_schedule(TIMES), unbounded(seen)
    network = fresh(lambda: NoisyClassifier(schedule, SIDE, HIDDEN, CLASSES), seed)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        chosen = _some(seen, generator)
        t = torch.randint(1, TIMES + 1, (BATCH,), generator=generator)
        t[: BATCH // 2] = 0
        noise = torch.randn(values[chosen].shape, generator=generator)
        return F.cross_entropy(network(schedule.noised(values[chosen], t, noise), t), labels[chosen])

    _descend(network, loss, CLASSIFIER)
    return network


def steered_generator(seen: Images, classifier: NoisyClassifier, seed: int) -> Generator:
    """The generator of a GAN of these images, in values of `unbounded`, which a classifier steers.

    The discriminator and the generator take a step in turn, each with its own loss.
    """
    painter = fresh(lambda: Generator(SIDE, HIDDEN, CODES, CLASSES), seed)
    critic = fresh(lambda: Discriminator(SIDE, HIDDEN, blur=BLUR), seed + 1)
    values, generator = unbounded(seen), torch.Generator().manual_seed(seed)

    def drawn() -> tuple[Tensor, Tensor]:
        asked = torch.randint(CLASSES, (BATCH,), generator=generator)
        return painter(torch.randn(BATCH, CODES, generator=generator), asked), asked

    def criticism() -> Tensor:
        real, fake = values[_some(seen, generator)], drawn()[0].detach()
        return discriminator_loss(critic(real, generator), critic(fake, generator))

    def painting() -> Tensor:
        images, asked = drawn()
        scores = classifier(images, torch.zeros(BATCH, dtype=torch.long))
        return generator_loss(critic(images, generator)) + STEERING * steering_loss(scores, asked)

    steps = zip(
        descend(critic, criticism, GAN_STEPS, GAN_RATE), descend(painter, painting, GAN_STEPS, GAN_RATE), strict=True
    )
    for _ in steps:
        pass
    return painter


def _coded(build: Callable[[], Coder], seen: Images, seed: int) -> Coder:
    network, generator = fresh(build, seed), torch.Generator().manual_seed(seed)
    _descend(network, lambda: network.loss(seen[_some(seen, generator)], generator), CODED)
    return network


def _descend(network: nn.Module, loss: Callable[[], Tensor], phases: Phases) -> None:
    for steps, rate in phases:
        for _ in descend(network, loss, steps, rate):
            pass


def _some(seen: Images, generator: torch.Generator) -> Int[Tensor, " batch"]:
    return torch.randint(len(seen), (BATCH,), generator=generator)
