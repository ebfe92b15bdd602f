"""The claim about a translator: each arm changes the memory as it says, and overlaps are counted."""

import pytest
import torch

from limelight.claims import faithful_translation as claim
from limelight.models.marian import TRANSLATOR
from tests.claims.brief import cut_short

SEED = 3


@pytest.fixture
def brief(monkeypatch):
    cut_short("faithful_translation", monkeypatch)


def test_memories_are_what_their_arms_say(brief):
    memory = claim.encoded(SEED)[1]
    memories = {arm: claim.memory_of(arm, SEED) for arm in claim.FaithfulTranslation.arms}
    assert torch.equal(memories[claim.WHOLE], memory)
    rows = {tuple(row) for row in memory.tolist()}
    assert {tuple(row) for row in memories[claim.SHUFFLED].tolist()} == rows
    assert not torch.equal(memories[claim.SHUFFLED], memory)
    torch.testing.assert_close(memories[claim.MEAN], memory.mean(0).expand_as(memory))
    assert (memories[claim.NONE] == 0).all()
    assert memories[claim.WORDS].shape == memory.shape
    assert {tuple(row) for row in memories[claim.WORDS].tolist()} != rows
    assert torch.equal(memories[claim.OTHER], claim.encoded(SEED + 33)[1])


def test_another_order_changes_nothing_and_the_mean_does(brief):
    found = {arm: claim.FaithfulTranslation().measure(arm, SEED).values for arm in claim.FaithfulTranslation.arms}
    for arm in (claim.WHOLE, claim.SHUFFLED):
        assert found[arm]["moved"] < 1e-4
        assert (found[arm]["same"], found[arm]["overlap"]) == (1, 1)
        assert abs(found[arm]["rise"]) < 1e-4
    for arm in (claim.MEAN, claim.NONE, claim.OTHER, claim.WORDS):
        assert found[arm]["moved"] > 0.01


def test_overlap_counts_tokens_as_often_as_they_occur():
    assert claim.shared([1, 2, 2, 3], [3, 2, 2, 1]) == 1
    assert claim.shared([1, 1, 1, 1], [1, 2, 3, 4]) == pytest.approx(2 * 1 / 8)
    assert claim.shared([], [1, 2]) == 0
    assert claim.shared([], []) == 0


def test_weights_of_the_last_layer_are_those_of_the_mean_over_heads(brief):
    source, own, _ = claim.translated(SEED)
    weights = claim.weights_of_last_layer(own, claim.encoded(SEED)[1])
    assert weights.shape == (len(own) + 1, len(source))
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(own) + 1))
    even = claim.weights_of_last_layer(own, claim.memory_of(claim.MEAN, SEED))
    torch.testing.assert_close(even, torch.full_like(even, 1 / len(source)))


@pytest.mark.slow
def test_the_trained_translator_knows_no_order_of_its_memory():
    if problem := TRANSLATOR.missing():
        pytest.skip(problem)
    found = claim.FaithfulTranslation().measure(claim.SHUFFLED, 1000)
    assert found.values["kept"] == 1
    assert found.values["moved"] < 1e-3
