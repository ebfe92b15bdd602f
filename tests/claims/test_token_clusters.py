"""Tokens on a sphere: the count of clusters, the dynamics against its equation, and the slider."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from limelight import figures
from limelight.claims import token_clusters as claim
from limelight.claims.token_clusters import TokenClusters, clusters, on_sphere, start, trajectory


@settings(max_examples=40, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_tight_groups_far_apart_are_counted(sizes):
    centers = 2 * torch.eye(5, dtype=torch.float64)
    noise = torch.randn(sum(sizes), 5, generator=torch.Generator().manual_seed(1000), dtype=torch.float64)
    x = torch.repeat_interleave(centers[: len(sizes)], torch.tensor(sizes), 0) + 1e-4 * noise
    assert float(clusters(x)) == pytest.approx(len(sizes), abs=1e-4)


def test_clusters_are_counted_for_each_of_a_batch():
    x = torch.stack([start(1000, 3), start(1001, 3)])
    torch.testing.assert_close(clusters(x), torch.stack([clusters(part) for part in x]))


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_two_tokens_follow_their_equation(beta):
    """c = ⟨x, y⟩ obeys dc/dt = 2 (1 − c²)/(1 + exp β(1 − c))."""
    x = on_sphere(torch.tensor([[1.0, 0.0, 0.0], [-0.5, 1.0, 0.2]], dtype=torch.float64))
    path = trajectory(x, beta, 1.0)
    found = (path[:, 0] * path[:, 1]).sum(-1).numpy()
    exact = solve_ivp(
        lambda _, c: 2 * (1 - c**2) / (1 + np.exp(beta * (1 - c))),
        (0, claim.TIME), [found[0]], t_eval=np.arange(claim.TIME + 1), rtol=1e-10, atol=1e-12,
    )  # fmt: skip
    assert np.abs(found - exact.y[0]).max() < 0.003
    assert exact.y[0][-1] > 0.99


def test_tokens_stay_on_their_sphere_and_equal_tokens_stay_equal(monkeypatch):
    monkeypatch.setattr(claim, "TIME", 5)
    x = start(1000, 3)[:5].repeat(2, 1)
    path = trajectory(x, 4.0, 1.0)
    torch.testing.assert_close(path.norm(dim=-1), torch.ones(path.shape[:-1], dtype=torch.float64))
    torch.testing.assert_close(path[:, :5], path[:, 5:], atol=1e-12, rtol=0)


def test_turning_all_tokens_turns_the_path(monkeypatch):
    monkeypatch.setattr(claim, "TIME", 5)
    x = start(1000, 3)[:8]
    turn = torch.linalg.qr(start(1001, 3)[:3]).Q
    torch.testing.assert_close(trajectory(x @ turn, 4.0, 1.0), trajectory(x, 4.0, 1.0) @ turn, atol=1e-11, rtol=0)


def test_the_arms_differ_as_claimed_on_one_seed(monkeypatch):
    monkeypatch.setattr(claim, "TIME", claim.MIDDLE)
    monkeypatch.setattr(claim, "FRAMES", (0, 10, 20))
    found = {arm: TokenClusters().measure(arm, 1000) for arm in TokenClusters.arms}
    end = {arm: measured.values["end"] for arm, measured in found.items()}
    assert end[claim.FLAT] == pytest.approx(1)
    assert end[claim.WIDE] == pytest.approx(1)
    assert found[claim.SHARPER].values["middle"] >= 4
    assert end[claim.REPEL] > found[claim.REPEL].arrays["clusters"][0]
    assert found[claim.FLAT].values["alone"] < found[claim.SHARP].values["alone"]
    assert found[claim.FLAT].arrays["tokens"].shape == (len(claim.FRAMES), claim.TOKENS, 3)
    assert "tokens" not in found[claim.WIDE].arrays


def test_the_slider_shows_one_time_after_another():
    times, points = (0, 1, 5), np.random.default_rng(0).normal(size=(3, 7, 3))
    (figure,) = figures.spheres({"tokens": points, "absent": None}, times)
    wires, *frames = figure.data
    assert [frame.visible for frame in frames] == [False, True, False]
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["0", "1", "5"]
    for i, step in enumerate(steps):
        assert step.method == "restyle"
        assert step.args[0]["visible"] == [True, *(j == i for j in range(3))]
    assert figure.layout.sliders[0].active == 1
    np.testing.assert_allclose(frames[2].x, points[2, :, 0])
    lengths = np.linalg.norm([wires.x, wires.y, wires.z], axis=0)
    np.testing.assert_allclose(lengths[np.isfinite(lengths)], 1)
