"""The list of all similarities and normalizations, for every test that runs over them. Add a new one here."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from limelight import (
    GAT,
    Additive,
    ALiBi,
    Alignment,
    Bilinear,
    Convolution,
    Cosine,
    Dot,
    Entmax,
    Euclidean,
    Hybrid,
    Laplacian,
    Metric,
    Normalization,
    RelativeBias,
    ScalableSoftmax,
    Scaled,
    Sigmoid,
    Similarity,
    Sinkhorn,
    SoftCap,
    Softmax,
    SoftmaxWithSink,
    Sparsemax,
    StudentT,
    TopK,
)

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
    """A similarity, the oracle's formula for it, and the laws that hold for it."""

    kind: str
    make: Callable[[], Similarity]
    scale: float  # its own
    translation_invariant: bool = False
    length_invariant: bool = False
    distance: bool = False  # √(−2β) is one


@dataclass(frozen=True)
class NormalizationCase:
    kind: str
    make: Callable[[], Normalization]
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
NORMALIZATIONS = {
    "softmax": NormalizationCase("softmax", Softmax),
    "alpha=0.4": NormalizationCase("softmax", lambda: Softmax(0.4), alpha=0.4),
    "alpha=1": NormalizationCase("softmax", lambda: Softmax(1.0), alpha=1.0),
    "sinkhorn": NormalizationCase("sinkhorn", lambda: Sinkhorn(3), steps=3),
}


def filled(similarity: Similarity) -> Similarity:
    """The module in float64, with the same random parameters each time, none of them zero."""
    generator = torch.Generator().manual_seed(2)
    similarity = similarity.double()
    for parameter in similarity.parameters():
        with torch.no_grad():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return similarity


# The other similarities of contents; all laws hold but those of positions.
MORE_SIMILARITIES = {
    "alignment": SimilarityCase("alignment", Alignment, 1.0, length_invariant=True),
    "bilinear": SimilarityCase("bilinear", lambda: filled(Bilinear(WIDTH)), WIDTH**-0.5),
    "laplacian": SimilarityCase("laplacian", lambda: Laplacian(2.0), 0.5, translation_invariant=True),
    "student": SimilarityCase("student", lambda: StudentT(3.0), 2.0, translation_invariant=True),
    "additive": SimilarityCase("additive", lambda: filled(Additive(WIDTH, hidden=4)), 1.0),
    "gat": SimilarityCase("gat", lambda: filled(GAT(WIDTH)), 1.0),
    "softcap": SimilarityCase("softcap", lambda: SoftCap(Dot(), 0.8), 1.0),
}
# The similarities of positions, for three heads.
POSITIONAL = {
    "alibi": SimilarityCase("alibi", lambda: ALiBi(slopes=torch.tensor([0.5, 0.1, 2.0])), 1.0),
    "relative": SimilarityCase("relative", lambda: filled(RelativeBias(reach=2, heads=3)), 1.0),
    "convolution": SimilarityCase("convolution", lambda: Convolution(torch.tensor([-1.0, 0.0, 2.0]), 0.4), 0.4),
}
SUMS = {
    "dot + alibi": lambda: Dot() + ALiBi(slopes=torch.tensor([0.5, 0.1, 2.0])),
    "student + 0.5 relative": lambda: StudentT(3.0) + Scaled(filled(RelativeBias(reach=2, heads=3)), 0.5),
    "euclidean + cosine": lambda: Euclidean(1.5) + Cosine(),
    "softcap(student + relative) + cosine": lambda: (
        SoftCap(StudentT(3.0) + filled(RelativeBias(reach=2, heads=3)), 1.5) + Cosine()
    ),
    "softcap(dot, scale per head) + alibi": lambda: (
        SoftCap(Dot(), 0.8, scale=torch.tensor([0.2, 1.0, 3.0]).double()[:, None, None])
        + ALiBi(slopes=torch.tensor([0.5, 0.1, 2.0]))
    ),
}
MORE_NORMALIZATIONS = {
    "alpha per head": NormalizationCase("softmax", lambda: Softmax(torch.full((1, 1), 0.4).double()), alpha=0.4),
    "hybrid": NormalizationCase("hybrid", lambda: Hybrid(1, share=0.3).double()),
    "sink": NormalizationCase("sink", lambda: SoftmaxWithSink(torch.nn.Parameter(torch.tensor(0.3).double()))),
    "scalable": NormalizationCase("scalable", lambda: ScalableSoftmax(torch.nn.Parameter(torch.tensor(0.7).double()))),
    "entmax": NormalizationCase("entmax", Entmax),
    "entmax=1.2": NormalizationCase("entmax=1.2", lambda: Entmax(1.2)),
    "sparsemax": NormalizationCase("sparsemax", Sparsemax),
    "topk": NormalizationCase("topk", lambda: TopK(3)),
    "sigmoid": NormalizationCase("sigmoid", lambda: Sigmoid(-2.0)),
}

# A function that makes each of them.
EVERY_SIMILARITY = {name: case.make for name, case in (SIMILARITIES | MORE_SIMILARITIES | POSITIONAL).items()} | SUMS
EVERY_NORMALIZATION = {name: case.make for name, case in (NORMALIZATIONS | MORE_NORMALIZATIONS).items()}
