"""A large study: results of a claim with a hundred arms, written without being measured."""

from pathlib import Path

import numpy as np

from limelight.experiment.claim import Picture
from limelight.experiment.conditions import plain
from limelight.experiment.fingerprint import trial_keys, versions
from limelight.experiment.result_file import text_of
from limelight.experiment.results import Record
from limelight.experiment.verdict import Part, Verdict
from limelight.report.comparison import comparison
from tests.experiment.toy import Toy


class Grid(Toy):
    """A hundred arms, each of which is larger than the one before, and a picture of the values."""

    name = "grid"
    arms = {f"level {number}": f"a level of {number / 10}" for number in range(100)}
    control = "level 0"

    def judge(self, results):
        more = [
            Part(f"{arm} is more than nothing", results.difference(arm, "level 0", "size"), "at least", 0.5)
            for arm in ("level 99", "level 50", "level 10")
        ]
        return Verdict.of(
            more, control=Part("level 1 is", results.difference("level 1", "level 0", "size"), "at least", 0.5)
        )

    def figures(self, results):
        return [Picture("Sizes.", *comparison(results, ["size"]))]


def write_results(folder, claim, seeds):
    """Write valid results of a claim for these seeds, with random values that grow with the arm's number."""
    key, place = trial_keys(claim), Path(folder) / claim.name
    place.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        noise = np.random.default_rng(seed).normal(0, 0.1, len(claim.arms))
        for number, arm in enumerate(claim.arms):
            record = Record(
                claim.name, arm, seed, "done", seconds=0.25, values={"size": number / 10 + noise[number]},
                arrays=plain({"line": np.arange(3.0)}), versions=versions(), machine="a computer, 2 cores",
            )  # fmt: skip
            unfinished = place / f".{seed}-{number}.tmp"
            unfinished.write_text(text_of(record), encoding="utf-8")
            unfinished.replace(place / f"{key(arm, seed)}.json")
