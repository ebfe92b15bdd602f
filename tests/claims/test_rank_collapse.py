"""Rank collapse: the definition of a residual, and the effect of one block of each arm on it."""

import numpy as np
import pytest
import torch

from limelight.claims import rank_collapse as claim
from limelight.claims.rank_collapse import ALONE, CLOSENESS, FIXED, MLP, SKIP, STEEP_MLP, Block, RankCollapse


def setting(seed=1000):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(claim.TOKENS, claim.WIDTH, generator=generator, dtype=torch.float64)
    return x, Block.random(generator)


def test_the_residual_is_what_is_left_without_the_mean():
    x, _ = setting()
    assert claim.residual(x[:1].expand(5, -1)) == pytest.approx(0, abs=1e-15)
    assert claim.residual(torch.cat([x, -x])) == pytest.approx(1)
    assert claim.residual(7 * x) == pytest.approx(claim.residual(x))
    s = torch.linalg.svdvals(x - x.mean(0))
    assert claim.residual(x) == pytest.approx(float(s.square().sum().sqrt() / x.norm()))


@pytest.mark.parametrize(("arm", "power"), [(ALONE, 3), (SKIP, 1), (MLP, 3), (STEEP_MLP, 3), (FIXED, 1)])
@pytest.mark.parametrize("seed", [1000, 1001])
def test_one_block_takes_the_residual_to_a_power(arm, power, seed):
    x, block = setting(seed)
    found = claim.one_block(arm, block, x)
    local = -np.diff(np.log(found)) / np.diff(np.log(CLOSENESS))
    assert local == pytest.approx(np.full(len(local), power), abs=0.1)


def test_attention_alone_is_softmax_of_the_papers_scores():
    x, block = setting()
    weights = ((x @ block.query) @ (x @ block.key).mT / claim.WIDTH**0.5).softmax(-1)
    expected = weights @ x @ block.value
    torch.testing.assert_close(claim.forward(ALONE, block, x, None), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(claim.forward(SKIP, block, x, None), x + expected, atol=1e-12, rtol=1e-12)
    through = block.mlp(expected)
    torch.testing.assert_close(claim.forward(MLP, block, x, None), through, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(claim.forward(STEEP_MLP, block, x, None), claim.STEEP * through, atol=1e-11, rtol=1e-11)


def test_the_network_keeps_lengths_in_the_mean():
    lengths = []
    for seed in range(1000, 1010):
        x, block = setting(seed)
        lengths.append(float(block.mlp(x).norm() / x.norm()))
    assert np.mean(lengths) == pytest.approx(1, abs=0.05)


def test_with_one_p_the_stack_is_a_power_of_it():
    x, first = setting()
    layers = [first, setting(1001)[1], setting(1002)[1]]
    p = first.attention(x).dense()
    expected = p @ p @ p @ x @ layers[0].value @ layers[1].value @ layers[2].value
    torch.testing.assert_close(claim.stack(FIXED, layers, x)[-1], expected, atol=1e-11, rtol=1e-11)


def test_depth_does_to_the_arms_what_the_claim_says_on_one_seed():
    found = {arm: RankCollapse().measure(arm, 1000) for arm in RankCollapse.arms}
    layers = {arm: measured.values["layers"] for arm, measured in found.items()}
    assert layers[ALONE] <= 5 < layers[FIXED]
    assert layers[SKIP] == claim.DEPTH
    assert found[SKIP].values["late"] > 0.01
    assert found[ALONE].values["late"] < 1e-14
    logs = np.log(found[ALONE].arrays["residual"][:5])
    assert (np.diff(logs, 2)[:2] < 0).all(), "it falls faster in each layer than in the one before"
    assert found[STEEP_MLP].values["early"] > found[ALONE].values["early"] > found[MLP].values["early"]
