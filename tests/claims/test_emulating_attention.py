"""Emulating attention: the teacher is attention as sharp as it says, and errors are those of the best step."""

import numpy as np
import pytest
import torch

from limelight.claims import emulating_attention as claim
from limelight.experiment.results import Record, Results
from limelight.models.attention_layer import AttentionLayer


def seeded(seed=1000):
    return torch.Generator().manual_seed(seed)


def test_the_teacher_is_attention_with_scores_of_the_sharpness():
    layers = [claim.fixed_layer(seeded(seed)) for seed in range(1000, 1200)]
    x = torch.randn(50, claim.TOKENS, claim.WIDTH, generator=seeded())
    scores = torch.stack([layer.scale * layer.query(x) @ layer.key(x).mT for layer in layers])
    assert 0.8 < float(scores.std()) / claim.SHARPNESS < 1.25
    layer = layers[0]
    expected = (layer.scale * layer.query(x) @ layer.key(x).mT).softmax(-1) @ layer.value(x)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)
    assert not any(p.requires_grad for p in layer.parameters())


def test_the_students_have_the_sizes_that_are_told():
    for arm, build in claim.ARMS.items():
        count = sum(p.numel() for p in build().parameters())
        assert f"{count:,} parameters" in claim.EmulatingAttention.arms[arm]


def test_an_attention_layer_and_no_linear_network_can_be_the_teacher():
    teacher = claim.fixed_layer(seeded())
    student = claim.ARMS[claim.ATTENTION]()
    with torch.no_grad():
        student.query.weight.copy_(teacher.scale * teacher.query.weight)
        student.key.weight.copy_(teacher.key.weight)
        student.value.weight.copy_(teacher.value.weight)
    test = claim.examples(teacher, 500, seeded())
    assert claim.error(student, test) < 1e-10
    assert isinstance(student, AttentionLayer)
    constant = torch.nn.Module()
    constant.forward = lambda x: test[1].mean().expand_as(x)
    assert claim.error(constant, test) == pytest.approx(1, abs=1e-3)


def test_errors_are_those_of_the_step_that_is_best_on_the_held_out_examples(monkeypatch):
    monkeypatch.setattr(claim, "SIZES", (8, 16))
    monkeypatch.setattr(claim, "learning_curve", lambda *_: (np.array([3.0, 1.0, 2.0]), np.array([0.3, 0.2, 0.1])))
    found = claim.EmulatingAttention().measure(claim.LINEAR, 1000)
    assert found.values == {"error at 8": 0.2, "error at 16": 0.2}


def test_times_as_far_compares_most_examples_with_fewest():
    measures = claim.EmulatingAttention.measures
    records = []
    for seed in range(10):
        for arm, few, many in ((claim.ATTENTION, 0.01, 0.001), (claim.LARGE, 0.9, 0.2)):
            values = dict.fromkeys(measures, many) | {f"error at {claim.SIZES[0]}": few}
            records.append(Record("emulating_attention", arm, seed, "done", values=values))
    results = Results([claim.ATTENTION, claim.LARGE], measures, records)
    assert claim.times_as_far(results, claim.LARGE).estimate == pytest.approx(20)
