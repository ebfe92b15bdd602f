"""How often does the evidence err? `python -m benchmarks.evidence`

False alarm: the same arm twice is called different. Miss: a difference of one standard deviation of
an arm is not found. Both on simulated results, paired by seed but otherwise independent, which is the
hard case: real arms of one seed share their data.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from limelight.experiment.statistics import CONFIDENCE, differs

FALSE_ALARM_LIMIT, POWER_LIMIT, POWER_SEEDS = 0.05, 0.80, 30

Draw = Callable[[np.random.Generator, int], np.ndarray]

# What results look like: their shape, by a name that says where it is met.
SHAPES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 1.0),
    "heavy tails": (lambda rng, n: rng.standard_t(3, size=n), 3**0.5),
    "skewed, as losses": (lambda rng, n: rng.lognormal(0, 0.5, size=n), (np.exp(0.5) - np.exp(0.25)) ** 0.5),
    "accuracies of 100": (lambda rng, n: rng.binomial(100, rng.beta(20, 2, size=n)) / 100, 0.0662),
}


def false_alarms(draw: Draw, seeds: int, trials: int, rng: np.random.Generator) -> float:
    """The share of trials in which two draws of one arm are called different."""
    return float(np.mean([differs(draw(rng, seeds), draw(rng, seeds)) for _ in range(trials)]))


def power(draw: Draw, shift: float, seeds: int, trials: int, rng: np.random.Generator) -> float:
    """The share of trials in which an arm moved by `shift` is called different."""
    return float(np.mean([differs(draw(rng, seeds) + shift, draw(rng, seeds)) for _ in range(trials)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="simulated comparisons for each figure (default 1000)")
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)
    print(f"intervals at {CONFIDENCE:.0%}, {trials} trials each\n")
    print(f"{'results':20} {'false alarms, 10 seeds':>24} {'30 seeds':>10} {'power at 1 sd, 30 seeds':>26}")
    worst_alarm, worst_power = 0.0, 1.0
    for name, (draw, deviation) in SHAPES.items():
        few, many = (false_alarms(draw, seeds, trials, rng) for seeds in (10, 30))
        found = power(draw, deviation, POWER_SEEDS, trials, rng)
        worst_alarm, worst_power = max(worst_alarm, few, many), min(worst_power, found)
        print(f"{name:20} {few:24.1%} {many:10.1%} {found:26.1%}")
    print(f"\nworst false alarms {worst_alarm:.1%}, limit {FALSE_ALARM_LIMIT:.0%}")
    print(f"worst power        {worst_power:.1%}, limit {POWER_LIMIT:.0%}")
    if worst_alarm > FALSE_ALARM_LIMIT or worst_power < POWER_LIMIT:
        raise SystemExit("a limit is broken")


if __name__ == "__main__":
    main()
