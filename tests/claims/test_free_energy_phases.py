"""Free energy: the minimum over the simplex, and the quantities that are computed from it for each temperature."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from limelight import Attention, Dot
from limelight.claims import free_energy_phases as claim
from limelight.claims.free_energy_phases import (
    TEMPERATURES,
    FreeEnergyPhases,
    crossing,
    minimum,
    others,
    phases,
    points,
)


def drawn(n=64, seed=1000):
    generator = torch.Generator().manual_seed(seed)
    return *points(n, generator), generator


@settings(max_examples=15, deadline=None, derandomize=True)
@given(n=st.integers(2, 80), seed=st.integers(1000, 10**6), tau=st.floats(0.1, 5.0))
def test_no_other_distribution_has_less_free_energy(n, seed, tau):
    q, k, generator = drawn(n, seed)
    gap, excess = minimum(q[:8], k, tau, 1.0, generator)
    assert gap <= 1e-12
    assert -1e-12 <= excess <= 1e-3  # a change by a hundredth raises it only slightly


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_weights_at_another_temperature_have_more(factor):
    q, k, generator = drawn()
    gap, excess = minimum(q[:8], k, 0.3, factor, generator)
    assert excess < -0.05
    assert gap > 1e-3


def test_an_optimizer_on_the_simplex_finds_attentions_free_energy():
    """SciPy minimizes Σ p E − τH over softmax coordinates, without knowing the solution."""
    q, k, _ = drawn(12)
    tau, energies = 0.4, (-q[0] @ k.mT).numpy()

    def free_energy(z):
        p = np.exp(z - z.max())
        p /= p.sum()
        return float(p @ energies + tau * (p * np.log(p)).sum())

    found = minimize(free_energy, np.zeros(12), method="BFGS", options={"gtol": 1e-7})
    ours = float(Attention(q[:1], k, Dot(), scale=1 / tau).free_energy()[0])
    assert found.fun == pytest.approx(ours, abs=1e-9)
    assert found.fun >= ours - 1e-12


def test_rivals_are_distributions():
    q, k, generator = drawn()
    for p in others(-q @ k.mT, generator):
        assert float(p.min()) >= 0
        torch.testing.assert_close(p.sum(-1), torch.ones(len(q), dtype=torch.float64))


def test_scores_have_the_spread_of_the_model():
    q, k, _ = drawn(4096)
    scores = q @ k.mT
    torch.testing.assert_close(q.norm(dim=-1), torch.ones(len(q), dtype=torch.float64))
    assert float(scores.std()) == pytest.approx(1, abs=0.02)
    assert float(scores.mean()) == pytest.approx(0, abs=0.02)


def test_means_by_temperature_are_those_of_the_matrix():
    q, k, _ = drawn(40)
    found = phases(q, k, TEMPERATURES)
    for i, tau in enumerate(TEMPERATURES):
        p = (q @ k.mT / float(tau)).softmax(-1)
        assert found["entropy"][i] == pytest.approx(float(torch.special.entr(p).sum(-1).mean()), abs=1e-10)
        assert found["participation"][i] == pytest.approx(float(p.square().sum(-1).mean()), rel=1e-10)
        free = -float(tau) * float(torch.logsumexp(q @ k.mT / float(tau), -1).mean())
        assert found["free energy"][i] == pytest.approx(free, rel=1e-10)
        expected = p.sort(-1, descending=True).values[:, : claim.STRONGEST].mean(0)
        np.testing.assert_allclose(found["strongest"][i], expected, rtol=1e-9)


def test_a_crossing_is_found_between_grid_points():
    rising = np.log(TEMPERATURES)
    assert crossing(rising, math.log(1.3)) == pytest.approx(1.3)
    model = np.clip(1 - TEMPERATURES**-2.0, 0, None)
    assert crossing(model, 0.5) == pytest.approx(2**0.5, rel=0.01)
    assert crossing(-np.clip(1 - TEMPERATURES, 0, None), -0.5) == pytest.approx(0.5, rel=0.01)


def test_more_keys_come_nearer_to_the_model():
    found = {arm: FreeEnergyPhases().measure(arm, 1000).values for arm in (claim.FEW, claim.MANY, claim.WRONG)}
    few, many, wrong = (found[arm] for arm in (claim.FEW, claim.MANY, claim.WRONG))
    assert abs(many["half"] - 1) < abs(few["half"] - 1)
    assert 3**0.5 < many["width"] < few["width"]
    assert wrong["excess"] < -0.5 < 0 <= many["excess"]
    assert wrong["half"] < 0.6
