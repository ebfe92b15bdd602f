"""What helps a gate to find its lines: a start from clusters, and several starts of which the best is kept."""

import numpy as np
import pytest
import torch

from limelight.claims import slopes as claim
from limelight.data.slope_bands import CENTERS
from limelight.errors import DivergenceError
from limelight.experiment import catalog
from limelight.models.mixture_of_linear_experts import MixtureOfLinearExperts


def data(*seeds):
    return claim.points_of([torch.Generator().manual_seed(seed) for seed in seeds], claim.POINTS, noise=claim.NOISE)


def test_started_from_clusters_each_expert_answers_in_its_own_band():
    points, _ = data(0, 1)
    gates = MixtureOfLinearExperts(inputs=2, experts=5, networks=2)
    claim.start_from_clusters(gates, points)
    middles = torch.tensor([[0.7, y] for y in CENTERS])
    with torch.no_grad():
        for weights in gates.attention(middles).dense():
            assert weights.max(-1).values.min() > 0.95
            assert sorted(weights.argmax(-1).tolist()) == list(range(5))


def test_of_several_starts_the_one_with_the_least_training_error_is_kept(monkeypatch):
    monkeypatch.setattr(claim, "LATE", 20)
    arm = claim.Arm(claim.gates(5))
    points, z = data(0, 1)
    ten = (points.repeat_interleave(5, 0), z.repeat_interleave(5, 0))
    _, alone = claim.fit(arm, ten, 0.03, 60, seed=0)
    networks, errors = claim.fit(claim.ARMS[claim.BEST], (points, z), 0.03, 60, seed=0)
    assert len({round(float(each[-1]), 4) for each in alone}) == 10
    for run, starts in enumerate((alone[:5], alone[5:])):
        best = min(starts, key=lambda each: each[-20:].mean())
        np.testing.assert_array_equal(errors[run], best)
    with torch.no_grad():
        np.testing.assert_allclose(claim.relative_error(networks, points, z), errors[:, -1], rtol=0.1)


@pytest.mark.parametrize("name", [claim.TEN, claim.STARTED, claim.LARGE])
def test_a_network_learns_what_it_learns_without_its_companions(name):
    arm = claim.ARMS[name]
    train, other = data(0, 1, 2), data(0, 3, 4)
    (_, errors), (_, others) = (claim.fit(arm, given, 0.01, 30, seed=0) for given in (train, other))
    np.testing.assert_allclose(errors[0], others[0], rtol=1e-4)
    assert not np.allclose(errors[1], others[1], rtol=1e-2)


def test_one_network_that_diverges_leaves_the_others_alone(monkeypatch):
    points_of, points = claim.points_of, []

    def with_one_that_is_huge(*given, **how):
        found, z = points_of(*given, **how)
        points.append(found)
        return found, z * torch.tensor([[1.0], [1e30], [1.0]]) if len(points) == 1 else z

    monkeypatch.setattr(claim, "points_of", with_one_that_is_huge)
    for name, value in {"RUNS": 3, "STEPS": 30, "LATE": 5}.items():
        monkeypatch.setattr(claim, name, value)
    slopes = catalog.claim("slopes")
    slopes.measure(claim.LARGE, 0)
    slopes.measure(claim.LARGE, 2)
    with pytest.raises(DivergenceError, match="NaN or infinite"):
        slopes.measure(claim.LARGE, 1)
    claim.measured.cache_clear()


def test_a_trial_is_the_same_whichever_seed_of_its_ten_is_asked_for_first(monkeypatch):
    for name, value in {"RUNS": 2, "STEPS": 20, "LATE": 5}.items():
        monkeypatch.setattr(claim, name, value)
    slopes, found = catalog.claim("slopes"), []
    for seeds in ((0, 1), (1, 0)):
        claim.measured.cache_clear()
        found.append({seed: slopes.measure(claim.GATE, seed).values for seed in seeds})
    claim.measured.cache_clear()
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_weight_decay_is_what_its_arm_has_besides():
    plain, decayed = claim.ARMS[claim.LARGE], claim.ARMS[claim.DECAYED]
    assert (plain.decay, decayed.decay) == (0.0, 1e-4)
    assert str(plain.build(1)) == str(decayed.build(1))
    last = []
    for arm in (plain, claim.Arm(plain.build, decay=1.0)):
        networks, _ = claim.fit(arm, data(0), 0.01, 100, seed=0)
        last.append(sum(float(x.detach().square().sum()) for x in networks.parameters()))
    assert last[1] < 0.7 * last[0]


def test_all_arms_try_the_same_rates():
    for name in ("slopes", "dynamic_weights"):
        tuned = catalog.claim(name)
        assert set(tuned.chosen) == set(tuned.arms)
        assert set(tuned.chosen.values()) <= set(tuned.rates)
