"""How long the commands take on a large folder of results: `python -m benchmarks.studies`

The folder holds results of one built-in claim, as its runner would have written them, with invented numbers. Each
command runs in a process of its own, as a user would start it: once when the folder has no index yet, then again.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Ratio
from benchmarks.progress import progress
from limelight.experiment.catalog import claim as claim_named
from limelight.experiment.claim import Experiment
from limelight.experiment.fingerprint import trial_keys, versions
from limelight.experiment.result_file import text_of
from limelight.experiment.results import Record

CLAIM = "dynamic_weights"
TARGETS = {"list": 2.0, "show": 1.0, "report": 10.0}  # seconds, for 100,000 results
AGAIN = 5  # runs once there is an index


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=int, default=100_000, help="how many results the folder holds")
    count = parser.parse_args().results
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write(folder, claim_named(CLAIM), count)
        print(f"{size:,} results of {CLAIM}")
        print(f"{'command':10}{'first, s':>10}{'again, s':>22}  target, s")
        for command, (first, again) in measured(folder):
            target = TARGETS.get(command)
            mark = "" if target is None else f"≤ {target:g} {'✓' if again.median <= target else '✗'}"
            print(f"{command:10}{first:10.1f}{again.median:10.2f} [{again.low:.2f}, {again.high:.2f}]  {mark}")


def write(folder: Path, claim: Experiment, count: int) -> int:
    """Write about `count` results of the claim with invented numbers, and return how many they are."""
    numbers, key, found = random.Random(0), trial_keys(claim), versions()
    (folder / claim.name).mkdir()
    seeds = count // len(claim.arms)
    with progress(seeds, time.monotonic() + 600) as bar:
        for seed in range(seeds):
            bar.step("writing results")
            for arm in claim.arms:
                values = {measure: numbers.lognormvariate(0, 0.3) for measure in claim.measures}
                record = Record(claim.name, arm, seed, "done", seconds=0.1, values=values, versions=found)
                (folder / claim.name / f"{key(arm, seed)}.json").write_text(text_of(record), encoding="utf-8")
    return seeds * len(claim.arms)


def measured(folder: Path) -> Iterator[tuple[str, tuple[float, Ratio]]]:
    """Each command, with the seconds of its first run and of those after it."""
    commands = {
        "list": ["list"],
        "show": ["show", CLAIM],
        "report": ["report", "--output", str(folder / "report.html")],
        "export": ["export", "--output", str(folder / "results.csv")],
    }
    for name, arguments in commands.items():
        times = [seconds([*arguments, "--results", str(folder)]) for _ in range(1 + AGAIN)]
        yield name, (times[0], Ratio.of(times[1:]))


def seconds(arguments: list[str]) -> float:
    """The seconds that a command takes, from its start to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "limelight", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
