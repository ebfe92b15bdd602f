"""Diffusion: noise is added to images step by step, and a network that predicts the noise walks back.

A sampler asks only for a function (x_t, t) ↦ ε, an estimate of the noise in x_t. A trained network is
one (`models/denoiser.py`), the exact answer for a Gaussian another, and `guided` adds the gradient of a classifier to
one. The samplers work on arrays of any shape (n, …), images with values around −1 to 1 among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError

NoiseOf = Callable[[Tensor, Tensor], Tensor]  # from x_t (n, …) and t (n,) to the noise in x_t
LogProbability = Callable[[Tensor, Tensor], Tensor]  # from x_t (n, …) and t (n,) to log p(y | x_t) (n,)


class NoiseSchedule:
    """q(x_t | x) = N(√ᾱ_t x, 1 − ᾱ_t) with ᾱ_t = Π_{s ≤ t} (1 − β_s), for t = 0, …, T; ᾱ_0 = 1.

    Each step keeps √(1 − β) of the image and adds noise of variance β, so that unit variance stays unit variance. The
    sum of many small Gaussian steps is one Gaussian step, so x_t is drawn at once for any t.

    Raises `InputError` for a β outside (0, 1). Ho, Jain & Abbeel 2020, equation 4.

    >>> import torch
    >>> from limelight.models.diffusion import NoiseSchedule
    >>> schedule = NoiseSchedule(torch.tensor([0.5, 0.5]))
    >>> schedule.steps, schedule.alpha_bar
    (2, tensor([1.0000, 0.5000, 0.2500]))
    """

    def __init__(self, betas: Float[Tensor, " steps"]) -> None:
        if betas.dim() != 1 or not len(betas) or not bool(((betas > 0) & (betas < 1)).all()):
            raise InputError(f"NoiseSchedule expects a list of β, each between 0 and 1, got {betas}")
        self.betas = torch.cat([betas.new_zeros(1), betas])  # β_t stands at t, and β_0 = 0
        self.alpha_bar = torch.cumprod(1 - self.betas, 0)
        self.steps = len(betas)

    def noised(
        self, images: Float[Tensor, "n ..."], t: Int[Tensor, " n"], noise: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "n ..."]:
        """x_t = √ᾱ_t x + √(1 − ᾱ_t) ε. Raises `InputError` for a t outside 0 … T."""
        self.require_times(t)
        kept = per_sample(self.alpha_bar[t], images)
        return kept.sqrt() * images + (1 - kept).sqrt() * noise

    def require_times(self, t: Int[Tensor, " n"]) -> None:
        """Raise `InputError` for timesteps that are not whole numbers from 0 to T."""
        if t.is_floating_point() or bool(((t < 0) | (t > self.steps)).any()):
            raise InputError(f"expected timesteps from 0 to {self.steps}, the whole numbers of the schedule, got {t}")


def linear_schedule(steps: int) -> NoiseSchedule:
    """β rises evenly from 0.1/T to 20/T: with T = 1000 the schedule of Ho et al. 2020, from 0.0001 to 0.02.

    Raises `InputError` for T ≤ 20, where the last β would not be below 1.

    >>> from limelight.models.diffusion import linear_schedule
    >>> linear_schedule(100).alpha_bar[100] < 1e-4  # nothing is left of the image
    tensor(True)
    """
    if steps <= 20:
        raise InputError(f"linear_schedule expects more than 20 steps, got {steps!r}; use cosine_schedule for fewer")
    return NoiseSchedule(torch.linspace(0.1 / steps, 20 / steps, steps))


def cosine_schedule(steps: int) -> NoiseSchedule:
    """ᾱ_t = cos²(½π (t/T + s)/(1 + s)), divided by its value at 0, with s = 0.008 and β at most 0.999.

    It destroys the image more evenly than `linear_schedule`, which is nearly done after two thirds of its steps.
    Raises `InputError` for fewer than one step. Nichol & Dhariwal 2021, equation 17.

    >>> from limelight.models.diffusion import cosine_schedule
    >>> 0.48 < float(cosine_schedule(100).alpha_bar[50]) < 0.5
    True
    """
    if steps < 1:
        raise InputError(f"cosine_schedule expects at least one step, got {steps!r}")
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    kept = ((t + 0.008) / 1.008 * math.pi / 2).cos().square()
    return NoiseSchedule((1 - kept[1:] / kept[:-1]).clamp(max=0.999).float())


def denoising_loss(
    noise_of: NoiseOf, schedule: NoiseSchedule, images: Float[Tensor, "n ..."], generator: torch.Generator
) -> Float[Tensor, ""]:
    """The mean of |ε − ε_θ(√ᾱ_t x + √(1 − ᾱ_t) ε, t)|² over a random t for each image: guess the noise that was added.

    It is the bound on the likelihood with its weights left out (Ho et al. 2020, equation 14).
    """
    t = torch.randint(1, schedule.steps + 1, (len(images),), generator=generator)
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    return (noise_of(schedule.noised(images, t, noise), t) - noise).square().mean()


@torch.no_grad()
def ancestral_samples(
    noise_of: NoiseOf,
    schedule: NoiseSchedule,
    x: Float[Tensor, "n ..."],
    generator: torch.Generator,
    start: int | None = None,
) -> Float[Tensor, "n ..."]:
    """x_{t−1} = (x_t − β_t/√(1 − ᾱ_t) · ε(x_t, t)) / √(1 − β_t) + σ_t z, for t = start, …, 1, with fresh z ~ N(0, 1).

    σ_t² = β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t) is the variance of x_{t−1} if the image were known; it is 0 in the last step.
    x is noise at `start`, by default T. Raises `InputError` for a start outside 0 … T. Ho et al. 2020, algorithm 2.
    """
    for t in range(_start(schedule, start), 0, -1):
        beta, kept, before = schedule.betas[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        mean = (x - beta / (1 - kept).sqrt() * noise_of(x, torch.full((len(x),), t))) / (1 - beta).sqrt()
        spread = (beta * (1 - before) / (1 - kept)).sqrt()
        x = mean + spread * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


@torch.no_grad()
def ddim_samples(
    noise_of: NoiseOf, schedule: NoiseSchedule, x: Float[Tensor, "n ..."], steps: int, start: int | None = None
) -> Float[Tensor, "n ..."]:
    """x_s = √ᾱ_s x̂ + √(1 − ᾱ_s) ε with x̂ = (x_t − √(1 − ᾱ_t) ε)/√ᾱ_t and ε = ε(x_t, t): no noise but the first.

    The image guessed from x_t is noised again with the same noise, so that equal noise gives equal images, and large
    steps are possible: `steps` of them lead from `start`, by default T, to 0. Raises `InputError` for a start outside
    0 … T or for fewer than one step or more than `start`. Song, Meng & Ermon 2021, equation 12 with σ = 0.
    """
    for t, s in pairwise(_times(_start(schedule, start), steps, "ddim_samples")):
        x = _moved(x, noise_of(x, torch.full((len(x),), t)), schedule.alpha_bar[t], schedule.alpha_bar[s])
    return x


@torch.no_grad()
def ddim_encoded(
    noise_of: NoiseOf, schedule: NoiseSchedule, x: Float[Tensor, "n ..."], steps: int
) -> Float[Tensor, "n ..."]:
    """The noise from which `ddim_samples` makes these images: the same steps, from 0 to T.

    It is exact in the limit of many steps, since each uses the noise at its other end. Raises `InputError` for fewer
    than one step or more than T. Song, Meng & Ermon 2021, section 4.3.
    """
    times = _times(schedule.steps, steps, "ddim_encoded")[::-1]
    for t, s in pairwise(times):
        x = _moved(x, noise_of(x, torch.full((len(x),), max(t, 1))), schedule.alpha_bar[t], schedule.alpha_bar[s])
    return x


def variations(
    noise_of: NoiseOf,
    schedule: NoiseSchedule,
    images: Float[Tensor, "n ..."],
    start: int,
    generator: torch.Generator,
) -> Float[Tensor, "n ..."]:
    """Noise the images up to `start`, and denoise them again: what the noise has hidden is generated anew.

    A small `start` changes details; with T nothing of the image is left. Raises `InputError` for a start outside 0 … T.
    Ho et al. 2020 interpolate so (section 4.3); for editing it is SDEdit (Meng et al. 2022).
    """
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    noised = schedule.noised(images, torch.full((len(images),), start), noise)
    return ancestral_samples(noise_of, schedule, noised, generator, start)


def guided(noise_of: NoiseOf, schedule: NoiseSchedule, log_probability: LogProbability, scale: float) -> NoiseOf:
    """ε̂(x, t) = ε(x, t) − scale · √(1 − ᾱ_t) · ∇_x log p(y | x, t): each step also increases log p.

    The noise is −√(1 − ᾱ_t) times the gradient of the log-density, so that adding the classifier's gradient is Bayes'
    rule: the samples are those of p(x | y) where both are exact and the scale is 1. The classifier must know noisy
    images. Dhariwal & Nichol 2021, algorithm 2.
    """

    def with_guidance(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_probability(at, t).sum(), at)
        return noise_of(x, t) - scale * per_sample((1 - schedule.alpha_bar[t]).sqrt(), x) * gradient

    return with_guidance


def per_sample(values: Float[Tensor, " n"], x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """One number for each sample, with as many dimensions as the samples have, so that it broadcasts."""
    return values.to(x.dtype).view(-1, *[1] * (x.dim() - 1))


def _moved(x: Tensor, noise: Tensor, kept: Tensor, later: Tensor) -> Tensor:
    """Take this noise from x, where ᾱ is `kept`, and add it again as there is where ᾱ is `later`."""
    image = (x - (1 - kept).sqrt() * noise) / kept.sqrt()
    return later.sqrt() * image + (1 - later).sqrt() * noise


def _times(start: int, steps: int, who: str) -> list[int]:
    """`steps` + 1 timesteps from `start` to 0, evenly spaced up to rounding; only 0 for the start 0."""
    if start and not 1 <= steps <= start:
        raise InputError(f"{who}(steps=…) expects a whole number from 1 to {start}, got {steps!r}")
    return [round(start * (steps - i) / steps) for i in range(steps + 1)] if start else [0]


def _start(schedule: NoiseSchedule, start: int | None) -> int:
    if start is None:
        return schedule.steps
    schedule.require_times(torch.tensor([start]))
    return start
