"""Files of claims for tests: one that costs nothing to run, with a module and a package beside it that it imports."""

import sys
from contextlib import contextmanager

from limelight.experiment.provenance.sources import is_installed

CLAIM = '''
"""One is more than zero."""

import numpy as np

import levels
from limelight import Attention, Euclidean
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.verdict import Part, Verdict
from limelight.report.comparison import comparison


class Own(Claim):
    name = "own"
    title = "More is more"
    question = "Is one more than zero?"
    source = "nowhere"
    arms = {"one": "one, and noise", "zero": "zero, and noise", "nothing": "nothing at all"}
    control = "nothing"
    measures = {"size": Measure("how much", "units", "higher", failed=-9.0)}

    def measure(self, arm, seed):
        from noises.normal import noise

        return Measurement({"size": levels.LEVELS[arm] + noise(seed, len(arm))})

    def judge(self, results):
        return Verdict.of(
            [Part("one is more than zero by a half", results.difference("one", "zero", "size"), "at least", 0.5)],
            control=Part("nothing is", results.difference("nothing", "zero", "size"), "at least", 0.5),
        )

    def figures(self, results):
        return [Picture("Sizes.", *comparison(results, ["size"]))]
'''

FILES = {
    "own.py": CLAIM,
    "levels.py": "LEVELS = {'one': 1.0, 'zero': 0.0, 'nothing': 0.0}\n",
    "noises/__init__.py": "",
    "noises/normal.py": (
        "import numpy as np\nfrom . import scales\n\n\n"
        "def noise(*seed):\n    return np.random.default_rng(seed).normal(0, scales.SCALE)\n"
    ),
    "noises/scales.py": "SCALE = 0.1\n",
    "unrelated.py": "1 / 0\n",
}


def write(folder, **changed):
    """Write the files, with the text of some changed: `levels='…'` for `levels.py`."""
    changed = {f"{name.replace('__', '/')}.py": text for name, text in changed.items()}
    for name, text in (FILES | changed).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(folder / "own.py")


@contextmanager
def forgetting(monkeypatch):
    """Within the block, claims may be loaded from anywhere; at its end no module of theirs stays imported."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        if not name.startswith("limelight.") and not is_installed(name.partition(".")[0]):
            del sys.modules[name]
