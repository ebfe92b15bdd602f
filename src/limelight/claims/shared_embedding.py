"""A shared embedding: a picture and the words that describe it meet at one place, also in combinations never seen.

daulet's "Neural Net Intuition" (nn-intuition on GitHub) calls an embedding an "intermediate representation across
different modalities", such as "between image and its text description". Here two networks, one that sees scenes of two
handwritten digits and one that reads descriptions of three words, are trained on pairs alone to put both at the same
place (Radford et al., 2103.00020). Then a description has to be found for an image, and an image for a description,
among all 180 scenes, with digits that another person wrote and with two digits that never stood together in training.

A network that names one of the seen scenes can never name an unseen one. So the baseline is one with three classifiers:
it is told that a scene has a first digit, a second one and a layout, which the two towers have to find out from words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from plotly.graph_objects import Figure
from torch import Tensor, nn

from limelight import figures
from limelight.data.described_digits import (
    DIGITS,
    SIDE,
    WORDS,
    all_scenes,
    describe,
    draw_scenes,
    sentence,
    split_scenes,
)
from limelight.data.digits import fingerprint, split
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.models.contrastive import TwoTowers, contrastive_loss, recall
from limelight.models.mlp import mlp
from limelight.models.positions import LearnedPositions
from limelight.models.sequence_classifier import SequenceClassifier
from limelight.models.training import descend
from limelight.models.transformer import EncoderLayer
from limelight.report.comparison import comparison

TRAIN, TEST = 1200, 597  # handwritten digits
HELD_OUT = 9  # of 45 pairs of digits
BATCH, STEPS = 72, 500  # a batch has each scene at most once
GALLERIES = 5  # times that all scenes are drawn and described for the test
WIDTH, HIDDEN = 32, 256  # of the shared space, and of the hidden layers of what sees images
EVERY = 10  # steps between two points of a curve
SHOWN, CELLS = 8, 12  # scenes in the pictures: those drawn, and those of the matrix
TOWERS, NO_ORDER, WARM = "two towers", "no word order", "temperature 1"
CLASSIFIERS, SHUFFLED = "three classifiers", "shuffled pairs"


class Model(nn.Module):
    """What scores images (n, 16, 16) against scenes (m, 3), whose descriptions it may read, as (n, m)."""

    def scores(self, images: Tensor, scenes: Int[Tensor, "m 3"], texts: Int[Tensor, "m words"]) -> Float[Tensor, "n m"]:
        raise NotImplementedError

    def loss(self, images: Tensor, scenes: Int[Tensor, "n 3"], texts: Int[Tensor, "n words"]) -> Float[Tensor, ""]:
        """The loss of images, each of which shows the scene and has the description of the same place."""
        raise NotImplementedError


class Towers(Model):
    """An image tower and a text tower, which know nothing of scenes but images and words."""

    def __init__(self, order: bool = True, temperature: float = 0.07, learned: bool = True) -> None:
        super().__init__()
        positions = LearnedPositions(longest=3, width=WIDTH) if order else nn.Identity()
        reader = SequenceClassifier(len(WORDS), WIDTH, WIDTH, positions, [EncoderLayer(WIDTH, 4, 2 * WIDTH)])
        self.towers = TwoTowers(image_network(WIDTH), reader, temperature, learned)

    def scores(self, images: Tensor, scenes: Int[Tensor, "m 3"], texts: Int[Tensor, "m words"]) -> Float[Tensor, "n m"]:
        return self.towers(images, texts)

    def loss(self, images: Tensor, scenes: Int[Tensor, "n 3"], texts: Int[Tensor, "n words"]) -> Float[Tensor, ""]:
        return contrastive_loss(self.towers(images, texts))


class Classifiers(Model):
    """A network that is told what a scene consists of: log p(first digit) + log p(second digit) + log p(layout)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = image_network(2 * len(DIGITS) + 2)

    def scores(self, images: Tensor, scenes: Int[Tensor, "m 3"], texts: Int[Tensor, "m words"]) -> Float[Tensor, "n m"]:
        parts = self.network(images).split([len(DIGITS), len(DIGITS), 2], 1)
        return torch.stack([part.log_softmax(1)[:, which] for part, which in zip(parts, scenes.T, strict=True)]).sum(0)

    def loss(self, images: Tensor, scenes: Int[Tensor, "n 3"], texts: Int[Tensor, "n words"]) -> Float[Tensor, ""]:
        return -self.scores(images, scenes, texts).diagonal().mean()


def image_network(outputs: int) -> nn.Module:
    """The fully connected network by which every arm sees an image."""
    return nn.Sequential(nn.Flatten(), mlp(SIDE**2, HIDDEN, HIDDEN, outputs))


ARMS: dict[str, Callable[[], Model]] = {
    TOWERS: Towers,
    NO_ORDER: lambda: Towers(order=False),
    WARM: lambda: Towers(temperature=1.0, learned=False),
    CLASSIFIERS: Classifiers,
    SHUFFLED: Towers,
}


class SharedEmbedding(TunedClaim):
    """The claim that an embedding is a representation between images and their descriptions."""

    name = "shared_embedding"
    title = "An embedding is a representation between images and their descriptions, also of combinations never seen"
    question = (
        "Scenes of two handwritten digits have descriptions such as “three left of seven”. Two networks, one for images and "
        "one for words, learn from pairs to put both at the same place. Do they find the description of an image, and the "
        "image of a description, where the two digits never stood together before? Does it need the order of the words, and "
        "a low temperature? And is it as good as classifiers that are told what a scene consists of?"
    )
    source = (
        "daulet, Neural Net Intuition (nn-intuition, github.com/daulet/nn-intuition); the loss is that of Radford et al. "
        "2021, Learning transferable visual models from natural language supervision, 2103.00020"
    )
    arms = {
        TOWERS: "a fully connected network for images, a layer of attention for words; contrastive loss, learned temperature",
        NO_ORDER: "the same without positions of words, so that a description is a set of words",
        WARM: "the same with a temperature that stays 1",
        CLASSIFIERS: "the network for images with three classifiers: of the first digit, the second one and the layout",
        SHUFFLED: "the two towers, trained on images with the descriptions of other images: the control",
    }
    control = SHUFFLED
    rates = (0.0003, 0.001, 0.003, 0.01)
    score = "recall"
    chosen = {TOWERS: 0.001, NO_ORDER: 0.0003, WARM: 0.0003, CLASSIFIERS: 0.003, SHUFFLED: 0.001}
    measures = {
        "texts, unseen": Measure(
            "images of unseen pairs whose description is found", "recall@1 of 180", "higher", failed=0.0, summary="median"
        ),
        "images, unseen": Measure(
            "descriptions of unseen pairs whose image is found", "recall@1 of 180", "higher", failed=0.0, summary="median"
        ),
        "texts, seen": Measure(
            "images of seen pairs whose description is found", "recall@1 of 180", "higher", failed=0.0, summary="median"
        ),
        "images, seen": Measure(
            "descriptions of seen pairs whose image is found", "recall@1 of 180", "higher", failed=0.0, summary="median"
        ),
        "recall": Measure(
            "unseen pairs found, mean of both ways", "recall@1 of 180", "higher", failed=0.0, summary="median"
        ),
        "seen recall": Measure(
            "seen pairs found, mean of both ways", "recall@1 of 180", "higher", failed=0.0, summary="median"
        ),
        "untrained": Measure(
            "unseen pairs found before training, mean of both ways", "recall@1 of 180", "neither", failed=0.0, summary="median"
        ),
    }  # fmt: skip

    def data(self) -> dict[str, str]:
        return {"digits": fingerprint()}

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        written, tested = split(TRAIN, TEST, generator)
        seen, unseen = split_scenes(HELD_OUT, generator)
        galleries = [gallery(tested, generator) for _ in range(GALLERIES)]
        model = ARMS[arm]()
        before, matrix = recall_both_ways(model, galleries, unseen), shares(model, galleries[0], unseen)

        def loss() -> Tensor:
            scenes = seen[torch.randperm(len(seen), generator=generator)[:BATCH]]
            named = scenes[torch.randperm(BATCH, generator=generator)] if arm == SHUFFLED else scenes
            return model.loss(draw_scenes(scenes, *written, generator), scenes, describe(named, generator))

        losses = list(descend(model, loss, STEPS, rate))
        texts, images = recall_both_ways(model, galleries, unseen)
        texts_seen, images_seen = recall_both_ways(model, galleries, seen)
        return Measurement(
            values={
                "texts, unseen": texts,
                "images, unseen": images,
                "texts, seen": texts_seen,
                "images, seen": images_seen,
                "recall": (texts + images) / 2,
                "seen recall": (texts_seen + images_seen) / 2,
                "untrained": sum(before) / 2,
            },
            arrays={
                "loss": np.array(losses)[::EVERY],
                "before": matrix,
                "after": shares(model, galleries[0], unseen),
                **retrieved_examples(
                    model, galleries[0], unseen[torch.randperm(len(unseen), generator=generator)[:SHOWN]]
                ),
            },
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "of images with two digits that never stood together, 40% find their description among 180",
                    results.summary(TOWERS, "texts, unseen"), "at least", 0.4, "recall@1",
                ),
                Part(
                    "of descriptions of such images, 40% find their image among 180",
                    results.summary(TOWERS, "images, unseen"), "at least", 0.4, "recall@1",
                ),
                Part(
                    "the recall is at most 0.25 lower for pairs of digits that never stood together than for others",
                    results.difference(TOWERS, TOWERS, "recall", less="seen recall"), "at least", -0.25, "recall@1",
                ),
                Part(
                    "without the order of words the recall is at least 0.15 lower",
                    results.difference(TOWERS, NO_ORDER, "recall"), "at least", 0.15, "recall@1",
                ),
                Part(
                    "with a temperature of 1 it is at least 0.1 lower",
                    results.difference(TOWERS, WARM, "recall"), "at least", 0.1, "recall@1",
                ),
                Part(
                    "it is at most 0.1 below that of classifiers that are told what a scene consists of",
                    results.difference(TOWERS, CLASSIFIERS, "recall"), "at least", -0.1, "recall@1",
                ),
            ],
            control=Part(
                "trained on shuffled pairs, 10% of images with unseen pairs find their description",
                results.summary(SHUFFLED, "texts, unseen"), "at least", 0.1, "recall@1",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def share(arm: str, measure: str, digits: int = 0) -> str:
            return f"{results.summary(arm, measure).estimate:.{digits}%}"

        return (
            f"Two networks that only learn which description belongs to which image find the description of "
            f"{share(TOWERS, 'texts, unseen')} of new images among 180, and the image of {share(TOWERS, 'images, unseen')} of "
            f"descriptions, with two digits that never stood together before; with pairs that did, "
            f"{share(TOWERS, 'texts, seen')} and {share(TOWERS, 'images, seen')}. Of both ways together it is "
            f"{share(TOWERS, 'recall')}, without the order of words {share(NO_ORDER, 'recall')}, with a temperature of 1 "
            f"{share(WARM, 'recall')}, with three classifiers that are told what a scene consists of "
            f"{share(CLASSIFIERS, 'recall')}, before training {share(TOWERS, 'untrained', digits=1)}, and after training on shuffled "
            f"pairs {share(SHUFFLED, 'recall', digits=1)}."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seed = results.seeds()[0]
        losses = {arm: results.stack(arm, "loss") for arm in self.arms if arm != CLASSIFIERS}
        near = {f"{when} training": results.array(TOWERS, when, seed) for when in ("before", "after")}
        return [
            Picture(
                "Images and descriptions of pairs of digits that never stood together in training: how many are found among "
                "180. A guess is right in one of 180. A dot for each seed, and the median with its interval.",
                *comparison(results, ["texts, unseen", "images, unseen"]),
            ),
            Picture(
                f"Scenes of unseen pairs, drawn with unseen digits, seed {seed}. Left: images, and the nearest of 180 "
                "descriptions. Right: descriptions, and the nearest of 180 images.",
                self._answers(results, seed, "said", "Image → description"),
                self._answers(results, seed, "asked", "Description → image"),
            ),
            Picture(
                f"The scores of {CELLS} images with unseen pairs and of their descriptions, as shares of each row: three pairs "
                "of digits, each in two layouts and two orders. Training finds the diagonal.",
                *figures.matrices(near, "description", "image", "share"),
            ),
            Picture(
                "Both ways together, for pairs of digits that never stood together, and for pairs that did.",
                *comparison(results, ["recall", "seen recall"]),
            ),
            Picture(
                f"Contrastive loss by step, of batches of {BATCH}: the median over seeds, and the middle half of them. A guess "
                f"has ln {BATCH} = {np.log(BATCH):.1f}.",
                figures.curves(losses, EVERY, "step", "loss"),
            ),
        ]

    def _answers(self, results: Results, seed: int, way: str, title: str) -> Figure:
        pictures, words, right = (results.array(TOWERS, f"{way} {part}", seed) for part in ("images", "words", "right"))
        if words is None or right is None:
            return figures.captioned_images(None, [], [], title)
        captions = [sentence(torch.tensor(each).long()) for each in words]
        return figures.captioned_images(pictures, captions, (right > 0).tolist(), title, across=2)


Gallery = tuple[Tensor, Int[Tensor, "180 3"], Int[Tensor, "180 words"]]


def gallery(written: tuple[Tensor, Tensor], generator: torch.Generator) -> Gallery:
    """An image of each scene, drawn with these digits, the scenes, and a description of each."""
    scenes = all_scenes()
    return draw_scenes(scenes, *written, generator), scenes, describe(scenes, generator)


def indices_of(scenes: Int[Tensor, "n 3"]) -> Int[Tensor, " n"]:
    """Where these scenes are among all of them."""
    return (scenes[:, None] == all_scenes()).all(-1).int().argmax(1)


@torch.no_grad()
def recall_both_ways(model: Model, galleries: Sequence[Gallery], scenes: Int[Tensor, "n 3"]) -> tuple[float, float]:
    """recall@1 of these scenes among all: of images that find their description, and of descriptions that find theirs."""
    which = indices_of(scenes)
    scores = [model.scores(*each) for each in galleries]
    texts = torch.stack([recall(each[which], which).mean() for each in scores])
    images = torch.stack([recall(each.mT[which], which).mean() for each in scores])
    return float(texts.mean()), float(images.mean())


@torch.no_grad()
def shares(model: Model, given: Gallery, unseen: Int[Tensor, "n 3"]) -> np.ndarray:
    """The softmax over descriptions of the scores of `CELLS` images with unseen pairs, the scenes of a pair together."""
    pair = unseen[:, :2].amin(1) * len(DIGITS) + unseen[:, :2].amax(1)
    which = indices_of(unseen[pair.argsort(stable=True)][:CELLS])
    return model.scores(*given)[which][:, which].softmax(1).numpy()


@torch.no_grad()
def retrieved_examples(model: Model, given: Gallery, scenes: Int[Tensor, "n 3"]) -> dict[str, np.ndarray]:
    """For the pictures: images with what is said of them, and descriptions with the images that are found for them."""
    images, _, texts = given
    which, scores = indices_of(scenes), model.scores(*given)
    said, drawn = scores[which].argmax(1), scores.mT[which].argmax(1)
    return {
        "said images": images[which].numpy(),
        "said words": texts[said].numpy(),
        "said right": (said == which).numpy().astype(float),
        "asked images": images[drawn].numpy(),
        "asked words": texts[which].numpy(),
        "asked right": (drawn == which).numpy().astype(float),
    }
