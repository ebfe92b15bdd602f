"""Active memory: what counts as solved, the curriculum, equal sizes, and no look at what has to be predicted."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from limelight.claims import active_memory as claim
from limelight.claims.active_memory import ALONE, ARMS, ATTENTION, BEFORE, BOTH, GATED, ActiveMemory
from limelight.data.algorithmic import ALPHABET, TASKS
from limelight.data.documentation_text import CHARACTERS
from limelight.experiment.results import Record, Results
from limelight.mask import causal


def seeded(seed=1000):
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


class Answers(nn.Module):
    """Logits that favor given symbols. Its one parameter lets it be trained."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, targets):
        return 10 * self.weight * nn.functional.one_hot(targets, ALPHABET).float()


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_all_arms_have_about_as_many_parameters_and_say_how_many():
    sizes = {arm: parameters(claim.transformer(arm, ALPHABET, 16, claim.AROUND)) for arm in ARMS}
    for arm, size in sizes.items():
        assert f"{size:,} parameters" in ActiveMemory.arms[arm]
    texts = [parameters(claim.transformer(arm, len(CHARACTERS), claim.TEXT_LENGTH, BEFORE, causal)) for arm in ARMS]
    for found in (sizes.values(), texts):
        assert max(found) / min(found) < 1.21


@pytest.mark.parametrize("arm", ARMS)
def test_no_arm_sees_what_it_has_to_predict(arm):
    seeded()
    model = claim.transformer(arm, len(CHARACTERS), claim.TEXT_LENGTH, BEFORE, causal)
    x = torch.randint(len(CHARACTERS), (2, claim.TEXT_LENGTH), generator=seeded())
    other = x.clone()
    other[:, 9:] = (x[:, 9:] + 1) % len(CHARACTERS)
    with torch.no_grad():
        before, after = model(x), model(other)
    torch.testing.assert_close(after[:, :9], before[:, :9], atol=1e-6, rtol=0)
    assert (after[:, 9:] != before[:, 9:]).any(-1).all()


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != ALONE])
def test_the_first_symbol_can_reach_the_last_one_of_the_longest_sequences(arm):
    seeded()
    model = claim.transformer(arm, ALPHABET, 16, claim.AROUND).double()
    x = torch.zeros(1, 16, dtype=torch.long)
    other = x.clone()
    other[:, 0] = 1
    assert (model(other)[0, -1] != model(x)[0, -1]).any()


def test_only_what_is_asked_for_counts():
    drawn = TASKS["remember"](50, 8, seeded())
    logits = nn.functional.one_hot(drawn.targets, ALPHABET) * 20.0
    answers = lambda _: logits.where(drawn.asked[..., None], torch.zeros(()))  # noqa: E731
    assert claim.share_right(answers, drawn) == 1
    assert claim.errors(answers, drawn) < 1e-6
    logits[0, -1] = -logits[0, -1]  # one of the hundred symbols that are asked for
    assert claim.share_right(answers, drawn) == pytest.approx(0.99)
    assert claim.errors(answers, drawn) == pytest.approx((20 + math.log(10)) / 100, rel=1e-3)


def test_a_length_is_added_when_the_one_before_is_solved(monkeypatch):
    """A model that answers rightly up to 8 symbols solves 4, 6 and 8 in three tests, and stays there."""
    lengths = []

    class UpTo8(Answers):
        def forward(self, inputs):
            lengths.append(inputs.shape[-1])
            right = 1 - inputs if inputs.shape[-1] <= 8 else inputs
            return super().forward(right)

    monkeypatch.setattr(claim, "transformer", lambda *_: UpTo8())
    monkeypatch.setattr(claim, "STEPS", 6 * claim.CHECK)
    found = claim.lengths_solved(GATED, "not", 1e-9, seeded())
    assert found.tolist() == [0, 4, 6, 8, 8, 8, 8]
    assert lengths == [n for n in (4, 6, 8, 12, 12, 12) for _ in range(claim.CHECK + 1)]


@pytest.mark.parametrize(("right", "longest"), [(0.99, 16), (0.989, 0), (1.0, 16)])
def test_a_length_is_solved_with_99_of_100_symbols_right(right, longest, monkeypatch):
    monkeypatch.setattr(claim, "transformer", lambda *_: Answers())
    monkeypatch.setattr(claim, "share_right", lambda model, drawn: right)
    assert claim.lengths_solved(GATED, "not", 1e-9, seeded())[-1] == longest


def test_training_ends_when_all_is_solved(monkeypatch):
    steps = []

    class Right(Answers):
        def forward(self, inputs):
            steps.append(1)
            return super().forward(1 - inputs)

    monkeypatch.setattr(claim, "transformer", lambda *_: Right())
    found = claim.lengths_solved(GATED, "not", 1e-9, seeded())
    assert found.tolist()[:7] == [0, 4, 6, 8, 12, 16, 16]
    assert found[-1] == 16
    assert len(steps) == 5 * (claim.CHECK + 1)


def test_a_uniform_guess_needs_the_logarithm_of_the_alphabet():
    text = torch.randint(len(CHARACTERS), (3, 9), generator=seeded())
    guess = lambda x: torch.zeros(*x.shape, len(CHARACTERS))  # noqa: E731
    assert float(claim.next_character(guess, text)) / math.log(2) == pytest.approx(math.log2(len(CHARACTERS)))
    known = lambda x: 50.0 * nn.functional.one_hot(text[:, 1:], len(CHARACTERS))  # noqa: E731
    assert claim.next_character(known, text) < 1e-6


def test_runs_are_compared_in_pairs():
    lengths = {GATED: [8, 8, 12], ATTENTION: [6, 8, 16], BOTH: [0, 0, 0]}
    records = [
        Record("active_memory", arm, seed, "done", values={"add": float(length)})
        for arm, found in lengths.items()
        for seed, length in enumerate(found)
    ]
    results = Results(lengths, {"add": ActiveMemory.measures["add"]}, records)
    assert claim.longer(results, GATED, ATTENTION, "add").estimate == pytest.approx(1 / 3)
    assert claim.longer(results, ATTENTION, GATED, "add").estimate == pytest.approx(1 / 3)
    assert claim.longer(results, GATED, BOTH, "add").estimate == 1


def test_shares_of_lengths():
    assert [claim.rungs(length) for length in (0, *claim.LENGTHS)] == pytest.approx(np.arange(6) / 5)


def test_without_mixing_nothing_but_not_is_solved(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 60)
    monkeypatch.setattr(claim, "LENGTHS", (4,))
    assert claim.lengths_solved(ALONE, "not", 0.01, seeded())[-1] == 4
    assert claim.lengths_solved(ALONE, "reverse", 0.01, seeded())[-1] == 0
    assert claim.lengths_solved(ATTENTION, "reverse", 0.01, seeded())[-1] == 4
