"""The diffusion model of the page: a network learns the noise in digits, and then makes digits out of noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from plotly.graph_objects import Figure
from torch import Tensor, nn

from limelight import figures
from limelight.data.digit_levels import MIDDLE, SPREAD, bounded, unbounded
from limelight.data.digits import split
from limelight.figures.grids import tiled
from limelight.lab.address import Values
from limelight.lab.descents import Descents, descent
from limelight.lab.pages.blocks.learner import Learner
from limelight.lab.pages.blocks.settings import DIGITS, SHOWN
from limelight.lab.simulation import Change, Figures, numbers
from limelight.models.denoiser import Denoiser, NoisyClassifier, noisy_classification_loss
from limelight.models.diffusion import NoiseOf, cosine_schedule, ddim_samples, denoising_loss, guided
from limelight.models.digit_generators import SIDE
from limelight.models.digit_training import BATCH, HIDDEN, TIMES, WIDTH
from limelight.models.fresh import fresh

SEEN, JUDGING, UNSEEN = 1000, 400, 397  # images to learn from, for the judge, and to compare with
DRAWN = 48  # samples that are measured, of which `SHOWN` are on the page
RATE = 0.002
START = 95  # where guided walks begin, a little below `TIMES`: nearer to pure noise guidance would be magnified
STAGES = ("noise", "20 %", "40 %", "60 %", "80 %", "sample")
_REAL = "real digits"
_WALK, _LOSS = "blocks-walk", "blocks-noise-loss"


class Diffusion(Learner):
    """A denoiser, and beside it a classifier of noisy digits that can guide it; only the latter learns labels."""

    columns = ("unseen",)

    def _build(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        (seen, self._labels), (others, truth) = split(SEEN, JUDGING + UNSEEN, generator)
        self._seen, self._unseen = unbounded(seen), unbounded(others[JUDGING:])
        self._judge = _judge(others[:JUDGING], truth[:JUDGING])
        self._real = others[JUDGING:]
        self._scanned = seen
        schedule = cosine_schedule(TIMES)
        self._denoiser = fresh(lambda: Denoiser(schedule, SIDE, WIDTH), seed)
        self._classifier = fresh(lambda: NoisyClassifier(schedule, SIDE, HIDDEN, DIGITS), seed)
        self._noise = torch.randn(DRAWN, SIDE, SIDE, generator=generator)
        self._batches = generator
        self._usual = self._to_nearest(self._real)

    def _networks(self) -> Sequence[nn.Module]:
        return self._denoiser, self._classifier

    def _descents_at(self, factor: float) -> Descents:
        def denoising() -> Tensor:
            return denoising_loss(self._denoiser, self._denoiser.schedule, self._seen[self._some()], self._batches)

        def classifying() -> Tensor:
            some = self._some()
            return noisy_classification_loss(self._classifier, self._seen[some], self._labels[some], self._batches)

        rate = RATE * factor
        return {
            "denoiser": descent(self._denoiser, denoising, rate),
            "classifier": descent(self._classifier, classifying, rate),
        }

    def _some(self) -> Tensor:
        return torch.randint(SEEN, (BATCH,), generator=self._batches)

    def change(self, values: Values) -> Collection[str]:
        changed = self.differing(values)
        self.values = values
        if "seed" in changed:
            self._begin()
            return (_WALK, _LOSS)
        if "rate" in changed:
            self._start_descents()
        if changed & {"digit", "scale", "walk"}:
            self._evaluate_again()
        return ()

    def _evaluate(self) -> None:
        walk = self._walk()
        self._stages = {
            stage: _gray(walk[i * (len(walk) - 1) // (len(STAGES) - 1)][:SHOWN]) for i, stage in enumerate(STAGES)
        }
        samples = bounded(walk[-1])
        self._read = self._judge(samples)
        self._distance = self._to_nearest(samples) / self._usual

    def _walk(self) -> list[Tensor]:
        """The images on the way from noise to samples, both included."""
        steps, passed = int(self.values["walk"]), []
        steered = self._steered()

        def noise_of(x: Tensor, t: Tensor) -> Tensor:
            passed.append(x)
            return steered(x, t)

        last = ddim_samples(noise_of, self._denoiser.schedule, self._noise, steps, START)
        return [*passed, last]

    def _steered(self) -> NoiseOf:
        scale, asked = float(self.values["scale"]), torch.full((DRAWN,), int(self.values["digit"]))
        if not scale:
            return self._denoiser
        toward = partial(self._classifier.log_probability, labels=asked)
        return guided(self._denoiser, self._denoiser.schedule, toward, scale)

    def _to_nearest(self, images: Tensor) -> float:
        """The median distance of an image to the nearest of those that are learned from."""
        return float(torch.cdist(images.flatten(1), self._scanned.flatten(1)).amin(1).median())

    @torch.no_grad()
    def _measured(self) -> list[float]:
        same = torch.Generator().manual_seed(0)  # each time the same noise
        return [float(denoising_loss(self._denoiser, self._denoiser.schedule, self._unseen, same))]

    def _curves(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        lines = {
            "training images": self._column("training"),
            "unseen images": self._column("unseen"),
            "a guess: no noise": self._level(1.0),
        }
        return {_LOSS: lines}

    def _drawings(self) -> Mapping[str, Figure]:
        return Figures(
            {_WALK: lambda: figures.image_rows(self._images, self._words, STAGES[-1]), _LOSS: self._draw_loss}
        )

    def _draw_loss(self) -> Figure:
        lines = self._curves()[_LOSS]
        figure = figures.curves(lines, list(self._at), "step", "share of the noise missed", log=True)
        return figure.update_yaxes(tickvals=[0.1, 0.2, 0.3, 0.5, 1, 2], tickformat=".1f")

    @property
    def _images(self) -> dict[str, np.ndarray]:
        return {**self._stages, _REAL: self._real[:SHOWN].numpy()}

    @property
    def _words(self) -> list[str]:
        return [str(digit) for digit in self._read[:SHOWN]]

    def _evaluated(self) -> Mapping[str, Sequence[Change]]:
        return {_WALK: [(0, {"z": numbers(tiled(self._images, STAGES[-1]))}), (1, {"text": self._words})]}

    def labels(self) -> Mapping[str, str]:
        self._measure_if_due()
        digit = int(self.values["digit"])
        hit = sum(read == digit for read in self._read) / DRAWN
        how = f"Guided toward {digit}" if self.values["scale"] else "Without guidance"
        return {
            "blocks-step": f"step {self._steps} · {self._steps * BATCH:,} images seen",
            "blocks-said-walk": (
                f"{how}, {hit:.0%} of {DRAWN} samples are read as {digit}. They are {self._distance:.1f} times as far from the "
                "nearest training image as real digits are."
            ),
            "blocks-said-noise": f"The network misses {self._newest['unseen']:.0%} of the noise in unseen images.",
        }


def _gray(values: Tensor) -> np.ndarray:
    """Gray values from 0 to 1 of images whose values have no bounds."""
    return (values * SPREAD + MIDDLE).clamp(0, 1).numpy()


def _judge(images: Tensor, labels: Tensor) -> Callable[[Tensor], list[int]]:
    """A reader of digits that has learned from images of its own, as in the claim `classifier_generator`."""
    from sklearn.svm import SVC  # here, since the first visitor would wait for it

    fitted = SVC().fit(images.flatten(1).numpy(), labels.numpy())
    return lambda drawn: [int(digit) for digit in fitted.predict(drawn.flatten(1).numpy())]
