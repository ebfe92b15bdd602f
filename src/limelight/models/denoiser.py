"""Fully connected networks that are given noisy images and their noise level: a denoiser and a classifier."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limelight.models.diffusion import NoiseSchedule, per_sample
from limelight.models.image_input import require_images
from limelight.models.mlp import mlp

_WAVES = 6  # frequencies of the time features


class Denoiser(nn.Module):
    """ε_θ(x_t, t) = √(1 − ᾱ_t) x_t + √ᾱ_t v_θ(x_t, t): the noise in each image, (n, side, side).

    The network predicts v = √ᾱ_t ε − √(1 − ᾱ_t) x, a mixture of noise and image. Where there is much noise, x_t itself
    is a good guess of the noise, and the network need only predict the image; where there is little, it is the other
    way round. So its output is about equally large at all t (Salimans & Ho 2022).

    Raises `InputError` for images of another size and for a t outside the schedule.

    >>> import torch
    >>> from limelight.models.denoiser import Denoiser
    >>> from limelight.models.diffusion import linear_schedule
    >>> Denoiser(linear_schedule(50), side=8, hidden=32)(torch.zeros(5, 8, 8), torch.full((5,), 9)).shape
    torch.Size([5, 8, 8])
    """

    def __init__(self, schedule: NoiseSchedule, side: int, hidden: int) -> None:
        super().__init__()
        self.schedule, self.side = schedule, side
        self.network = mlp(side * side + 2 * _WAVES, hidden, hidden, side * side)

    def forward(self, x: Float[Tensor, "n side side"], t: Int[Tensor, " n"]) -> Float[Tensor, "n side side"]:
        v = self.network(with_time(x, t, self.schedule, self.side, "Denoiser")).view_as(x)
        kept = per_sample(self.schedule.alpha_bar[t], x)
        return (1 - kept).sqrt() * x + kept.sqrt() * v


class NoisyClassifier(nn.Module):
    """log p(y | x_t, t) up to a constant of each image: the scores (n, classes) of a classifier that knows the noise.

    A classifier of clean images knows nothing of the noisy ones on the way, so this one learns both; at t = 0 it is an
    ordinary classifier. Raises `InputError` as `Denoiser` does. Dhariwal & Nichol 2021, section 4.

    >>> import torch
    >>> from limelight.models.denoiser import NoisyClassifier
    >>> from limelight.models.diffusion import linear_schedule
    >>> NoisyClassifier(linear_schedule(50), 8, 32, classes=10)(torch.zeros(5, 8, 8), torch.zeros(5).long()).shape
    torch.Size([5, 10])
    """

    def __init__(self, schedule: NoiseSchedule, side: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.schedule, self.side = schedule, side
        self.network = mlp(side * side + 2 * _WAVES, hidden, hidden, classes)

    def forward(self, x: Float[Tensor, "n side side"], t: Int[Tensor, " n"]) -> Float[Tensor, "n classes"]:
        return self.network(with_time(x, t, self.schedule, self.side, "NoisyClassifier"))

    def log_probability(
        self, x: Float[Tensor, "n side side"], t: Int[Tensor, " n"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """log p(y | x_t, t) of one label for each image."""
        return self(x, t).log_softmax(-1).gather(1, labels[:, None])[:, 0]


def noisy_classification_loss(
    classifier: NoisyClassifier,
    images: Float[Tensor, "n side side"],
    labels: Int[Tensor, " n"],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """The mean of −log p(y | x_t, t) over images of which one half is clean, t = 0, and the other noised to a random t.

    Dhariwal & Nichol 2021, section 4.

    >>> import torch
    >>> from limelight.models.denoiser import NoisyClassifier, noisy_classification_loss
    >>> from limelight.models.diffusion import linear_schedule
    >>> classifier = NoisyClassifier(linear_schedule(50), side=8, hidden=32, classes=10)
    >>> noisy_classification_loss(classifier, torch.zeros(6, 8, 8), torch.arange(6), torch.Generator()).shape
    torch.Size([])
    """
    t = torch.randint(1, classifier.schedule.steps + 1, (len(images),), generator=generator)
    t[: len(images) // 2] = 0
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    return F.cross_entropy(classifier(classifier.schedule.noised(images, t, noise), t), labels)


def with_time(x: Tensor, t: Tensor, schedule: NoiseSchedule, side: int, who: str) -> Float[Tensor, "n inputs"]:
    """The pixels of each image, then sin and cos of 2^k · π/2 · t/T for k = 0, 1, …: time at several resolutions."""
    require_images(x, side, who)
    schedule.require_times(t)
    angles = (t / schedule.steps)[:, None] * 2.0 ** torch.arange(_WAVES) * math.pi / 2
    return torch.cat([x.flatten(1), angles.sin().to(x.dtype), angles.cos().to(x.dtype)], 1)
