"""Binding by alignment: features of one object turn to one direction if a layer adds only what points the same way.

Löwe, Locatello & Welling (2402.05627) explain the χ-binding of rotating features (2306.00600) by cosine binding, which
weighs each input of a layer by how well it is aligned with a first output, as attention weighs keys by a query. They
report that both separate objects equally well, and that comparing each input with each output costs much memory
and time.

Here an autoencoder sees pictures of a square and a triangle that may cross, and nothing else. The directions of the
pixels that it returns are clustered, and the clusters are compared with the two objects. Three statements are exact: if
the aligned *lengths* are summed, cosine binding is χ-binding; if the aligned *vectors* are summed, it is another
mechanism, and neither needs an alignment for each pair; and both are differences of two attentions of this library.

The experiment is much smaller than the paper's: two objects in place of four or more, images of 12×12 pixels in place of
32×32, fully connected layers in place of convolutions, and less than one in fifty of the steps. Only the abstract of
2402.05627 could be consulted, so its cosine binding is written here from its description: weights times ½(1 + cos).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from limelight import figures
from limelight.attention import Attention
from limelight.data.shapes import CROSSING, SIDE, every_scene
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.rotating_features import (
    Binding,
    RotatingAutoencoder,
    alignments,
    chi_binding,
    cosine_binding,
    length,
    matrix_of,
    no_binding,
)
from limelight.models.training import descend
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.similarity import Bias, Cosine, Similarity

KINDS, WIDTHS, DIMENSIONS = ("square", "up"), (64, 16, 64), 2
BATCH, STEPS, TEST = 64, 1500, 100
SETTLING = 100  # batches from which an untrained network takes the means and variances of its normalizations
EVERY = 10  # steps between two points of a curve
SHORT = 0.1  # a pixel's vector that is shorter has no direction that counts, as in the papers
SHOWN = 6  # pictures that are kept to be drawn
IN_A_ROW = 4  # pictures that are drawn
SEPARATED = 0.7  # the adjusted Rand index that counts as separated
ROUNDING = 1e-12
CHI, COSINE, NONE, UNTRAINED = "χ-binding", "cosine binding", "no binding", "untrained"

BINDINGS: dict[str, Binding] = {CHI: chi_binding, COSINE: cosine_binding, NONE: no_binding, UNTRAINED: chi_binding}


class BindingByAlignment(TunedClaim):
    """The claim that weighing inputs by their alignment with the output lets directions tell objects apart."""

    name = "binding_by_alignment"
    title = (
        "Objects are told apart by direction if a layer weighs its inputs by how well they are aligned with its output"
    )
    question = (
        "Each feature is a vector, whose length says what is there and whose direction may say which object it belongs "
        "to. Does an autoencoder that is never told of objects give one direction to each object? Does it need a binding "
        "for that, in which inputs that point elsewhere count less? And is the χ-binding of rotating features the same as "
        "attention by cosine?"
    )
    source = (
        "Löwe, Locatello & Welling 2024, Binding dynamics in rotating features, 2402.05627; Löwe, Lippe, Locatello & "
        "Welling 2023, Rotating features for object discovery, 2306.00600"
    )
    arms = {
        CHI: "length ½‖ψ‖ + ½ Σ_j w_ij ‖z_j‖",
        COSINE: "length ‖Σ_j w_ij ½(1 + cos(z_j, ψ_i)) z_j‖, and the direction of that sum",
        NONE: "length ‖ψ‖ with ψ = Σ_j w_ij z_j: inputs of all directions are added",
        UNTRAINED: "χ-binding with random weights: the control",
    }
    control = UNTRAINED
    rates = (0.01, 0.03)
    score = "separation"
    chosen = {CHI: 0.03, COSINE: 0.01, NONE: 0.03, UNTRAINED: 0.01}
    measures = {
        "separation": Measure(
            "agreement of clusters with objects, without the background", "adjusted Rand index", "higher", failed=0.0,
            summary="median",
        ),
        "positions": Measure(
            "the same for clusters of the object pixels' positions", "adjusted Rand index", "neither", failed=0.0,
            summary="median",
        ),
        "error": Measure(
            "error of the reconstruction of unseen pictures", "of the variance", "lower", failed=1.0, summary="median"
        ),
        "lengths": Measure(
            "largest difference between χ-binding and the sum of aligned lengths", "relative", "neither", failed=1.0,
            summary="exact",
        ),
        "vectors": Measure(
            "largest difference between cosine binding with and without stored alignments", "relative", "neither",
            failed=1.0, summary="exact",
        ),
        "attention": Measure(
            "largest difference between the bindings and differences of attentions", "relative", "neither", failed=1.0,
            summary="exact",
        ),
    }  # fmt: skip

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        images, labels = every_scene(KINDS)
        order = torch.randperm(len(images), generator=generator)
        seen, unseen, objects = images[order[TEST:]], images[order[:TEST]], labels[order[:TEST]]
        model = RotatingAutoencoder(SIDE, WIDTHS, DIMENSIONS, BINDINGS[arm])

        def loss() -> Tensor:
            batch = seen[torch.randint(len(seen), (BATCH,), generator=generator)]
            return F.binary_cross_entropy_with_logits(model(batch)[1], batch)

        losses = [settle(model, loss)] if arm == UNTRAINED else list(descend(model, loss, STEPS, rate))
        model.eval()
        with torch.no_grad():
            features, logits = model(unseen)
        clusters = clusters_of(features, objects)
        error = (logits.sigmoid() - unseen).square().mean() / unseen.var()
        return Measurement(
            values={
                "separation": agreement(clusters, objects),
                "positions": agreement(clusters_of_positions(objects), objects),
                "error": float(error),
                **identities(generator),
            },
            arrays={
                "loss": np.array(losses)[::EVERY],
                "images": unseen[:SHOWN].numpy(),
                "turns": turns(features)[:SHOWN].numpy(),
                "clusters": clusters[:SHOWN].numpy(),
            },
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    f"with χ-binding the directions separate the objects to an adjusted Rand index of {SEPARATED}",
                    results.summary(CHI, "separation"), "at least", SEPARATED, "adjusted Rand index",
                ),
                Part(
                    "and better by 0.3 than the positions of the pixels do",
                    results.difference(CHI, CHI, "separation", less="positions"), "at least", 0.3,
                    "adjusted Rand index",
                ),
                Part(
                    "with cosine binding they separate the objects as well, to 0.1",
                    results.difference(COSINE, CHI, "separation"), "at least", -0.1, "adjusted Rand index",
                ),
                Part(
                    "without binding they do not: the index is at most 0.2",
                    results.summary(NONE, "separation"), "at most", 0.2, "adjusted Rand index",
                ),
                Part(
                    "and yet pictures are reconstructed without binding with at most twice the error",
                    results.ratio(NONE, CHI, "error"), "at most", 2.0, "times",
                ),
                Part(
                    "χ-binding is the sum of lengths weighted by alignment, with its gradients, for linear and convolution layers",
                    results.summary(CHI, "lengths"), "at most", ROUNDING, "relative",
                ),
                Part(
                    "cosine binding is the same, with its gradients, if no alignment is stored",
                    results.summary(CHI, "vectors"), "at most", ROUNDING, "relative",
                ),
                Part(
                    "both are differences of two attentions with queries ψ_i and keys z_j",
                    results.summary(CHI, "attention"), "at most", ROUNDING, "relative",
                ),
            ],
            control=Part(
                f"the directions of an untrained network separate the objects to an index of {SEPARATED}",
                results.summary(UNTRAINED, "separation"), "at least", SEPARATED, "adjusted Rand index",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        found = {arm: number(results.summary(arm, "separation").estimate) for arm in self.arms}
        error = {arm: f"{results.summary(arm, 'error').estimate:.1%}" for arm in (CHI, COSINE, NONE)}
        return (
            f"An autoencoder that is never told of objects gives a square and a triangle directions that agree with the two objects "
            f"to an adjusted Rand index of {found[CHI]} with χ-binding, {found[COSINE]} with cosine binding after as many steps, "
            f"{found[NONE]} without binding and {found[UNTRAINED]} untrained; the positions of the pixels alone give "
            f"{number(results.summary(CHI, 'positions').estimate)}. It reconstructs unseen pictures to {error[CHI]}, {error[COSINE]} and "
            f"{error[NONE]} of their variance. χ-binding is, to rounding, attention by cosine whose values are lengths."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        trained = (CHI, COSINE, NONE)
        losses = {arm: results.stack(arm, "loss") if arm in trained else np.empty((0, 0)) for arm in self.arms}
        return [
            Picture(
                "How well clusters of directions agree with the objects, and the error of the reconstruction. A dot for each seed.",
                *comparison(results, ["separation"]),
                *comparison(results, ["error"], log=True),
            ),
            *(self._pictures_of(results, arm) for arm in trained),
            Picture(
                "Training loss by step: the median over seeds, and the middle half of them.",
                figures.curves(losses, EVERY, "step", "cross-entropy", log=True),
            ),
        ]  # fmt: skip

    def _pictures_of(self, results: Results, arm: str) -> Picture:
        """Some pictures, the directions that an arm gives their pixels, and the clusters of these directions."""
        seed = results.seeds()[0]
        images, turned, clusters = (results.array(arm, name, seed) for name in ("images", "turns", "clusters"))
        return Picture(
            f"With {arm}, unseen pictures of seed {seed}; the direction of each pixel as a color, so that pixels of one color "
            "point the same way; and the clusters that are found among the directions, whose colors have no meaning.",
            *figures.images({"pictures": first(images)}),
            *figures.hues(
                {
                    f"{arm}: directions": first(where_drawn(turned, images)),
                    f"{arm}: clusters": first(where_drawn(shades(clusters), images)),
                }
            ),
        )  # fmt: skip


@torch.no_grad()
def settle(model: nn.Module, loss: Callable[[], Tensor]) -> float:
    """Compute the loss of a few batches, from which normalizations take their means and variances; the last loss."""
    return [loss().item() for _ in range(SETTLING)][-1]


def turns(features: Float[Tensor, "2 batch h w"]) -> Float[Tensor, "batch h w"]:
    """The angle of each pixel's vector as a share of a turn, from 0 to 1."""
    return torch.atan2(features[1], features[0]) / (2 * torch.pi) % 1


def shades(clusters: np.ndarray | None) -> np.ndarray | None:
    """A place on the circle of colors for each of the clusters, and NaN for pixels that were left out."""
    return None if clusters is None else np.where(clusters < 0, np.nan, clusters / (len(KINDS) + 1))


def where_drawn(values: np.ndarray | None, images: np.ndarray | None) -> np.ndarray | None:
    """The values of the pixels of objects, and NaN elsewhere."""
    return None if values is None or images is None else np.where(images > 0, values, np.nan)


def first(pictures: np.ndarray | None) -> np.ndarray | None:
    """The first of these pictures: as many as are well seen side by side."""
    return None if pictures is None else pictures[:IN_A_ROW]


def clusters_of(features: Float[Tensor, "n batch h w"], labels: Int[Tensor, "batch h w"]) -> Int[Tensor, "batch h w"]:
    """k-means of the directions of each picture's pixels, with one cluster for each object and one for the background.

    Short vectors count as zero, and pixels where objects cross are left out, as in the papers; their cluster is −1.
    """
    lengths = length(features)
    points = torch.where(lengths > SHORT, features / lengths, 0.0)
    clusters = torch.full_like(labels, -1)
    for which, picture in enumerate(labels):
        clear = picture != CROSSING
        clusters[which][clear] = k_means(points[:, which, clear].mT, len(KINDS) + 1)
    return clusters


def clusters_of_positions(labels: Int[Tensor, "batch h w"]) -> Int[Tensor, "batch h w"]:
    """k-means of the positions of each picture's object pixels, with one cluster for each object."""
    clusters = torch.full_like(labels, -1)
    for which, picture in enumerate(labels):
        clusters[which][picture > 0] = k_means(torch.nonzero(picture > 0).float(), len(KINDS))
    return clusters


def k_means(points: Float[Tensor, "n d"], clusters: int) -> Int[Tensor, " n"]:
    """The cluster of each point; where fewer points differ than there are clusters, each of these is its own."""
    distinct = len(points.unique(dim=0))
    found = KMeans(min(clusters, distinct), n_init=5, random_state=0).fit_predict(points.numpy())
    return torch.from_numpy(found).long()


def agreement(clusters: Int[Tensor, "batch h w"], labels: Int[Tensor, "batch h w"]) -> float:
    """The adjusted Rand index of clusters and objects over the pixels of one object each, the mean over pictures."""
    found = [
        adjusted_rand_score(picture[picture > 0].numpy(), own[picture > 0].numpy())
        for picture, own in zip(labels, clusters, strict=True)
    ]
    return float(np.mean(found))


class Alignment(Similarity):
    """β = log ½(1 + cos(q, k)), scale 1: a softmax over it weighs keys in proportion to their alignment."""

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        return ((1 + Cosine().dense(q, k)) / 2).log()


def identities(generator: torch.Generator, n: int = 4) -> dict[str, float]:
    """The largest relative differences between forms of χ and cosine binding, for random weights and inputs in float64."""
    layers: tuple[tuple[nn.Module, tuple[int, ...]], ...] = (
        (nn.Linear(12, 7, bias=False), (12,)),
        (nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False), (2, 5, 5)),
        (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, bias=False), (2, 3, 3)),
    )
    found = [compared(layer.double(), torch.randn(n, 3, *shape, generator=generator, dtype=torch.float64))
             for layer, shape in layers]  # fmt: skip
    return {name: max(each[name] for each in found) for name in found[0]}


def compared(layer: nn.Module, z: Float[Tensor, "n batch *inputs"]) -> dict[str, float]:
    """For one layer: χ-binding and cosine binding against their sums with stored alignments, and as attentions."""
    with torch.no_grad():
        sums = [chi_binding(layer, z)[1].flatten(1), cosine_binding(layer, z)[0].flatten(2)]
        as_attention = gap(attended(layer, z), sums)
    z.requires_grad_()
    of = (z, *layer.parameters())

    def with_gradients(binding: Callable[[], Tensor]) -> list[Tensor]:
        out = binding()
        return [out.detach(), *torch.autograd.grad(out.square().sum(), of)]

    return {
        "lengths": gap(
            with_gradients(lambda: chi_binding(layer, z)[1].flatten(1)), with_gradients(lambda: stored(layer, z)[0])
        ),
        "vectors": gap(
            with_gradients(lambda: cosine_binding(layer, z)[0].flatten(2)), with_gradients(lambda: stored(layer, z)[1])
        ),
        "attention": as_attention,
    }


def stored(layer: nn.Module, z: Float[Tensor, "n batch *inputs"]) -> tuple[Tensor, Tensor]:
    """(Σ_j w_ij a_ij ‖z_j‖, Σ_j w_ij a_ij z_j), each with a_ij for every pair of an output and an input."""
    matrix, flat = matrix_of(layer, z.shape[2:], z.dtype), z.flatten(2)
    weights = matrix * alignments(matrix, flat)
    return torch.einsum("bij,bj->bi", weights, length(flat)), torch.einsum("bij,nbj->nbi", weights, flat)


def attended(layer: nn.Module, z: Float[Tensor, "n batch *inputs"]) -> list[Tensor]:
    """The same two sums: e^L₊ P₊v − e^L₋ P₋v of one attention over positive weights and one over negative ones.

    Queries are ψ_i and keys z_j, a pair's score is log |w_ij| + log a_ij, and L is the logarithm of a row's sum. The
    values v are the lengths of the inputs, or the inputs.
    """
    matrix, keys = matrix_of(layer, z.shape[2:], z.dtype), z.flatten(2).permute(1, 2, 0)
    values = torch.cat([keys.norm(dim=-1, keepdim=True), keys], -1)
    size = Bias(matrix.abs().clamp(min=torch.finfo(z.dtype).tiny).log())
    summed = torch.zeros(())
    for sign in (1, -1):
        attention = Attention(matrix @ keys, keys, Alignment() + size, mask=sign * matrix > 0)
        out, lse = attention.apply_with_logsumexp(values)
        summed = summed + sign * lse.exp()[..., None] * out
    return [summed[..., 0], summed[..., 1:].permute(2, 0, 1)]


def gap(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest difference, relative to the largest entry of the tensor in which it is."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True))
