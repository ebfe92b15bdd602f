"""How often does the evidence err? `python -m benchmarks.evidence`

Coverage: how often an interval holds the true value, for each summary and each shape of outcome. False alarm: the same
arm twice is called different. Miss: a difference of one standard deviation of an arm is not found. All on simulated
results, paired by seed but otherwise independent, which is the hard case: real arms of one seed share their data.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from limelight.experiment.statistics import CONFIDENCE, SUMMARIES, Summary, differs, holm, mean, median

FALSE_ALARM_LIMIT, POWER_LIMIT, POWER_SEEDS = 0.05, 0.80, 30
COVERAGE_LIMIT = CONFIDENCE - 0.02  # an interval holds the truth at least so often
SEEDS = (10, 30)

Draw = Callable[[np.random.Generator, int], np.ndarray]

# What results look like: their shape, by a name that says where it is met, and their standard deviation.
SHAPES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 1.0),
    "heavy tails": (lambda rng, n: rng.standard_t(3, size=n), 3**0.5),
    "skewed, as losses": (lambda rng, n: rng.lognormal(0, 0.5, size=n), (np.exp(0.5) - np.exp(0.25)) ** 0.5),
    "accuracies of 100": (lambda rng, n: rng.binomial(100, rng.beta(20, 2, size=n)) / 100, 0.0662),
}


def rare_failure(rng: np.random.Generator, n: int) -> np.ndarray:
    """A run that works to a few percent, and in one of twenty seeds does not at all."""
    return np.where(rng.random(n) < 0.05, 10.0, rng.normal(1.0, 0.02, size=n))


def two_outcomes(rng: np.random.Generator, n: int) -> np.ndarray:
    """A run that finds a good solution in 65 % of seeds, and a poor one in the others."""
    return np.where(rng.random(n) < 0.65, rng.normal(0.9, 0.02, size=n), rng.normal(0.3, 0.02, size=n))


# Outcomes, the summary that suits each or does not, and the true value of the summary.
COVERED: tuple[tuple[str, Summary, Draw, float], ...] = (
    ("normal", "mean", SHAPES["normal"][0], 0.0),
    ("normal", "median", SHAPES["normal"][0], 0.0),
    ("log-normal", "mean", SHAPES["skewed, as losses"][0], float(np.exp(0.125))),
    ("log-normal", "median", SHAPES["skewed, as losses"][0], 1.0),
    ("rare failure", "mean", rare_failure, 1.45),
    ("rare failure", "median", rare_failure, 1.0 + 0.02 * 0.0660),  # the quantile 0.5/0.95 of those that work
    ("two outcomes", "mean", two_outcomes, 0.69),
    ("two outcomes", "median", two_outcomes, 0.9 - 0.02 * 0.7363),  # the quantile 0.15/0.65 of the better
    ("success in 95 %", "share", lambda rng, n: rng.random(n) < 0.95, 0.95),
    ("success in 65 %", "share", lambda rng, n: rng.random(n) < 0.65, 0.65),
)
UNSUITED = {("rare failure", "mean"), ("log-normal", "mean")}  # shown beside what suits them, and no limit


def coverage(summary: Summary, draw: Draw, truth: float, seeds: int, trials: int, rng: np.random.Generator) -> float:
    """The share of trials in which the interval holds the truth."""
    found = (SUMMARIES[summary](draw(rng, seeds).astype(float)) for _ in range(trials))
    return float(np.mean([interval.low <= truth <= interval.high for interval in found]))


def false_alarms(draw: Draw, seeds: int, trials: int, rng: np.random.Generator) -> float:
    """The share of trials in which two draws of one arm are called different."""
    return float(np.mean([differs(draw(rng, seeds), draw(rng, seeds)) for _ in range(trials)]))


def power(draw: Draw, shift: float, seeds: int, trials: int, rng: np.random.Generator) -> float:
    """The share of trials in which an arm moved by `shift` is called different."""
    return float(np.mean([differs(draw(rng, seeds) + shift, draw(rng, seeds)) for _ in range(trials)]))


def family_error(parts: int, seeds: int, trials: int, rng: np.random.Generator) -> float:
    """The share of trials in which any of several true parts, half of them medians, is rejected after correction."""
    return float(np.mean([min(holm(_p_values(parts, seeds, rng))) <= FALSE_ALARM_LIMIT for _ in range(trials)]))


def _p_values(parts: int, seeds: int, rng: np.random.Generator) -> list[float]:
    return [(mean if i % 2 else median)(rng.normal(size=seeds)).p_value(0.0) for i in range(parts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="simulated comparisons for each figure (default 1000)")
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)
    print(f"intervals at {CONFIDENCE:.0%}, {trials} trials each\n")
    print(f"{'results':20} {'summary':8} {'holds the truth, 10 seeds':>26} {'30 seeds':>10}")
    least = 1.0
    for name, summary, draw, truth in COVERED:
        few, many = (coverage(summary, draw, truth, seeds, trials, rng) for seeds in SEEDS)
        unsuited = (name, summary) in UNSUITED
        least = least if unsuited else min(least, few, many)
        print(f"{name:20} {summary:8} {few:26.1%} {many:10.1%}{'  (does not suit)' if unsuited else ''}")
    print(f"\n{'results':20} {'false alarms, 10 seeds':>24} {'30 seeds':>10} {'power at 1 sd, 30 seeds':>26}")
    worst_alarm, worst_power = 0.0, 1.0
    for name, (draw, deviation) in SHAPES.items():
        few, many = (false_alarms(draw, seeds, trials, rng) for seeds in SEEDS)
        found = power(draw, deviation, POWER_SEEDS, trials, rng)
        worst_alarm, worst_power = max(worst_alarm, few, many), min(worst_power, found)
        print(f"{name:20} {few:24.1%} {many:10.1%} {found:26.1%}")
    family = max(family_error(8, seeds, max(trials // 10, 1), rng) for seeds in SEEDS)
    print(f"\nleast coverage of a suitable summary {least:.1%}, limit {COVERAGE_LIMIT:.0%}")
    print(f"worst false alarms {worst_alarm:.1%}, limit {FALSE_ALARM_LIMIT:.0%}")
    print(f"any wrong word among eight parts {family:.1%}, limit {FALSE_ALARM_LIMIT:.0%}")
    print(f"worst power        {worst_power:.1%}, limit {POWER_LIMIT:.0%}")
    if worst_alarm > FALSE_ALARM_LIMIT or worst_power < POWER_LIMIT or least < COVERAGE_LIMIT:
        raise SystemExit("a limit is broken")


if __name__ == "__main__":
    main()
