"""What helps a gate to find its lines: a start from clusters, and several starts of which the best is kept."""

import numpy as np
import torch

from limelight.claims import slopes as claim
from limelight.data.slope_bands import CENTERS
from limelight.data.slope_points import slopes
from limelight.experiment import catalog
from limelight.models.mixture_of_linear_experts import MixtureOfLinearExperts


def data(seed=0):
    return slopes(claim.POINTS, torch.Generator().manual_seed(seed), noise=claim.NOISE)


def test_started_from_clusters_each_expert_answers_in_its_own_band():
    points, _ = data()
    gate = MixtureOfLinearExperts(inputs=2, experts=5)
    claim.start_from_clusters(gate, points)
    middles = torch.tensor([[0.7, y] for y in CENTERS])
    with torch.no_grad():
        weights = gate.attention(middles).dense()
    assert weights.max(-1).values.min() > 0.95
    assert sorted(weights.argmax(-1).tolist()) == list(range(5))


def test_of_several_starts_the_one_with_the_least_training_error_is_kept(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 60)
    monkeypatch.setattr(claim, "LATE", 20)
    torch.manual_seed(0)
    alone = [claim.fit(claim.ARMS[claim.GATE], data(), 0.03) for _ in range(5)]
    torch.manual_seed(0)
    model, errors = claim.fit(claim.ARMS[claim.BEST], data(), 0.03)
    best = min(alone, key=lambda each: each[1][-20:].mean())
    np.testing.assert_allclose(errors, best[1], rtol=1e-3)
    assert len({round(float(each[1][-1]), 4) for each in alone}) == 5
    points, _ = data(1)
    torch.testing.assert_close(model(points), best[0](points), rtol=1e-2, atol=1e-2)


def test_weight_decay_is_what_its_arm_has_besides():
    plain, decayed = claim.ARMS[claim.LARGE], claim.ARMS[claim.DECAYED]
    assert (plain.decay, decayed.decay) == (0.0, 1e-4)
    assert str(plain.build()) == str(decayed.build())


def test_all_arms_try_the_same_rates():
    for name in ("slopes", "dynamic_weights"):
        tuned = catalog.claim(name)
        assert set(tuned.chosen) == set(tuned.arms)
        assert set(tuned.chosen.values()) <= set(tuned.rates)
