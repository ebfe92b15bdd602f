"""Judges: how well classifiers tell generated images from real ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError

LINEAR, FOREST, NETWORK = "logistic regression", "random forest", "small network"


def told_apart(
    real: Float[Tensor, "n h w"], generated: Float[Tensor, "n h w"], seed: int
) -> dict[str, float]:
    """The share of images that each of three judges calls rightly: ½ if it cannot tell, 1 if it always can.

    Each judge learns from the first half of the real and of the generated images, and is asked about the second half.
    A linear judge sees only whether some pixels are too bright; a forest sees what values pixels have together; a
    network sees both less sharply. Samples are as good as they look to the sharpest of them (Lopez-Paz & Oquab 2017).

    Raises `InputError` unless both sets have the same shape, with at least four images.
    """
    if real.shape != generated.shape or len(real) < 4:
        raise InputError(
            "told_apart expects as many generated images as real ones, at least four, of the same size, "
            f"got {tuple(real.shape)} and {tuple(generated.shape)}"
        )
    half, pixels = len(real) // 2, torch.stack([real, generated], 1).flatten(2).numpy()
    answers = np.tile([0, 1], half)
    seen, unseen = (part.reshape(2 * half, -1) for part in (pixels[:half], pixels[half : 2 * half]))
    return {name: float(build(seed).fit(seen, answers).score(unseen, answers)) for name, build in _JUDGES.items()}


def _linear(seed: int):  # type: ignore[no-untyped-def]
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500)


def _forest(seed: int):  # type: ignore[no-untyped-def]
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, random_state=seed)


def _network(seed: int):  # type: ignore[no-untyped-def]
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((64,), max_iter=60, n_iter_no_change=60, random_state=seed)


_JUDGES: dict[str, Callable] = {LINEAR: _linear, FOREST: _forest, NETWORK: _network}  # type: ignore[type-arg]
