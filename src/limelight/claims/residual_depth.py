"""Residual connections: what they keep of the input and of the gradient in networks of up to 64 layers.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) says that "residual connections help with knowledge
preservation (information lost while passing through layers of a neural net) and vanishing gradient problem". Networks
of 2 to 64 layers learn the digits here. Before they learn, the gradient of their first layer is compared with that of
their last, and the image is read back from their last features by a linear map. Then they are trained.

Two things other than a residual connection may do the same: weights that start with the right size (He et al. 2015,
1502.01852), and layer norm. They are arms of their own, so that the residual connection gets the credit that it is due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limelight import figures
from limelight.data import digits
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.deep_network import DeepNetwork, Residual, he_layer, normalized_layer, plain_layer
from limelight.models.training import batch_loss, descend
from limelight.report.comparison import comparison
from limelight.report.effect_text import number

DEPTHS = (2, 4, 8, 16, 32, 64)
TRAINED = (4, 16, 64)  # the depths that are trained too
DEEPEST = DEPTHS[-1]
WIDTH, BATCH, STEPS = 64, 64, 150
TRAIN, TEST = 1200, 500
RIDGE = 1e-3  # of the number of images, for standardized features
PLAIN, HE, NORM = "plain", "plain, He's start", "layer norm"
RESIDUAL, RESIDUAL_NORM = "residual", "residual, layer norm"

LAYERS: dict[str, Callable[[int], nn.Module]] = {
    RESIDUAL: lambda width: Residual(plain_layer(width)),
    RESIDUAL_NORM: lambda width: Residual(normalized_layer(width)),
    NORM: normalized_layer,
    HE: he_layer,
    PLAIN: plain_layer,
}


class ResidualDepth(TunedClaim):
    """The claim that residual connections keep the input and the gradient alive in deep networks."""

    name = "residual_depth"
    title = "Residual connections keep the input and the gradient in deep networks, and nothing else does"
    question = (
        "A network of 64 layers is given an image. How much of the image can still be read from its last features, how "
        "large is the gradient of its first layer, and does it learn? With residual connections and without, and where "
        "instead the weights start with the right size or each layer is normalized?"
    )
    source = "daulet, Neural Net Intuition (GitHub repository daulet/nn-intuition; year not known), Residual"
    arms = {
        RESIDUAL: "h ← h + W relu(h) + b",
        RESIDUAL_NORM: "h ← h + W relu(norm(h)) + b",
        NORM: "h ← W relu(norm(h)) + b, without a residual connection",
        HE: "h ← W relu(h) + b, with weights whose size keeps that of the signal",
        PLAIN: "h ← W relu(h) + b, with torch's weights: the control",
    }
    control = PLAIN
    rates = (0.0003, 0.001, 0.003)
    score = "accuracy"
    chosen = {RESIDUAL: 0.001, RESIDUAL_NORM: 0.001, NORM: 0.001, HE: 0.001, PLAIN: 0.003}
    measures = {
        "accuracy": Measure(
            f"accuracy on unseen digits, mean over networks of {', '.join(map(str, TRAINED))} layers", "share", "higher",
            failed=0.0, summary="median",
        ),
        **{
            f"accuracy {depth}": Measure(
                f"accuracy on unseen digits, {depth} layers", "share", "higher", failed=0.0, summary="median"
            )
            for depth in TRAINED
        },
        "gradient": Measure(
            f"gradient of the first of {DEEPEST} layers before training", "times that of the last", "neither", failed=0.0,
            summary="median",
        ),
        "kept": Measure(
            f"the image, read linearly from the last of {DEEPEST} layers before training", "R²", "higher", failed=0.0,
            summary="median",
        ),
        "kept after": Measure(
            f"the image, read linearly from the last of {DEEPEST} layers after training", "R²", "higher", failed=0.0,
            summary="median",
        ),
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"digits": digits.fingerprint()}

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        (images, labels), (unseen, truth) = standardized(*digits.split(TRAIN, TEST, generator))
        models = {depth: DeepNetwork(images.shape[1], WIDTH, 10, depth, LAYERS[arm]) for depth in DEPTHS}
        gradients = [gradient_ratio(model, images, labels) for model in models.values()]
        kept = [recovered(model, images, unseen) for model in models.values()]
        accuracy = {depth: learned(models[depth], images, labels, unseen, truth, rate, generator) for depth in TRAINED}
        return Measurement(
            values={
                "accuracy": float(np.mean(list(accuracy.values()))),
                **{f"accuracy {depth}": value for depth, value in accuracy.items()},
                "gradient": gradients[-1],
                "kept": kept[-1],
                "kept after": recovered(models[DEEPEST], images, unseen),
            },
            arrays={
                "gradients": np.array(gradients), "kept": np.array(kept), "accuracy": np.array(list(accuracy.values())),
            },
        )  # fmt: skip

    def judge(self, results: Results) -> Verdict:
        others = (HE, NORM)
        return Verdict.of(
            [
                Part(
                    f"in a plain network of {DEEPEST} layers the gradient vanishes: the first layer's is a millionth of the last's",
                    results.summary(PLAIN, "gradient"), "at most", 1e-6, "times",
                ),
                Part(
                    "with residual connections it does not: the first layer's is at least a tenth of the last's",
                    results.summary(RESIDUAL, "gradient"), "at least", 0.1, "times",
                ),
                Part(
                    f"after {DEEPEST} layers at least half of the image's variance can be read from the features",
                    results.summary(RESIDUAL, "kept"), "at least", 0.5, "R²",
                ),
                Part(
                    f"a network of {DEEPEST} layers learns to name at least 90 % of unseen digits",
                    results.summary(RESIDUAL, f"accuracy {DEEPEST}"), "at least", 0.9, "share",
                ),
                *(
                    Part(
                        f"{name} does not keep the gradient: the first layer's is less than a tenth of the last's",
                        results.summary(name, "gradient"), "at most", 0.1, "times",
                    )
                    for name in others
                ),
                *(
                    Part(
                        f"a residual connection keeps at least 0.2 more of the image's variance than {name}",
                        results.difference(RESIDUAL, name, "kept"), "at least", 0.2, "R²",
                    )
                    for name in others
                ),
                *(
                    Part(
                        f"with {DEEPEST} layers it is at least five points more accurate than {name}",
                        results.difference(RESIDUAL, name, f"accuracy {DEEPEST}"), "at least", 0.05, "share",
                    )
                    for name in others
                ),
            ],
            control=Part(
                f"a plain network of {DEEPEST} layers learns to name at least 90 % of unseen digits",
                results.summary(PLAIN, f"accuracy {DEEPEST}"), "at least", 0.9, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def each(measure: str, text: Callable[[float], str]) -> str:
            return ", ".join(text(results.summary(arm, measure).estimate) for arm in (RESIDUAL, NORM, HE, PLAIN))

        return (
            f"In networks of {DEEPEST} layers with residual connections, with layer norm instead, with He's start instead and "
            f"with neither, the gradient of the first layer is {each('gradient', number)} times that of the last, "
            f"{each('kept', lambda x: f'{x:.0%}')} of the image's variance can be read from the last features before training, "
            f"and the networks learn to name {each(f'accuracy {DEEPEST}', lambda x: f'{x:.0%}')} of unseen digits "
            "(medians over runs)."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        drawn = [
            figures.curves(
                {arm: results.stack(arm, name) for arm in self.arms}, at, "layers", label, log=log, log_x=True
            )
            for name, at, label, log in (
                ("accuracy", TRAINED, "accuracy after training", False),
                ("kept", DEPTHS, "R² of the image, read from the last features", False),
                ("gradients", DEPTHS, "gradient of the first layer / of the last", True),
            )
        ]
        return [
            Picture(
                "By the number of layers, the median over seeds and the middle half: accuracy on unseen digits after training.",
                drawn[0],
            ),
            Picture(
                "Before training: how much of the image can be read from the last features, and the gradient of the first layer "
                "as a multiple of that of the last. At 1 the gradient neither vanishes nor explodes.",
                *drawn[1:],
            ),
            Picture(
                f"Networks of {DEEPEST} layers: a dot for each seed, and the median with its interval.",
                *comparison(results, [f"accuracy {DEEPEST}", "kept", "kept after"]),
                *comparison(results, ["gradient"], log=True),
            ),
        ]


def standardized(
    known: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images flattened, minus the mean of the known ones and divided by their standard deviation over all pixels."""
    flat, unseen = known[0].flatten(1), others[0].flatten(1)
    center, spread = flat.mean(0), flat.std()
    return ((flat - center) / spread, known[1]), ((unseen - center) / spread, others[1])


def gradient_ratio(model: DeepNetwork, images: Tensor, labels: Tensor) -> float:
    """The norm of the loss's gradient by the weights of the first layer, divided by that of the last layer."""
    weights = [_linear(model.layers[at]).weight for at in (0, -1)]
    first, last = torch.autograd.grad(F.cross_entropy(model(images[:BATCH]), labels[:BATCH]), weights)
    return float(first.double().norm() / last.double().norm())  # in single precision the squares would vanish


def _linear(layer: nn.Module) -> nn.Linear:
    return next(part for part in layer.modules() if isinstance(part, nn.Linear))


@torch.no_grad()
def recovered(model: DeepNetwork, images: Tensor, unseen: Tensor) -> float:
    """R² on unseen images of the best linear map from the last features to the pixels, but at least 0.

    Features are in single precision, as the network computes them, and standardized, so that their size does not
    matter. A small ridge keeps the map from reading what is lost in rounding.
    """
    features, tested = model.features(images).double(), model.features(unseen).double()
    center, spread = features.mean(0), features.std(0)
    known, asked = ((part - center) / torch.where(spread > 0, spread, 1.0) for part in (features, tested))
    ridge = RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
    target = images.double() - images.double().mean(0)
    read = torch.linalg.solve(known.T @ known + ridge, known.T @ target)
    truth = unseen.double() - images.double().mean(0)
    rest = (truth - asked @ read).square().sum() / truth.square().sum()
    return max(1 - float(rest), 0.0)


def learned(
    model: DeepNetwork,
    images: Tensor,
    labels: Tensor,
    unseen: Tensor,
    truth: Tensor,
    rate: float,
    generator: torch.Generator,
) -> float:
    """The accuracy on unseen images of the model after it has been trained."""
    for _ in descend(model, batch_loss(model, images, labels, BATCH, generator), STEPS, rate):
        pass
    with torch.no_grad():
        return float((model(unseen).argmax(-1) == truth).float().mean())
