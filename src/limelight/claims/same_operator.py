"""Same operator: attention equals diffusion maps, kernel regression and mean shift, each under one hypothesis.

Ruan & Zhang (2412.18288) write classical methods as attention. Here `Attention` is compared with the published
equation of each method, computed densely in float64, and must agree to rounding. Beside each stands the same comparison
with the hypothesis violated that the equality needs. Two identities are also compared in the form in which the paper
prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.normalization import Sinkhorn, Softmax, TopK
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.similarity import Bilinear, Dot, Euclidean, Similarity

POINTS, WIDTH, BANDWIDTH = 128, 3, 0.8
NEAR, CENTERS = 5, 6  # the number of neighbors of a point; of centers, and of points with known labels
SHIFTS = 5  # the number of steps of blurring mean shift, and of label propagation
TOLERANCE = 1e-12  # the largest error of Sinkhorn's column sums
ROUNDING = 1e-12  # some 4500 units of rounding in float64: sums have 128 terms, each with a few rounding errors
CONVERGED = (
    100 * TOLERANCE
)  # what is left of a tolerance, where each pair of steps saves at least one part in a hundred
DIFFERENT = 1e-2
SHOWN = 24  # the number of points that are drawn

DIFFUSION, ASYMMETRIC = "diffusion maps", "diffusion maps, asymmetric"
SINKHORN, ONE_SOFTMAX = "Sinkhorn, dot and Euclidean", "softmax, dot and Euclidean"
REGRESSION, ANY_NORMS = "regression, equal norms", "regression, any norms"
BLURRING, BLURRED_BY_DOT = "mean shift", "mean shift by dot product"
NEIGHBORS, NEIGHBORS_BY_DOT = "k nearest neighbors", "k nearest neighbors by dot product"
LLOYD, LLOYD_TIED = "k-means, no ties", "k-means, ties"
PROPAGATION, PROPAGATION_ALPHA = "label propagation", "label propagation, normalized twice"
NEAREST, NEAREST_PRINTED = "nearest point, corrected", "nearest point, as printed"
SPHERE, PRINTED = "sphere, corrected", "sphere, as printed"
EQUALITIES = (DIFFUSION, SINKHORN, REGRESSION, BLURRING, NEIGHBORS, LLOYD, PROPAGATION, NEAREST, SPHERE)

Both = tuple[Tensor, Tensor]  # the result of attention, and the result of the other method


class SameOperator(Claim):
    """The claim of nine equalities, each of which fails once its hypothesis is violated."""

    name = "same_operator"
    title = (
        "Attention is diffusion maps, kernel regression and mean shift: equal to rounding, and only under a hypothesis"
    )
    question = (
        "A theorem says that two methods are the same operator. Is it so to rounding, on the operator that is never "
        "stored? And is the hypothesis of each theorem needed: a symmetric kernel, a Sinkhorn iteration run to its end, "
        "keys of equal norm, a distance rather than a dot product? If the equality survived without it, the comparison "
        "could not tell."
    )
    source = (
        "Ruan & Zhang 2024 (2412.18288); Coifman & Lafon 2006; Ding et al. 2020 (2009.14308); Sander et al. 2022 "
        "(2110.11773); Nadaraya 1964; Carreira-Perpiñán 2006; Fix & Hodges 1951; Lloyd 1982; Zhu & Ghahramani 2002"
    )
    arms = {
        DIFFUSION: "doubly-normalized attention with a Gaussian, and diffusion maps at α = 1",
        ASYMMETRIC: "the same with the similarity qᵀWk, which is not symmetric",
        SINKHORN: "Sinkhorn of the dot product and of −½ distance²: key and query norms cancel",
        ONE_SOFTMAX: "the same with one softmax: only query norms cancel",
        REGRESSION: "softmax of the dot product with unit keys, and Gaussian kernel regression",
        ANY_NORMS: "the same with keys of any length",
        BLURRING: "Euclidean attention on its own queries, five times, and Gaussian blurring mean shift",
        BLURRED_BY_DOT: "the same with the dot product in place of the distance",
        NEIGHBORS: "Euclidean attention to the five strongest keys at a high temperature, and the mean of the five nearest",
        NEIGHBORS_BY_DOT: "the same with the dot product in place of the distance",
        LLOYD: "points attend to their nearest center, centers move by the transpose; and Lloyd's step of k-means",
        LLOYD_TIED: "the same on a grid of whole numbers, where points are as near to two centers and both share them",
        PROPAGATION: "F ← P F with Euclidean attention, rows divided by their sums, labels put back; and label propagation",
        PROPAGATION_ALPHA: "the same with α = 1",
        NEAREST: "on the sphere f = −xᵀQᵀKy is least at y = KᵀQx/|KᵀQx|: the strongest key of each query",
        NEAREST_PRINTED: "the same at −KᵀQx/|KᵀQx|, as 2412.18288 prints it in its example 3",
        SPHERE: "−⟨x, y⟩ = −1 + ½|x − y|² on the unit sphere: weights and log-normalizer",
        PRINTED: "−⟨x, y⟩ = −2 + |x − y|², as 2412.18288 prints it: the control",
    }
    control = PRINTED
    measures = {"gap": Measure("largest difference", "of the largest entry", "neither", failed=1e3, summary="exact")}

    def measure(self, arm: str, seed: int) -> Measurement:
        ours, theirs = COMPARISONS[arm](torch.Generator().manual_seed(seed))
        gap = float((ours - theirs).abs().max() / theirs.abs().max())
        return Measurement({"gap": gap})

    def judge(self, results: Results) -> Verdict:
        def equal(arm: str, budget: float, says: str) -> Part:
            return Part(says, results.summary(arm, "gap"), "at most", budget, "of the largest entry")

        def different(arm: str, says: str) -> Part:
            return Part(says, results.summary(arm, "gap"), "at least", DIFFERENT, "of the largest entry")

        return Verdict.of(
            [
                equal(
                    DIFFUSION,
                    ROUNDING,
                    "doubly-normalized attention with a symmetric kernel is diffusion maps at α = 1",
                ),
                different(ASYMMETRIC, "with an asymmetric similarity it is not"),
                equal(SINKHORN, CONVERGED, "Sinkhorn of the dot product is Sinkhorn of the Euclidean similarity"),
                different(ONE_SOFTMAX, "one softmax of the two differs"),
                equal(
                    REGRESSION, ROUNDING, "softmax attention is Gaussian kernel regression where key norms are equal"
                ),
                different(ANY_NORMS, "where they are not it is not"),
                equal(BLURRING, ROUNDING, "Euclidean attention with V = X, repeated, is blurring mean shift"),
                different(BLURRED_BY_DOT, "with the dot product it is not"),
                equal(NEIGHBORS, ROUNDING, "attention to the k strongest keys, as h → ∞, is k nearest neighbors"),
                different(NEIGHBORS_BY_DOT, "with the dot product it is not"),
                equal(LLOYD, ROUNDING, "attention to the nearest center, and its transpose, is a step of k-means"),
                different(LLOYD_TIED, "where points are as near to two centers it is not"),
                equal(PROPAGATION, ROUNDING, "attention repeated, known labels put back, is label propagation"),
                different(PROPAGATION_ALPHA, "normalized twice it is not"),
                equal(NEAREST, ROUNDING, "a transformer's pseudo-metric on the sphere is least at KᵀQx/|KᵀQx|"),
                different(NEAREST_PRINTED, "at the opposite point, as printed, it is not"),
                equal(SPHERE, ROUNDING, "on the unit sphere −⟨x, y⟩ = −1 + ½|x − y|²"),
            ],
            control=equal(PRINTED, ROUNDING, "on the unit sphere −⟨x, y⟩ = −2 + |x − y|², as printed"),
        )

    def finding(self, results: Results) -> str:
        largest = max(results.summary(arm, "gap").high for arm in EQUALITIES)
        violated = [arm for arm in self.arms if arm not in EQUALITIES]
        least = min(results.summary(arm, "gap").low for arm in violated)
        return (
            f"{len(EQUALITIES)} equalities of attention with other methods, such as diffusion maps, kernel regression, mean shift, "
            f"k nearest neighbors, k-means and label propagation, hold to {number(largest)} in every run, and each breaks by at "
            f"least {number(least)} once its hypothesis is violated."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        rows = {arm: differences(arm, seed) for arm in (DIFFUSION, ASYMMETRIC, REGRESSION, ANY_NORMS)}
        return [
            Picture(
                "The largest difference between attention and what it ought to equal, a dot for each seed: at rounding "
                f"under the hypothesis of each theorem, and far above it where that is violated. The budget is {ROUNDING:g}.",
                *comparison(results, ["gap"], log=True),
            ),
            Picture(
                f"Where they differ, for the first {SHOWN} points of seed {seed}: |P − P'| by query and key, in decades. "
                "Under the hypothesis nothing is above rounding.",
                *figures.matrices(rows, "key", "query", "decades above 1e-17"),
            ),
        ]


def cloud(generator: torch.Generator) -> Float[Tensor, "n d"]:
    """Gaussian points in float64."""
    return torch.randn(POINTS, WIDTH, generator=generator, dtype=torch.float64)


def unit(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return x / x.norm(dim=-1, keepdim=True)


def matrix(attention: Attention) -> Float[Tensor, "n m"]:
    """The matrix P, computed by applying the operator to each basis vector."""
    return attention @ torch.eye(attention.shape[-1], dtype=torch.float64)


def diffusion(x: Float[Tensor, "n d"], similarity: Similarity, scores: Float[Tensor, "n n"]) -> Both:
    """Doubly-normalized attention, and K(x, y)/(q(x) q(y)) divided by its row sums, with q(x) = Σ_y K(x, y)."""
    kernel = scores.exp()
    density = kernel.sum(1)
    corrected = kernel / (density[:, None] * density[None, :])
    return matrix(Attention(x, x, similarity, Softmax(alpha=1.0))), corrected / corrected.sum(1, keepdim=True)


def symmetric_diffusion(generator: torch.Generator) -> Both:
    x = cloud(generator)
    return diffusion(x, Euclidean(BANDWIDTH), gaussian(x, x).log())


def asymmetric_diffusion(generator: torch.Generator) -> Both:
    x, similarity = cloud(generator), Bilinear(WIDTH).double().requires_grad_(False)
    similarity.weight.copy_(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64))
    return diffusion(x, similarity, x @ similarity.weight @ x.mT / WIDTH**0.5)


def dot_and_euclidean(normalization: Sinkhorn | Softmax) -> Callable[[torch.Generator], Both]:
    """The matrices of the dot product and of the Euclidean similarity, with the same scale and normalization."""

    def compare(generator: torch.Generator) -> Both:
        q, k = cloud(generator), cloud(generator)
        dot, euclidean = (Attention(q, k, beta, normalization, scale=0.5) for beta in (Dot(), Euclidean()))
        return matrix(dot), matrix(euclidean)

    return compare


def regression(equal_norms: bool) -> Callable[[torch.Generator], Both]:
    """Nadaraya and Watson's Σ_j K_h(q − k_j) y_j / Σ_j K_h(q − k_j) for each basis vector y, and softmax(⟨q, k⟩/h²)."""

    def compare(generator: torch.Generator) -> Both:
        q, k = cloud(generator), cloud(generator)
        k = unit(k) if equal_norms else k
        kernel = gaussian(q, k)
        return matrix(Attention(q, k, Dot(), scale=BANDWIDTH**-2)), kernel / kernel.sum(1, keepdim=True)

    return compare


def mean_shift(similarity: Similarity) -> Callable[[torch.Generator], Both]:
    """x_i ← Σ_j K_h(x_i − x_j) x_j / Σ_j K_h(x_i − x_j) for all points at once, and attention with V = X."""

    def compare(generator: torch.Generator) -> Both:
        ours = theirs = cloud(generator)
        for _ in range(SHIFTS):
            ours = Attention(ours, ours, similarity, scale=BANDWIDTH**-2) @ ours
            kernel = gaussian(theirs, theirs)
            theirs = (kernel @ theirs) / kernel.sum(1, keepdim=True)
        return ours, theirs

    return compare


def neighbors(similarity: Similarity) -> Callable[[torch.Generator], Both]:
    """The mean of the values of the `NEAR` nearest keys, with basis vectors as values, and attention to these keys."""

    def compare(generator: torch.Generator) -> Both:
        q, k = cloud(generator), cloud(generator)
        ours = matrix(
            Attention(q, k, similarity, TopK(NEAR), scale=1e-15)
        )  # h → ∞ makes their scores equal, up to rounding
        nearest = squares(q, k).argsort(1)[:, :NEAR]
        return ours, torch.zeros_like(ours).scatter(1, nearest, 1 / NEAR)

    return compare


def lloyd(tied: bool) -> Callable[[torch.Generator], Both]:
    """Σ_i u_ik x_i / Σ_i u_ik with attention u to the nearest center, and the mean of the points nearest to each."""

    def compare(generator: torch.Generator) -> Both:
        x = cloud(generator)
        if tied:
            x = x.round()
        centers = torch.unique(x, dim=0)[:CENTERS] if tied else x[:CENTERS]
        u = Attention(x, centers, Euclidean(), TopK(1)).T
        ours = (u @ x) / (u @ torch.ones_like(x[:, :1]))
        nearest = torch.nn.functional.one_hot(squares(x, centers).argmin(1), CENTERS).double()
        return ours, (nearest.mT @ x) / nearest.sum(0)[:, None]

    return compare


def propagation(alpha: float) -> Callable[[torch.Generator], Both]:
    """F ← P F with rows divided by their sums and the known labels of the first points restored in each step.

    Source: Zhu & Ghahramani 2002.
    """

    def compare(generator: torch.Generator) -> Both:
        x = cloud(generator)
        labels = torch.eye(CENTERS, dtype=torch.float64)
        ours = theirs = torch.cat([labels, torch.zeros(POINTS - CENTERS, CENTERS, dtype=torch.float64)])
        A, kernel = Attention(x, x, Euclidean(BANDWIDTH), Softmax(alpha)), gaussian(x, x)
        for _ in range(SHIFTS):
            ours, theirs = A @ ours, kernel / kernel.sum(1, keepdim=True) @ theirs
            ours, theirs = (torch.cat([labels, (F / F.sum(1, keepdim=True))[CENTERS:]]) for F in (ours, theirs))
        return ours, theirs

    return compare


def on_the_sphere(constant: float, factor: float) -> Callable[[torch.Generator], Both]:
    """The weights and log-normalizers of the score ⟨x, y⟩, and those of the score constant − factor·|x − y|²."""

    def compare(generator: torch.Generator) -> Both:
        x, y = unit(cloud(generator)), unit(cloud(generator))
        dot, distance = Attention(x, y, Dot(), scale=1.0), Attention(x, y, Euclidean(), scale=2 * factor)
        ours = torch.cat([matrix(dot), dot.logsumexp()[:, None]], 1)
        return ours, torch.cat([matrix(distance), distance.logsumexp()[:, None] + constant], 1)

    return compare


def nearest_point(sign: float) -> Callable[[torch.Generator], Both]:
    """The index of each query's strongest key, and the index that is predicted for it.

    The keys are points of the sphere, and the predicted minimizers of all queries.
    """

    def compare(generator: torch.Generator) -> Both:
        x, others = unit(cloud(generator)), unit(cloud(generator))
        similarity = Bilinear(WIDTH).double().requires_grad_(False)
        similarity.weight.copy_(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64))  # QᵀK
        predicted = sign * unit(x @ similarity.weight)
        strongest = Attention(x, torch.cat([others, predicted]), similarity).topk(1).keys[:, 0]
        return strongest.double(), torch.arange(POINTS, 2 * POINTS).double()

    return compare


def gaussian(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """The matrix exp(−|x − y|²/2h²)."""
    return (-squares(x, y) / (2 * BANDWIDTH**2)).exp()


def squares(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """The matrix of squared distances |x − y|²."""
    return (x[:, None] - y[None]).square().sum(-1)


COMPARISONS: dict[str, Callable[[torch.Generator], Both]] = {
    DIFFUSION: symmetric_diffusion,
    ASYMMETRIC: asymmetric_diffusion,
    SINKHORN: dot_and_euclidean(Sinkhorn(tolerance=TOLERANCE)),
    ONE_SOFTMAX: dot_and_euclidean(Softmax()),
    REGRESSION: regression(equal_norms=True),
    ANY_NORMS: regression(equal_norms=False),
    BLURRING: mean_shift(Euclidean()),
    BLURRED_BY_DOT: mean_shift(Dot()),
    NEIGHBORS: neighbors(Euclidean()),
    NEIGHBORS_BY_DOT: neighbors(Dot()),
    LLOYD: lloyd(tied=False),
    LLOYD_TIED: lloyd(tied=True),
    PROPAGATION: propagation(alpha=0.0),
    PROPAGATION_ALPHA: propagation(alpha=1.0),
    NEAREST: nearest_point(+1.0),
    NEAREST_PRINTED: nearest_point(-1.0),
    SPHERE: on_the_sphere(constant=1.0, factor=0.5),
    PRINTED: on_the_sphere(constant=2.0, factor=1.0),
}


def differences(arm: str, seed: int) -> np.ndarray:
    """|P − P'| of the first points in decades above 1e-17, for the picture."""
    ours, theirs = COMPARISONS[arm](torch.Generator().manual_seed(seed))
    decades: np.ndarray = ((ours - theirs)[:SHOWN, :SHOWN].abs() / 1e-17 + 1).log10().numpy()
    return decades
