"""Classifiers as judges of generated images: how often they tell them from real ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError
from limelight.models.fresh import fresh
from limelight.models.mlp import mlp
from limelight.models.training import descend

LINEAR, FOREST, NETWORK = "logistic regression", "random forest", "small network"


def judge_accuracies(real: Float[Tensor, "n h w"], generated: Float[Tensor, "n h w"], seed: int) -> dict[str, float]:
    """The share of images that each of three judges classifies rightly as real or generated: ½ if it is guessing.

    Each judge learns from a random half of the real and of the generated images, and classifies the other halves.
    A linear judge sees only whether some pixels are too bright or too dark; a forest sees which values pixels have, one
    after the other; a network sees which strokes go together. Samples are as good as the most accurate judge finds them
    (a two-sample test by classifiers, Lopez-Paz & Oquab 2017).

    Raises `InputError` unless both sets have the same shape, with at least four images.
    """
    if real.shape != generated.shape or real.dim() != 3 or len(real) < 4:
        raise InputError(
            "judge_accuracies expects as many generated images (n, h, w) as real ones, at least four, of the same "
            f"size, got {tuple(real.shape)} and {tuple(generated.shape)}"
        )
    generator, half = torch.Generator().manual_seed(seed), len(real) // 2
    real, generated = (images[torch.randperm(len(images), generator=generator)] for images in (real, generated))
    pixels = torch.stack([real, generated], 1).flatten(2)
    answers = torch.tensor([0, 1]).repeat(half)
    seen, unseen = pixels[:half].flatten(0, 1), pixels[half : 2 * half].flatten(0, 1)
    called = {name: judge(seen, answers, unseen, seed) for name, judge in _JUDGES.items()}
    return {name: float((answer == answers).float().mean()) for name, answer in called.items()}


# A judge learns from points (n, pixels) and their answers 0 or 1, and returns its answers for the unseen ones.


def _linear(
    seen: Float[Tensor, "n d"], answers: Int[Tensor, " n"], unseen: Float[Tensor, "m d"], seed: int
) -> Int[Tensor, " m"]:
    from sklearn.linear_model import LogisticRegression

    return torch.tensor(LogisticRegression(max_iter=1000).fit(seen.numpy(), answers.numpy()).predict(unseen.numpy()))


def _forest(
    seen: Float[Tensor, "n d"], answers: Int[Tensor, " n"], unseen: Float[Tensor, "m d"], seed: int
) -> Int[Tensor, " m"]:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(100, random_state=seed).fit(seen.numpy(), answers.numpy())
    return torch.tensor(forest.predict(unseen.numpy()))


def _network(
    seen: Float[Tensor, "n d"], answers: Int[Tensor, " n"], unseen: Float[Tensor, "m d"], seed: int
) -> Int[Tensor, " m"]:
    network = fresh(lambda: mlp(seen.shape[1], 64, 2), seed)
    for _ in descend(network, lambda: F.cross_entropy(network(seen), answers), steps=200, lr=0.01, weight_decay=1e-3):
        pass
    with torch.no_grad():
        return network(unseen).argmax(-1)


_JUDGES: dict[str, Callable[[Tensor, Tensor, Tensor, int], Tensor]] = {
    LINEAR: _linear,
    FOREST: _forest,
    NETWORK: _network,
}
