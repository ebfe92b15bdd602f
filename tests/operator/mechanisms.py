"""Every similarity × normalisation, once, for every test that runs over them. Add a new one here."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from limelight import Cosine, Dot, Euclidean, Metric, Normalisation, Similarity, Sinkhorn, Softmax

WIDTH = 6


class Phi(torch.nn.Module):
    """A small φ of the paper's kind: a tanh layer with a residual, then fewer dimensions."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.inner = torch.nn.Parameter(
            0.4 * torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
        )
        self.outer = torch.nn.Parameter(0.4 * torch.randn(WIDTH, 4, generator=generator, dtype=torch.float64).to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + torch.tanh(x @ self.inner.to(x.dtype))) @ self.outer.to(x.dtype)


@dataclass(frozen=True)
class SimilarityCase:
    """A similarity, how the oracle writes it, and the laws it obeys."""

    kind: str
    make: Callable[[], Similarity]
    scale: float  # its own
    translation_invariant: bool = False
    length_invariant: bool = False
    distance: bool = False  # √(−2β) is one


@dataclass(frozen=True)
class NormalisationCase:
    kind: str
    make: Callable[[], Normalisation]
    alpha: float = 0.0
    steps: int = 0


SIMILARITIES = {
    "dot": SimilarityCase("dot", Dot, WIDTH**-0.5),
    "cosine": SimilarityCase("cosine", Cosine, 1.0, length_invariant=True),
    "euclidean": SimilarityCase(
        "euclidean", lambda: Euclidean(1.5), 1.5**-2, translation_invariant=True, distance=True
    ),
    "metric": SimilarityCase("metric", lambda: Metric(Phi()), 2.0, distance=True),
}
NORMALISATIONS = {
    "softmax": NormalisationCase("softmax", Softmax),
    "alpha=0.4": NormalisationCase("softmax", lambda: Softmax(0.4), alpha=0.4),
    "alpha=1": NormalisationCase("softmax", lambda: Softmax(1.0), alpha=1.0),
    "sinkhorn": NormalisationCase("sinkhorn", lambda: Sinkhorn(3), steps=3),
}
