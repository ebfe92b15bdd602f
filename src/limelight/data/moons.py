"""Two interleaved half circles (scikit-learn's make_moons, BSD)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from sklearn.datasets import make_moons
from torch import Tensor


def moons(n: int, noise: float, seed: int) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]:
    """n points in random order and the half circle that each belongs to."""
    points, labels = make_moons(n, noise=noise, random_state=seed)
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels)
