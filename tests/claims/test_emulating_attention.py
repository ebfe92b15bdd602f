"""Emulating attention: students have the sizes that are given, and unreached goals stay unreached."""

import numpy as np
import pytest
import torch

from limelight.claims import emulating_attention as claim
from limelight.data.soft_lookup import SHARPNESS, soft_lookup
from limelight.errors import DivergenceError
from limelight.experiment.results import Record, Results

CLAIM = claim.EmulatingAttention()


def seeded(seed=1000):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("arm", CLAIM.arms)
def test_the_students_have_the_sizes_that_are_given(arm):
    for tokens in claim.TOKENS:
        count = sum(p.numel() for p in claim.ARMS[arm](1, tokens).parameters())
        assert f"{count:,}" in CLAIM.arms[arm]


def test_the_attention_layer_can_be_the_teacher():
    student = claim.ARMS[claim.ATTENTION](len(claim.EXAMPLES), 4)
    with torch.no_grad():
        for matrix, row in ((student.layer.query, 0), (student.layer.key, 1), (student.layer.value, 2)):
            matrix.zero_()
            matrix[:, row, 0] = 1
        student.layer.query *= SHARPNESS * claim.WIDTH**0.5
    assert claim.variance_explained(student, *soft_lookup(500, 4, seeded())) == pytest.approx(1, abs=1e-5)


def test_a_network_that_always_says_the_mean_explains_nothing():
    x, y = soft_lookup(500, 4, seeded())
    constant = torch.nn.Module()
    constant.forward = lambda given: y.mean().expand(len(given), *y.shape)
    assert claim.variance_explained(constant, x, y) == pytest.approx(0, abs=1e-2)


def test_products_are_those_of_each_query_with_each_key():
    student, x = claim.Student(1, 2, (), products=True), torch.randn(1, 5, 2, 3)
    with torch.no_grad():
        for part in (*student.network.weights, *student.network.biases):
            part.zero_()
        student.network.weights[0][0, 6 + 1, 0] = 1  # the product of the first query and the second key
    torch.testing.assert_close(student(x)[0, :, 0], x[0, :, 0, 0] * x[0, :, 1, 1])


def test_a_student_sees_the_examples_of_its_set_and_the_last_one_new_ones(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 40)
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(len(claim.EXAMPLES), 1, 1))

        def forward(self, x):
            if x.shape[1] == claim.BATCH:
                seen.append(x)
            return self.bias.expand(-1, x.shape[1], x.shape[2])

    claim.learning_curves(Spy(), 0.01, 2, seeded())
    each = torch.cat(seen, 1)
    different = [len(one.flatten(1).unique(dim=0)) for one in each]
    assert different[0] == claim.SETS[0]
    assert different[1] == claim.SETS[1]
    assert different[-1] == 40 * claim.BATCH


def test_a_network_that_diverges_is_reported():
    with pytest.raises(DivergenceError):
        claim.learning_curves(claim.ARMS[claim.LINEAR](len(claim.EXAMPLES), 2), float("inf"), 2, seeded())


def test_what_is_measured_is_the_step_that_is_best_on_the_held_out_examples(monkeypatch):
    sets = len(claim.EXAMPLES)
    held, tested = (
        np.array([[0.1] * sets, [0.9] * sets, [0.5] * sets]),
        np.array([[0.2] * sets, [0.3] * sets, [0.8] * sets]),
    )
    monkeypatch.setattr(claim, "learning_curves", lambda *_: (held, tested))
    found = CLAIM.measure_at(claim.LINEAR, 0.01, 1000)
    assert list(found.values.values()) == pytest.approx([0.3] * (sets + 1))


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.95, 0.96, 0.97, 0.98, 0.99], 16),  # at most
        ([0.1, 0.2, 0.3, 0.4, 0.89], np.inf),
        ([0.1, 0.9, 0.95, 0.96, 0.99], 128),
        ([0.1, 0.2, 0.8, 1.0, 1.0], (1024 * 8192) ** 0.5),
    ],
)
def test_the_goal_is_where_the_curve_crosses_it(curve, expected):
    assert claim.crossing(np.array(curve)) == pytest.approx(expected)


def results(**arms):
    """Ten seeds of each arm, whose explained variances are the same for all numbers of tokens."""
    records = [
        Record(
            CLAIM.name, arm, seed, "done",
            values={claim.explained(t, n): x for t in claim.TOKENS for n, x in zip(claim.EXAMPLES, curve, strict=True)}
            | {"mean": 0.0},
        )
        for arm, curve in arms.items()
        for seed in range(10)
    ]  # fmt: skip
    return Results(list(arms), CLAIM.measures, records)


def test_times_as_many_compares_what_is_needed_and_keeps_what_is_not_reached():
    found = results(soon=[0.0, 0.9, 1, 1, 1], late=[0.0, 0.0, 0.0, 0.9, 1], never=[0.0] * 5)
    needed = {arm: claim.examples_needed(found, arm, 4) for arm in found.arms}
    assert claim.times_as_many(needed["late"], needed["soon"]).estimate == pytest.approx(64)
    assert claim.times_as_many(needed["never"], needed["soon"]).estimate == np.inf
    assert claim.times_as_many(needed["soon"], needed["never"]).estimate == 0
    assert claim.times_as_many(needed["never"], needed["never"]).estimate == 1


def test_numbers_of_examples_in_words():
    assert claim.in_words(16) == "at most 16"
    assert claim.in_words(np.inf) == f"more than {claim.FRESH:,}"
    assert claim.in_words(5612.3) == "about 5,600"
    assert claim.in_words(131_313.0) == "about 130,000"
