"""A claim that takes no time to run: its results are random numbers from the seed."""

import os
import signal

import numpy as np
import torch

from limelight.errors import DivergenceError
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.figures import curves
from limelight.models.resumable import descend_resumably

GATE = "LIMELIGHT_TOY_GATE"  # if set, a FIFO at which seeds from 5 on wait
HARD = "LIMELIGHT_TOY_HARD"  # if set, a trial computes for a while


class Toy(Claim):
    name = "toy"
    title = "More is more <script>alert('title')</script>"
    question = "Is one more than zero?"
    source = "nowhere"
    arms = {"one": "one, and noise", "zero": "zero, and noise", "nothing": "nothing at all"}
    control = "nothing"
    measures = {"size": Measure("how much", "units", "higher", failed=-9.0)}

    def measure(self, arm, seed):
        if seed >= 5 and (gate := os.environ.get(GATE)):
            with open(gate) as fifo:
                fifo.read()
        if os.environ.get(HARD):
            for _ in range(20):
                torch.linalg.eigvalsh(torch.eye(300))
        noise = np.random.default_rng([seed, len(arm)]).normal(0, 0.1)
        return Measurement({"size": {"one": 1.0, "zero": 0.0, "nothing": 0.0}[arm] + noise}, {"line": np.arange(3.0)})

    def judge(self, results):
        return Verdict.of(
            [Part("one is more than zero by a half", results.difference("one", "zero", "size"), "at least", 0.5)],
            control=Part("nothing is", results.difference("nothing", "zero", "size"), "at least", 0.5),
        )

    def figures(self, results):
        lines = {arm: results.stack(arm, "line") for arm in self.arms}
        return [Picture("A caption with <b>markup</b>", curves(lines, 1, "x", "y"))]


class Learning(Toy):
    """Two models learn one after another, from numbers of three generators.

    `losses` counts the losses that were computed; in place of the one with the number `stop_after`, `stop` is called.
    """

    name = "learning"

    def __init__(self, stop_after=None, stop=None):
        self.losses, self._stop_after, self._stop = 0, stop_after, stop or self._interrupt

    def _interrupt(self):
        raise KeyboardInterrupt

    def measure(self, arm, seed):
        generator, reached = torch.Generator().manual_seed(seed), []
        for _ in range(2):
            model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1))

            def loss(model=model):
                self.losses += 1
                x = torch.randn(8, 3, generator=generator) + float(np.random.normal())  # noqa: NPY002 (claims may draw from it)
                if self.losses == self._stop_after:
                    self._stop()
                return model(x).square().mean()

            reached += descend_resumably(model, loss, 20, 0.01, generators=[generator])
        return Measurement({"size": sum(reached)}, {"line": np.array(reached)})


class Sharing(Toy):
    """Its arms share the process of the first one, whose number is what it measures."""

    name = "sharing"

    def shares(self, arm, seed):
        return seed

    def measure(self, arm, seed):
        return Measurement({"size": os.getpid()}, {"line": np.arange(3.0)})


class Faulty(Toy):
    name = "faulty"
    arms = Toy.arms | {
        "raises": "an error",
        "diverges": "to infinity",
        "infinite": "not finite",
        "forgets": "a measure",
    }

    def measure(self, arm, seed):
        if arm == "raises":
            raise RuntimeError("as it does </script><script>alert('reason')</script>")
        if arm == "diverges":
            raise DivergenceError("the loss became inf at step 3")
        if arm == "forgets":
            return Measurement({})
        return Measurement({"size": float("inf") if arm == "infinite" else 1.0})


class Diverging(Toy):
    name = "diverging"

    def measure(self, arm, seed):
        if arm == "one" and seed % 2:
            raise DivergenceError("the loss became inf at step 3")
        return super().measure(arm, seed)


class Dying(Toy):
    name = "dying"

    def measure(self, arm, seed):
        os.kill(os.getpid(), signal.SIGTERM)


BEST_RATE = {"one": 0.1, "zero": 0.3, "nothing": 0.3}


class Tuned(Toy, TunedClaim):
    """An error that is least at the best rate of each arm."""

    name = "tuned"
    measures = Toy.measures | {"error": Measure("how wrong", "units", "lower", failed=float("inf"))}
    rates = (0.1, 0.3)
    score = "error"
    chosen = {"one": 0.1, "zero": 0.1, "nothing": 0.3}

    def measure_at(self, arm, rate, seed):
        size = super().measure(arm, seed).values["size"]
        wrong = abs(rate - BEST_RATE[arm]) + np.random.default_rng(seed).random() / 100
        return Measurement({"size": size, "error": float(wrong)}, {"line": np.arange(3.0)})

    def measure(self, arm, seed):
        return TunedClaim.measure(self, arm, seed)
