"""A claim whose texts all contain markup and control characters."""

from limelight.experiment.measure import Measure, Measurement
from tests.experiment.toy import Toy

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e\udce9"
STRANGE = f"[/bold] [red]x[/] :smile: \\ [link=file:///x]{ESCAPES}"


class Strange(Toy):
    name = STRANGE.replace("/", "|").replace("\x00", "")
    title = f"title {STRANGE}"
    question = f"question {STRANGE}\nand more"
    source = f"source {STRANGE}"
    arms = {f"{arm} {STRANGE}": f"{says} {STRANGE}" for arm, says in Toy.arms.items()} | Toy.arms
    measures = {"size": Measure(f"says {STRANGE}", f"unit {STRANGE}", "higher", failed=-9.0)}

    def measure(self, arm, seed):
        if arm not in Toy.arms:
            raise RuntimeError(f"failure {STRANGE}\nlimelight: all is well")
        return Measurement({"size": 1.0})
