"""Free energy: a softmax minimizes energy − temperature × entropy, and it freezes as a glass does.

Over the simplex, Σ_j p_j E_j − τ H(p) is minimal at p = softmax(−E/τ), where it is −τ log Σ_j exp(−E_j/τ). So the
temperature decides between attending to the best key and attending to all keys. If the n scores are independent
Gaussians with standard deviation σ, this is Derrida's random energy model, solved in 1981: with many keys the entropy
is log n − σ²/2τ² above τ_c = σ/√(2 log n), and nearly zero below. The claim also asks how many keys are enough for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limelight import figures
from limelight.attention import Attention
from limelight.experiment.claim import Claim, Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.verdict import Part, Verdict
from limelight.report.comparison import comparison
from limelight.report.effect_text import number
from limelight.similarity import Dot

QUERIES, WIDTH, ROWS = 64, 64, 8  # ROWS is the number of rows for which the minimum is tested
PER_OCTAVE = 5
TEMPERATURES = 2.0 ** (np.arange(-3 * PER_OCTAVE, 2 * PER_OCTAVE + 1) / PER_OCTAVE)  # in units of τ_c
CHECKED = (0.5, 1.0, 2.0)  # temperatures, in units of τ_c, at which the minimum is tested
STRONGEST = 6  # the number of keys whose weights are drawn
FEW, SOME, MANY, MOST = "64 keys", "512 keys", "4096 keys", "32768 keys"
WRONG = "512 keys, twice the temperature"
KEYS = {FEW: 64, SOME: 512, MANY: 4096, MOST: 32768, WRONG: 512}


class FreeEnergyPhases(Claim):
    """The claim about attention's free energy, and its transition as the temperature falls."""

    name = "free_energy_phases"
    title = (
        "A softmax minimizes free energy, and with many keys it freezes at the temperature of the random energy model"
    )
    question = (
        "Is attention's free energy −τ log Σ exp(−E/τ), is it energy − temperature × entropy, and is no other distribution "
        "lower? And as the temperature falls, a query goes from looking at all keys to looking at one. Does that happen "
        "where the random energy model says, at τ_c = σ/√(2 log n), and does it become a sharper transition with more keys?"
    )
    source = "Derrida 1981 (Phys. Rev. B 24, 2613); the Gibbs variational principle"
    arms = {
        FEW: "scores of a unit query with Gaussian keys",
        SOME: "the same",
        MANY: "the same",
        MOST: "the same",
        WRONG: "weights at 2τ taken for those at τ: the control",
    }
    control = WRONG
    measures = {
        "gap": Measure(
            "free energy against −τ log Σ exp(−E/τ) and against E − τH",
            "relative gap", "neither", failed=1.0, summary="exact",
        ),
        "excess": Measure(
            "least free energy of other distributions, less its own", "τ", "neither", failed=-1e3, summary="exact"
        ),
        "half": Measure("temperature of half the entropy over √2·τ_c", "times the prediction", "neither", failed=10.0),
        "frozen": Measure("temperature where Σp² = ½ over τ_c/2", "times the prediction", "neither", failed=10.0),
        "width": Measure("temperature of ¾ of the entropy over that of ¼", "ratio", "neither", failed=10.0),
    }  # fmt: skip

    def measure(self, arm: str, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        n = KEYS[arm]
        q, k = points(n, generator)
        critical, factor = (2 * math.log(n)) ** -0.5, 2.0 if arm == WRONG else 1.0
        tested = [minimum(q[:ROWS], k, tau * critical, factor, generator) for tau in CHECKED]
        by_temperature = phases(q.float(), k.float(), critical * factor * TEMPERATURES)
        entropy, square = by_temperature["entropy"] / math.log(n), by_temperature["participation"]
        return Measurement(
            values={
                "gap": max(gap for gap, _ in tested),
                "excess": min(excess for _, excess in tested),
                "half": crossing(entropy, 0.5) / 2**0.5,
                "frozen": crossing(-square, -0.5) / 0.5,
                "width": crossing(entropy, 0.75) / crossing(entropy, 0.25),
            },
            arrays={
                "entropy": entropy,
                "participation": square,
                "free energy": by_temperature["free energy"] * critical,
                "strongest": by_temperature["strongest"],
            },
        )

    def judge(self, results: Results) -> Verdict:
        return Verdict.of(
            [
                Part(
                    "the free energy is −τ log Σ exp(−E/τ) and E − τH, to rounding",
                    results.summary(MOST, "gap"), "at most", 1e-12, "relative gap",
                ),
                Part(
                    "no other distribution that was tried has less, to rounding",
                    results.summary(MOST, "excess"), "at least", -1e-12, "τ",
                ),
                Part(
                    "with 32768 keys half the entropy is gone within a tenth of the predicted temperature: from below",
                    results.summary(MOST, "half"), "at least", 0.9, "times the prediction",
                ),
                Part(
                    "and from above",
                    results.summary(MOST, "half"), "at most", 1.1, "times the prediction",
                ),
                Part(
                    "with 32768 keys Σp² is a half at most a fifth above the predicted temperature",
                    results.summary(MOST, "frozen"), "at most", 1.2, "times the prediction",
                ),
                Part(
                    "with 32768 keys the crossover is at most 0.8 times as wide as with 64",
                    results.ratio(MOST, FEW, "width"), "at most", 0.8, "times",
                ),
                Part(
                    "with 64 keys, as in a short context, the model's temperature is already right to a tenth",
                    results.summary(FEW, "half"), "at least", 0.9, "times the prediction",
                ),
            ],
            control=Part(
                "weights at 2τ have no more free energy at τ than other distributions",
                results.summary(WRONG, "excess"), "at least", -1e-12, "τ",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        most, few = (number(results.summary(arm, "half").estimate) for arm in (MOST, FEW))
        return (
            f"Softmax weights minimize energy − temperature × entropy to {number(results.summary(MOST, 'gap').high)}. With 32,768 "
            f"keys half of their entropy is gone at {most} of the temperature that the random energy model predicts; with 64 "
            f"keys, as in a short context, at {few} of it."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        t, arms = TEMPERATURES, (FEW, SOME, MANY, MOST)
        model = {
            "entropy": np.clip(1 - t**-2.0, 0, None),
            "participation": np.clip(1 - t, 0, None),
            "free energy": np.where(t < 1, -1.0, -(t + 1 / t) / 2),
        }
        labels = {"entropy": "entropy / log n", "participation": "Σ p²", "free energy": "F / σ√(2 log n)"}

        def by_temperature(name: str) -> dict[str, np.ndarray]:
            return {arm: results.stack(arm, name) for arm in arms} | {"random energy model, n → ∞": model[name][None]}

        strongest = {arm: np.mean(results.stack(arm, "strongest"), axis=0) for arm in (FEW, MOST)}
        return [
            Picture(
                "Entropy, the sum of squared weights, and free energy of a row by temperature: the median over seeds, the "
                "middle half, and the limit of many keys. Below τ_c a few keys hold all the weight; above it the entropy "
                "rises toward log n.",
                *(figures.curves(by_temperature(name), list(t), "τ / τ_c", labels[name]) for name in model),
            ),
            Picture(
                f"The weights of the {STRONGEST} strongest of 64 keys and of 32768, by temperature, in the mean over queries; "
                "what is left blank is shared by all other keys.",
                *(
                    figures.stacked_area(t, weights, f"{arm}, no.", "τ / τ_c", "weight")
                    for arm, weights in strongest.items()
                ),
            ),
            Picture(
                "A dot for each seed, and the mean with its interval. The prediction is 1, for the width √3.",
                *comparison(results, ["half", "frozen", "width"]),
            ),
        ]


def points(n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Unit queries and Gaussian keys, for which the scores of a row are n independent normal numbers with σ = 1."""
    q, k = (torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64) for rows in (QUERIES, n))
    return q / q.norm(dim=-1, keepdim=True), k


def minimum(
    q: Float[Tensor, "n d"], k: Float[Tensor, "m d"], tau: float, factor: float, generator: torch.Generator
) -> tuple[float, float]:
    """(the relative error of F against its two formulas; the least of (F(p) − F)/τ over other distributions p).

    The weights have the temperature `factor` times τ. With a factor other than 1 they do not minimize F, which tests
    that the measure detects this.
    """
    attention = Attention(q, k, Dot(), scale=1 / (factor * tau))
    energy, entropy = -(q * (attention @ k)).sum(-1), attention.entropy()
    own = attention.free_energy() if factor == 1 else energy - tau * entropy
    energies = -q @ k.mT
    formula = -tau * torch.logsumexp(-energies / tau, -1)
    gap = max(float(((own - other) / formula).abs().max()) for other in (formula, energy - tau * entropy))
    rivals = torch.stack([(energies * p).sum(-1) - tau * torch.special.entr(p).sum(-1)
                          for p in others(energies / tau, generator)])  # fmt: skip
    return gap, float((rivals - own).min() / tau)


def others(energies: Float[Tensor, "n m"], generator: torch.Generator) -> list[Float[Tensor, "n m"]]:
    """Distributions other than softmax(−E): with small or large disturbances, hotter, colder, uniform, and one-hot."""
    noise = torch.randn(energies.shape, generator=generator, dtype=energies.dtype)
    disturbed = [(-energies + size * noise).softmax(-1) for size in (0.01, 0.1, 1.0)]
    warmer = [(-energies / factor).softmax(-1) for factor in (0.5, 0.9, 1.1, 2.0)]
    best = torch.nn.functional.one_hot(energies.argmin(-1), energies.shape[-1]).to(energies.dtype)
    return [*disturbed, *warmer, torch.full_like(energies, 1 / energies.shape[-1]), best]


def phases(q: Float[Tensor, "n d"], k: Float[Tensor, "m d"], temperatures: np.ndarray) -> dict[str, np.ndarray]:
    """The means over queries at each temperature of the entropy, Σp², the free energy, and the largest weights.

    Σ_j p_j² = exp(L(2s) − 2 L(s)) with the log-normalizer L(s) of scores s. The scores 2s are those at half the
    temperature, which is one octave below on the grid.
    """
    at = [Attention(q, k, Dot(), scale=1 / float(tau)) for tau in temperatures]
    colder = [Attention(q, k, Dot(), scale=2 / float(tau)) for tau in temperatures[:PER_OCTAVE]]
    normalizers = [attention.logsumexp() for attention in (*colder, *at)]
    square = [(twice - 2 * once).exp() for twice, once in zip(normalizers, normalizers[PER_OCTAVE:], strict=False)]
    found = {
        "entropy": [attention.entropy() for attention in at],
        "participation": square,
        "free energy": [attention.free_energy() for attention in at],
    }
    means = {name: np.array([float(values.mean()) for values in rows]) for name, rows in found.items()}
    strongest = [attention.topk(STRONGEST).weights.mean(0).numpy() for attention in at]
    return means | {"strongest": np.stack(strongest)}


def crossing(rising: np.ndarray, level: float) -> float:
    """The temperature in units of τ_c at which a rising function reaches the level, interpolated on the grid."""
    return float(np.exp(np.interp(level, rising, np.log(TEMPERATURES))))
