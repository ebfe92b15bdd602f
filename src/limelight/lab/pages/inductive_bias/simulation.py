"""The simulation of the page of biases: three networks learn the same digits, and are tested on unseen ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from plotly.graph_objects import Figure
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from limelight import figures
from limelight.claims.translation_prior import ATTENTION, CONV, FULL
from limelight.data.digits import FRAME
from limelight.figures.learning import chance_line, line_mode
from limelight.figures.predictions import answer_texts
from limelight.interpret.saliency import received_attention, saliency
from limelight.lab.address import Values
from limelight.lab.descents import descent, stepped
from limelight.lab.history import History
from limelight.lab.pace import Pace
from limelight.lab.pages.inductive_bias.images import drawn
from limelight.lab.pages.inductive_bias.settings import NETWORKS, SHOWN, TESTS
from limelight.lab.simulation import Change, Figures, Simulation, Updates, numbers
from limelight.models.image_classifiers import Convolutional, SmallViT, fully_connected

PLACES = {name: place for place, name in NETWORKS.items()}  # the networks' names in ids of elements
# The networks, as large as those of the claim, and the learning rates with which the texts of the page were written.
MODELS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    FULL: (lambda: fully_connected(FRAME, classes=10), 0.003),
    CONV: (lambda: Convolutional(classes=10, channels=16), 0.01),
    ATTENTION: (lambda: SmallViT(FRAME, patch=4, classes=10, blocks=1), 0.005),
}
PICTURES = ("bias-accuracy", "bias-answers", *(f"bias-map-{place}" for place in NETWORKS), "bias-received")
_SHORT = {FULL: "full", CONV: "conv.", ATTENTION: "attention"}
_PAUSE = 1 / 3  # at least so many seconds between two tests of all networks: each takes as long as a dozen steps
_LOOK = 0.2  # at least so many seconds between two evaluations of the shown images
_EARLY = 32  # up to this step, networks are tested after every power of two, since accuracy changes quickly
_ANEW = {"kind", "images", "seed"}


class InductiveBiasSimulation(Simulation):
    """The models of the claim on translation priors, trained on the same sequence of mini-batches."""

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self._begin()

    @classmethod
    def preload(cls, values: Values) -> None:
        """Load the digits, and draw blank pictures, since real saliency maps need `backward`."""
        blank, curve = drawn(str(values["kind"]), SHOWN, 0).images[:SHOWN].numpy() * 0, np.ones(1)
        said = dict.fromkeys(_SHORT.values(), [0] * SHOWN)
        figures.accuracies(curve, {FULL: curve}, {FULL: curve}, chance=0.1, log_x=True).to_json()
        figures.prediction_grid(blank, [0] * SHOWN, said, 0).to_json()
        figures.saliency_overlay(blank[0], blank[0], "gradient").to_json()

    def _begin(self) -> None:
        seed, size = int(self.values["seed"]), int(self.values["images"])
        self._data = drawn(str(self.values["kind"]), size, seed)
        torch.manual_seed(seed)
        self._batches = torch.Generator().manual_seed(seed)
        self._models = {name: _network(name) for name in PLACES}
        self._sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in self._models.items()}
        self._steps = self._seen = 0
        self._history = History(1 + len(PLACES) * (len(TESTS) + 1))
        self._measured = self._evaluated = 0  # how often each has been done
        self._tests, self._looks = Pace(_PAUSE), Pace(_LOOK, share=0.05)
        self._start_descents()
        self._measure()
        self._evaluate()
        self._drawn_at = self._measured, self._evaluated

    def _start_descents(self) -> None:
        """Start new descents from the present weights."""
        factor = float(self.values["rate"])
        self._batch = torch.zeros(0, dtype=torch.long)
        self._descents = {name: self._descent(model, factor * MODELS[name][1]) for name, model in self._models.items()}

    def _descent(self, model: nn.Module, rate: float) -> Iterator[float]:
        def loss() -> Tensor:
            return F.cross_entropy(model(self._data.images[self._batch]), self._data.labels[self._batch])

        return descent(model, loss, rate)

    def step(self) -> bool:
        size = int(self.values["batch"])
        self._batch = torch.randint(len(self._data.images), (size,), generator=self._batches)
        stepped(self._descents)
        self._steps += 1
        self._seen += size
        if self._steps <= _EARLY and self._steps.bit_count() == 1:
            self._measure()
        else:
            self._measure_if_due()
        return True

    def change(self, values: Values) -> Collection[str]:
        changed = self.differing(values)
        self.values = values
        if changed & _ANEW:
            self._begin()
        elif "rate" in changed:
            self._start_descents()
        if changed & {"tested", "look"}:
            self._evaluate()
        if changed <= {"look"}:
            return ["bias-answers"]
        return PICTURES if changed - {"batch", "rate", "speed"} else ()

    def _measure(self) -> None:
        """The accuracy of all networks, on each kind of test image and on the training images."""
        row = [float(self._seen)]
        with self._tests.measuring():
            for model in self._models.values():
                row += self._data.accuracies(model)
        self._history.add(self._measured, row)
        self._newest = row
        self._measured += 1
        self._measured_at = self._steps

    def _measure_if_due(self) -> None:
        if self._measured_at != self._steps and self._tests.is_due:
            self._measure()

    def _accuracy(self, name: str, on: str, rows: np.ndarray) -> Any:
        """From rows of measurements, the accuracies of one network on one kind of test, or on the "training" images."""
        columns = [*TESTS, "training"]
        return rows[1 + list(PLACES).index(name) * len(columns) + columns.index(on)]

    def _curves(self) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Numbers of images seen, accuracies on the chosen test, and accuracies on the training images if they are shown."""
        rows = self._history.values
        tested = {name: self._accuracy(name, str(self.values["tested"]), rows) for name in PLACES}
        training = {name: self._accuracy(name, "training", rows) for name in PLACES} if self.values["training"] else {}
        return rows[0], tested, training

    @property
    def _shown(self) -> Tensor:
        return self._data.tests[str(self.values["tested"])][:SHOWN]

    @property
    def _chosen(self) -> int:
        return int(self.values["look"]) - 1

    def _evaluate(self) -> None:
        """Compute the networks' answers for the shown images, and the saliency maps of the chosen one."""
        with self._looks.measuring():
            with torch.no_grad():
                self._predicted = {name: model(self._shown).argmax(-1).tolist() for name, model in self._models.items()}
            image = self._shown[self._chosen : self._chosen + 1]
            self._maps = {f"bias-map-{PLACES[name]}": saliency(model, image)[0] for name, model in self._models.items()}
            self._maps["bias-received"] = received_attention(self._models[ATTENTION], image)[0]  # type: ignore[arg-type]
        self._evaluated += 1
        self._looked_at = self._steps

    def _evaluate_if_due(self) -> None:
        if self._looked_at != self._steps and self._looks.is_due:
            self._evaluate()

    def figures(self) -> Mapping[str, Figure]:
        self._drawn_at = self._measured, self._evaluated
        seen, tested, training = self._curves()
        truth = self._data.truth[:SHOWN].tolist()
        said = {_SHORT[name]: found for name, found in self._predicted.items()}
        image = self._shown[self._chosen].numpy()
        log = bool(self.values["log"])
        return Figures(
            {
                "bias-accuracy": lambda: figures.accuracies(seen, tested, training, chance=0.1, log_x=log),
                "bias-answers": lambda: figures.prediction_grid(self._shown.numpy(), truth, said, self._chosen),
                **{
                    place: partial(
                        figures.saliency_overlay,
                        image,
                        weights.numpy(),
                        "share" if place == "bias-received" else "gradient",
                    )
                    for place, weights in self._maps.items()
                },
            }
        )

    def updates(self) -> Updates:
        changed: dict[str, list[Change]] = {}
        if self._drawn_at[0] != self._measured:
            changed["bias-accuracy"] = self._new_curves()
        if self._drawn_at[1] != self._evaluated:
            changed |= self._new_answers()
        self._drawn_at = self._measured, self._evaluated
        return changed

    def _new_curves(self) -> list[Change]:
        seen, tested, training = self._curves()
        x, drawn = numbers(seen), {"mode": line_mode(seen)}
        solid = [{"x": x, "y": numbers(values), **drawn} for values in tested.values()]
        dotted = [{"x": x, "y": numbers(values)} for values in training.values()]
        return list(enumerate([*solid, *dotted, {"x": numbers(chance_line(seen))}]))

    def _new_answers(self) -> dict[str, list[Change]]:
        image = numbers(self._shown[self._chosen])
        texts = answer_texts(self._data.truth[:SHOWN].tolist(), self._predicted)
        return {
            "bias-answers": [(2 * row + 1, attributes) for row, attributes in enumerate(texts)],
            **{
                place: [(0, {"z": numbers(weights), "zmax": float(weights.max())}), (1, {"z": image})]
                for place, weights in self._maps.items()
            },
        }

    def labels(self) -> Mapping[str, str]:
        self._measure_if_due()
        self._evaluate_if_due()
        digit = int(self._data.truth[self._chosen])
        said = {
            "bias-step": f"step {self._steps} · {self._seen:,} images seen",
            "bias-chosen": f"Test image {self._chosen + 1} of {SHOWN}, a {digit}.",
        }
        newest = np.array(self._newest)
        for name, place in PLACES.items():
            found = self._predicted[name][self._chosen]
            said[f"bias-tested-{place}"] = f"{self._accuracy(name, str(self.values['tested']), newest):.2f}"
            said[f"bias-training-{place}"] = f"{self._accuracy(name, 'training', newest):.2f}"
            said[f"bias-size-{place}"] = f"{self._sizes[name]:,}"
            said[f"bias-said-{place}"] = f"says {found}, which is {'right ✓' if found == digit else 'wrong ✗'}"
        shares = self._maps["bias-received"]
        said["bias-said-received"] = f"shares {float(shares.min()):.2f} to {float(shares.max()):.2f}"
        return said


def _network(name: str) -> nn.Module:
    """An untrained network. With its channels last in memory, a convolution trains a third faster."""
    network = MODELS[name][0]()
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network


SIMULATION = InductiveBiasSimulation
