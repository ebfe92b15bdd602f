"""Autoencoders and generation: an autoencoder draws well or badly depending on which codes it is given.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) says that autoencoders serve for reconstruction and for noise
removal, and that they cannot be used to generate data, since their output is a faithful reconstruction; and that
diffusion can generate variations of an input, since the process is random. All of this is put to the test on digits
of 8×8 pixels, which take seconds.

How good samples are is asked of three judges, classifiers that learn to tell them from real images that no generator
has seen. What counts is the sharpest judge. The floor is what the judges say of the images that the generators learned
from. All images are rounded to the gray values that scanned digits have, as otherwise every judge would tell them. A
generator that copies its training images would pass, too, so it is measured how near its samples are to these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, median_filter
from sklearn.svm import SVC
from torch import Tensor

from limelight import figures
from limelight.data import digits
from limelight.data.digit_levels import as_scanned
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.models import digit_generators as draws
from limelight.models import digit_training as trained
from limelight.models.autoencoder import Autoencoder
from limelight.models.judges import FOREST, LINEAR, NETWORK, judge_accuracies
from limelight.report.comparison import comparison

SEEN, UNSEEN, VARIED = 997, 800, 200  # images to learn from, images to judge by, and how many of the latter are varied
NOISE = 0.3  # standard deviation of the noise that has to be removed, in units of the gray values
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the way to noise
PART = 0.3  # the part of the way at which variations are judged
BLURS = (0.4, 0.5, 0.6, 0.7, 0.8)  # standard deviations of the Gaussian filter in pixels; the best is chosen
SHOWN, MAPPED = 10, 300  # images in a picture, and codes in one

PCA, PLAIN, FITTED, MIXTURE = "PCA", "autoencoder, plain codes", "autoencoder, fitted codes", "autoencoder, mixture"
DENOISING, VAE, DIFFUSION, REAL, CONTROL = "denoising autoencoder", "VAE", "diffusion", "real images", "random pixels"


@lru_cache(maxsize=2)  # the arms of a seed share their training
def autoencoder(seed: int) -> Autoencoder:
    """The autoencoder of a seed."""
    return trained.autoencoder(data_of(seed)[0][0], seed)


def data_of(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((images, digits) to learn from, (images, digits) to judge by) of a seed."""
    return digits.split(SEEN, UNSEEN, torch.Generator().manual_seed(seed))


def _coded(codes: Callable[[Tensor, int], draws.DrawCodes]) -> Callable[[Tensor, int], draws.DigitGenerator]:
    def build(seen: Tensor, seed: int) -> draws.DigitGenerator:
        network = autoencoder(seed)
        with torch.no_grad():
            return draws.AutoencoderGenerator(network, codes(network.encode(seen), seed))

    return build


def _denoising(seen: Tensor, seed: int) -> draws.DigitGenerator:
    network = trained.denoising_autoencoder(seen, seed, NOISE)
    with torch.no_grad():
        return draws.AutoencoderGenerator(network, draws.gaussian_codes(network.encode(seen)))


ARMS: dict[str, Callable[[Tensor, int], draws.DigitGenerator]] = {
    PCA: lambda seen, seed: draws.PrincipalComponents(seen),
    PLAIN: _coded(lambda codes, seed: draws.plain_codes()),
    FITTED: _coded(lambda codes, seed: draws.gaussian_codes(codes)),
    MIXTURE: _coded(draws.mixture_codes),
    DENOISING: _denoising,
    VAE: lambda seen, seed: draws.Variational(trained.variational_autoencoder(seen, seed)),
    DIFFUSION: lambda seen, seed: draws.Diffusion(trained.denoiser(seen, seed)),
    REAL: lambda seen, seed: draws.RealImages(seen),
    CONTROL: lambda seen, seed: draws.NoiseImages(seen, torch.Generator().manual_seed(seed)),
}


class AutoencodersAndGeneration(Claim):
    """The claim that autoencoders reconstruct and remove noise but do not generate, and that diffusion varies images."""

    name = "autoencoders_and_generation"
    title = "Autoencoders reconstruct and remove noise but cannot generate; diffusion makes variations of an image"
    question = (
        "An autoencoder squeezes an image through eight numbers. Does it reconstruct and clean images better than simple "
        "methods do? Do images that it draws from random codes look real, and does that depend on how the codes are drawn? "
        "And is an image that diffusion noises part of the way and brings back still the same digit, and yet another image?"
    )
    source = "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known)"
    arms = {
        PCA: "eight principal components, with normal coordinates",
        PLAIN: "64 → 128 → 8 → 128 → 64; new images from codes of N(0, 1)",
        FITTED: "the same network; codes from a normal distribution fitted to those of the training images",
        MIXTURE: "the same network; codes from a mixture of 40 normal distributions fitted to those of the training images",
        DENOISING: "the same size, trained on images with noise; fitted codes",
        VAE: "a variational autoencoder of the same size; codes of N(0, 1)",
        DIFFUSION: "100 timesteps, two hidden layers of 256; new images by 25 steps of DDIM",
        REAL: "the training images themselves: the floor of the judges",
        CONTROL: "each pixel drawn by itself from its values in the training images: the control",
    }
    control = CONTROL
    measures = {
        "reconstruction": Measure("error of reconstructed unseen images", "of the variance", "lower", failed=10.0),
        "noise left": Measure("error of cleaned images", "times that of the better filter", "lower", failed=10.0),
        "told": Measure("samples told from real images by the sharpest of three judges", "share", "lower", failed=1.0),
        **{
            judge: Measure(f"samples told from real images by a {judge}", "share", "lower", failed=1.0)
            for judge in (LINEAR, FOREST, NETWORK)
        },
        "distance": Measure(
            "distance of samples to the nearest training image", "times that of unseen images", "neither", failed=0.0
        ),
        "same class": Measure(f"variations that keep their class, {PART:.0%} of the way to noise", "share", "higher", failed=0.0),
        "difference": Measure(
            f"distance of two variations of an image, {PART:.0%} of the way to noise", "times that of two images of a class", "neither",
            failed=0.0,
        ),
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def shares(self, arm: str, seed: int) -> int:
        return seed  # arms share the autoencoder

    def measure(self, arm: str, seed: int) -> Measurement:
        (seen, _), (unseen, labels) = data_of(seed)
        model, generator = ARMS[arm](seen, seed), torch.Generator().manual_seed(seed)
        noisy = unseen + NOISE * torch.randn(unseen.shape, generator=generator)  # the same for all arms
        filtered = _filtered(seen, noisy, unseen, generator)
        samples = as_scanned(model.draw(UNSEEN, generator))
        judged = judge_accuracies(unseen, samples, seed)
        kept, apart, shown = _variations(model, unseen, labels, generator)
        part = FRACTIONS.index(PART)
        return Measurement(
            values={
                "reconstruction": _error(model.reconstruct(unseen), unseen) / _error(seen.mean(0), unseen),
                "noise left": _error(model.clean(noisy, NOISE), unseen) / filtered,
                "told": max(judged.values()),
                **judged,
                "distance": _to_nearest(samples, seen) / _to_nearest(unseen, seen),
                "same class": kept[part],
                "difference": apart[part],
            },
            arrays={
                "samples": samples[:SHOWN].numpy(),
                "same class": np.array(kept),
                "difference": np.array(apart),
                "noisy": noisy[:SHOWN].clamp(0, 1).numpy(),
                "cleaned": model.clean(noisy[:SHOWN], NOISE).clamp(0, 1).numpy(),
                "original": unseen[:SHOWN].numpy(),
                "variations": shown.numpy(),
                **_code_map(model, seen, generator),
            },
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "an autoencoder reconstructs unseen images with at most three quarters of the error of PCA of the same width",
                    results.ratio(PLAIN, PCA, "reconstruction"), "at most", 0.75, "times",
                ),
                Part(
                    "a denoising autoencoder leaves at most three quarters of the noise that the better of two filters leaves",
                    results.summary(DENOISING, "noise left"), "at most", 0.75, "times",
                ),
                Part(
                    "an autoencoder that never saw noise leaves no more than that filter",
                    results.summary(PLAIN, "noise left"), "at most", 1.0, "times",
                ),
                *(
                    Part(
                        f"an autoencoder cannot generate: with {codes} the sharpest judge tells at least 95% of its samples",
                        results.summary(arm, "told"), "at least", 0.95, "share",
                    )
                    for arm, codes in (
                        (PLAIN, "codes of N(0, 1)"), (FITTED, "a normal distribution fitted to its codes"),
                        (MIXTURE, "a mixture fitted to its codes"),
                    )
                ),
                Part(
                    "a VAE's samples are told at least ten points more often than those of diffusion",
                    results.difference(VAE, DIFFUSION, "told"), "at least", 0.1, "share",
                ),
                Part(
                    "so are an autoencoder's samples, even with the mixture",
                    results.difference(MIXTURE, DIFFUSION, "told"), "at least", 0.1, "share",
                ),
                Part(
                    f"{PART:.0%} of the way to noise and back, diffusion keeps the digit's class in at least 80% of images",
                    results.summary(DIFFUSION, "same class"), "at least", 0.8, "share",
                ),
                Part(
                    "and two such variations differ at least half as much as two images of a class do",
                    results.summary(DIFFUSION, "difference"), "at least", 0.5, "times",
                ),
                Part(
                    "diffusion's samples are no copies: the nearest training image is at least 0.9 times as far as from an unseen image",
                    results.summary(DIFFUSION, "distance"), "at least", 0.9, "times",
                ),
            ],
            control=Part(
                "at most 80% of images of random pixels are told from real ones",
                results.summary(CONTROL, "told"), "at most", 0.8, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        told = {arm: f"{results.summary(arm, 'told').estimate:.0%}" for arm in self.arms}
        left = {arm: results.summary(arm, "noise left").estimate for arm in (PLAIN, DENOISING)}
        ratio = results.ratio(PLAIN, PCA, "reconstruction").estimate
        kept, apart = (results.summary(DIFFUSION, name).estimate for name in ("same class", "difference"))
        return (
            f"An autoencoder reconstructs digits with {ratio:.0%} of the error of PCA, and one trained on noise leaves "
            f"{left[DENOISING]:.0%} of the error of the better of two filters (one that never saw noise {left[PLAIN]:.0%}). Whether it "
            f"can generate depends on its codes: the sharpest of three judges tells {told[PLAIN]} of its samples from real images "
            f"with codes of N(0, 1), {told[FITTED]} with a normal distribution fitted to its codes and {told[MIXTURE]} with a mixture; "
            f"of a VAE's {told[VAE]}, of diffusion's {told[DIFFUSION]}, and {told[REAL]} of real images that the generators had seen. "
            f"Diffusion {PART:.0%} of the way to noise and back keeps {kept:.0%} of the digits' classes, and two variations differ {apart:.2f} times as "
            "much as two images of a class."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        every = {arm: results.array(arm, "samples", seed) for arm in self.arms}
        cleaned = {arm: results.array(arm, "cleaned", seed) for arm in (PCA, PLAIN, DENOISING, VAE, DIFFUSION)}
        varied = results.array(DIFFUSION, "variations", seed)
        rows = {} if varied is None else dict(zip(_ROWS, varied, strict=True))
        by_fraction = {name: results.stack(DIFFUSION, name) for name in ("same class", "difference")}
        codes = {name: results.array(arm, "codes", seed) for name, arm in _CODES.items()}
        own = results.array(FITTED, "own codes", seed)
        return [
            Picture(
                "How often each judge, and the sharpest of them, tells samples from real images that no generator has seen; ½ is "
                "a guess. A dot for each seed, and the mean with its interval.",
                *comparison(results, ["told", LINEAR, FOREST, NETWORK]),
            ),
            Picture(f"Ten samples of each arm, seed {seed}.", *figures.images(every)),
            Picture(
                "Codes from which new images are drawn, over the codes of training images in gray, by the first two principal "
                f"components of the latter, seed {seed}.",
                *figures.point_panels(codes, own, "first component", "second component"),
            ),
            Picture(
                f"Noise removal: unseen images of seed {seed}, with noise of standard deviation {NOISE}, and what each arm makes of them.",
                *figures.images(
                    {
                        "unseen": results.array(PCA, "original", seed),
                        "noisy": results.array(PCA, "noisy", seed),
                        **cleaned,
                    }
                ),
            ),
            Picture(
                "Reconstruction, noise removal, and how near samples are to the training images.",
                *comparison(results, ["reconstruction", "noise left", "distance"]),
            ),
            Picture(
                f"Variations by diffusion: unseen images of seed {seed}, noised a part of the way and brought back.",
                *figures.images(rows),
            ),
            Picture(
                "Variations by the part of the way to noise: how many keep their class by a judge of its own, and how much two of "
                "them differ, in units of the distance of two images of a class. The median over seeds, and the middle half of them.",
                figures.curves(by_fraction, FRACTIONS, "part of the way to noise", "share, or times the distance"),
            ),
        ]


_CODES = {"N(0, 1)": PLAIN, "fitted normal distribution": FITTED, "fitted mixture": MIXTURE}
_ROWS = ("the image", *(f"{fraction:.0%} of the way" for fraction in FRACTIONS[1::2]))


@torch.no_grad()
def _code_map(model: draws.DigitGenerator, seen: Tensor, generator: torch.Generator) -> dict[str, np.ndarray]:
    """Codes of training images and codes that are drawn, in the plane in which the former vary most; none without codes."""
    if not isinstance(model, draws.AutoencoderGenerator):
        return {}
    codes = model.network.encode(seen)
    middle = codes.mean(0)
    plane = torch.linalg.svd(codes - middle, full_matrices=False)[2][:2].mT
    drawn = model.codes(MAPPED, generator)
    return {"own codes": ((codes[:MAPPED] - middle) @ plane).numpy(), "codes": ((drawn - middle) @ plane).numpy()}


def _error(images: Tensor, truth: Tensor) -> float:
    return float((images - truth).square().mean())


def _filtered(seen: Tensor, noisy: Tensor, truth: Tensor, generator: torch.Generator) -> float:
    """The error of the best filter: a median of 3×3 pixels, or a Gaussian whose width is best on training images."""
    trial = seen + NOISE * torch.randn(seen.shape, generator=generator)
    width = min(BLURS, key=lambda width: _error(_blurred(trial, width), seen))
    middle = torch.tensor(median_filter(noisy.numpy(), size=(1, 3, 3), mode="nearest"))
    return min(_error(_blurred(noisy, width), truth), _error(middle, truth))


def _blurred(images: Tensor, width: float) -> Tensor:
    return torch.tensor(gaussian_filter(images.numpy(), sigma=(0, width, width), mode="nearest"))


def _to_nearest(images: Tensor, seen: Tensor) -> float:
    """The median distance of an image to the nearest of those that were learned from."""
    return float(torch.cdist(images.flatten(1), seen.flatten(1)).amin(1).median())


def _variations(
    model: draws.DigitGenerator, unseen: Tensor, labels: Tensor, generator: torch.Generator
) -> tuple[list[float], list[float], Tensor]:
    """For each fraction of the way: the share of variations of the same class, and how much two variations differ.

    The class is that of a support vector machine that learns from other images than those that are varied, and than
    those that the generators saw. Also returns some images with one variation for every second fraction.
    """
    judge = SVC().fit(unseen[VARIED:].flatten(1).numpy(), labels[VARIED:].numpy())
    images, truth = unseen[:VARIED], labels[:VARIED]
    pairs = torch.cdist(images.flatten(1), images.flatten(1))[(truth[:, None] == truth).triu(1)]
    kept, apart, shown = [], [], [images[:SHOWN]]
    for fraction in FRACTIONS:
        first, second = (model.vary(images, fraction, generator) for _ in range(2))
        kept.append(float((torch.tensor(judge.predict(first.flatten(1).numpy())) == truth).float().mean()))
        apart.append(float((first - second).flatten(1).norm(dim=1).mean() / pairs.mean()))
        shown.append(first[:SHOWN].clamp(0, 1))
    return kept, apart, torch.stack([shown[0], *shown[2::2]])
