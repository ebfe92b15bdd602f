"""Relevancy screening: what the memory holds, what a step costs, and how the gradients of untrained networks fall."""

import numpy as np
import pytest
import torch

from limelight import DivergenceError
from limelight.claims import relevancy_screening as claim
from limelight.claims.relevancy_screening import FULL, LSTM, OPENED, SCREENED, WINDOW
from limelight.data.copy_memory import LENGTH, SYMBOLS, denoise
from limelight.models.recurrent_attention import LastStates
from tests.claims.brief import cut_short

SEED = 4242  # a seed that is not judged


@pytest.fixture
def brief(monkeypatch):
    return cut_short("relevancy_screening", monkeypatch)


@pytest.mark.slow
def test_each_arm_has_what_its_description_says():
    assert claim.ARMS[LSTM] == (None, 0.0)
    assert claim.ARMS[OPENED][0] is None
    kept = 1 / (1 + np.exp(-claim.ARMS[OPENED][1]))
    assert kept == pytest.approx(1 - 1 / (claim.BLANKS + LENGTH + 1))
    sizes = {arm: claim.cost_of_steps(arm, SEED)["attended"].tolist() for arm in (LSTM, SCREENED, WINDOW)}
    assert sizes == {LSTM: [0] * 4, SCREENED: [10] * 4, WINDOW: [10] * 4}


def test_cost_counts_every_number_that_is_kept(monkeypatch):
    monkeypatch.setattr(claim, "AT", (50, 60))
    state = claim.SEQUENCES * claim.WIDTH * 4  # bytes of one state; the LSTM keeps two of them
    sums = claim.SEQUENCES * 4  # bytes of one number for each sequence
    found = {arm: claim.cost_of_steps(arm, SEED)["bytes"].tolist() for arm in claim.ARMS}
    assert found == {
        LSTM: [2 * state] * 2,
        OPENED: [2 * state] * 2,
        FULL: [52 * state, 62 * state],
        SCREENED: [12 * state + 10 * sums] * 2,
        WINDOW: [12 * state] * 2,
    }


@pytest.mark.slow
def test_gradients_vanish_without_attention_to_the_distant_past():
    found = {arm: claim.untrained_gradients(arm, SEED) for arm in claim.ARMS}
    assert all(len(each[-1]) == claim.DELAYS[-1] + 2 * LENGTH for each in found.values())
    first = {arm: np.log10([each[:LENGTH].mean() for each in curves]) for arm, curves in found.items()}
    assert (np.diff(first[LSTM]) < -5).all(), "ten and more powers of ten where the delay is doubled"
    assert (np.diff(first[WINDOW]) < -2).all()
    assert first[FULL] == pytest.approx(first[FULL].mean(), abs=1)
    assert first[SCREENED] == pytest.approx(first[SCREENED].mean(), abs=1)


def test_held_symbols_are_those_of_which_a_state_is_remembered():
    tokens, _ = denoise(60, claim.BLANKS, torch.Generator().manual_seed(1))
    before = tokens[:, :-LENGTH]
    for size in (1, 7, before.shape[1] - 1):
        networks = claim.networks_of(WINDOW, [SEED])
        networks.memory = lambda size=size: LastStates(size)
        recent = (before[:, -size:] < SYMBOLS).sum() / (60 * LENGTH)
        assert float(claim.held(networks, tokens[None])) == pytest.approx(float(recent))
    assert float(claim.held(claim.networks_of(FULL, [SEED]), tokens[None])) == 1
    assert float(claim.held(claim.networks_of(LSTM, [SEED]), tokens[None])) == 0


@pytest.mark.slow
def test_a_seed_has_the_same_result_whichever_is_asked_for_first(brief):
    first = brief.measure_at(SCREENED, 0.02, SEED).values
    claim.trained.cache_clear()
    brief.measure_at(SCREENED, 0.02, SEED + 1)
    assert brief.measure_at(SCREENED, 0.02, SEED).values == first


def test_arms_of_one_seed_share_their_data_and_the_weights_that_all_have():
    nets = {arm: claim.networks_of(arm, [SEED, SEED + 1]) for arm in claim.ARMS}
    for arm, net in nets.items():
        torch.testing.assert_close(net.recurrent, nets[LSTM].recurrent)
        assert (net.recurrent[0] != net.recurrent[1]).any()
        torch.testing.assert_close(net.recurrent[1], claim.networks_of(arm, [SEED + 1]).recurrent[0])


def test_a_run_that_diverged_is_a_result_of_its_own_seed():
    runs = claim.Runs([False, True], {"accuracy": torch.tensor([0.5, torch.nan])})
    assert float(runs.of(0)["accuracy"]) == 0.5
    with pytest.raises(DivergenceError, match="NaN or infinite"):
        runs.of(1)


def test_the_loss_is_the_mean_over_the_symbols_of_each_sequence():
    said, targets = torch.randn(2, 5, LENGTH, SYMBOLS), torch.randint(SYMBOLS, (2, 5, LENGTH))
    expected = -said.log_softmax(-1).gather(-1, targets[..., None])[..., 0].mean(-1)
    torch.testing.assert_close(claim.cross_entropy(said, targets), expected)
