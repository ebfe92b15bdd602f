"""The simulation of the page of generative models: the one that is chosen learns, and the other one waits."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from plotly.graph_objects import Figure

from limelight.lab.address import Values
from limelight.lab.pages.blocks.diffusion import Diffusion
from limelight.lab.pages.blocks.learner import Learner
from limelight.lab.pages.blocks.reversal import Reversal
from limelight.lab.pages.blocks.settings import DIFFUSION, SPEEDS, TRANSFORMER
from limelight.lab.simulation import Simulation, Updates

LEARNERS: Mapping[str, type[Learner]] = {DIFFUSION: Diffusion, TRANSFORMER: Reversal}


class BlocksSimulation(Simulation):
    """A diffusion model and a Transformer. Each is built when it is first chosen, and keeps what it has learned."""

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self._built: dict[str, Learner] = {}

    @classmethod
    def preload(cls, values: Values) -> None:
        for name in LEARNERS:
            super().preload({**values, "what": name})

    @property
    def _chosen(self) -> Learner:
        name = str(self.values["what"])
        if name not in self._built:
            self._built[name] = LEARNERS[name](self.values)
        return self._built[name]

    def step(self) -> bool:
        return self._chosen.step()

    def change(self, values: Values) -> Collection[str]:
        other = "what" in self.differing(values)
        self.values = values
        anew = {name: learner.change(values) for name, learner in self._built.items()}
        return tuple(self._chosen.figures()) if other else anew[str(values["what"])]

    @property
    def rate(self) -> float:
        return float(self.values[SPEEDS[str(self.values["what"])]])

    def figures(self) -> Mapping[str, Figure]:
        return self._chosen.figures()

    def updates(self) -> Updates | None:
        return self._chosen.updates()

    def labels(self) -> Mapping[str, str]:
        return self._chosen.labels()


SIMULATION = BlocksSimulation
