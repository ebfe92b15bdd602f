"""Attention on shapes: each arm is what its name says, and what is measured is what is meant."""

import math
import re

import numpy as np
import pytest
import torch

from limelight import Attention
from limelight.claims import attention_on_shapes as claim
from limelight.data import human_bodies
from limelight.data.articulated_bodies import Bodies, articulated_bodies
from limelight.experiment import catalog
from limelight.experiment.claim_file import load
from tests.data.scanned_bodies import write_bodies


def seeded(seed=1000):
    return torch.Generator().manual_seed(seed)


def small(count, points=30):
    return articulated_bodies(count, points, seeded(), bend=0.2).standardized()


@pytest.mark.parametrize(("weights", "scale"), [(claim.WEIGHTS, 1 / math.sqrt(claim.WIDTH)), (claim.PAPER_WEIGHTS, 1)])
@pytest.mark.parametrize("arm", claim.WEIGHTS)
def test_the_weights_of_each_arm_by_its_equation(arm, weights, scale):
    h, attention = torch.randn(5, claim.WIDTH), weights[arm]()
    if arm in (claim.METRIC, claim.EUCLIDEAN):
        similarity = attention.similarity
        phi = similarity.phi if scale == 1 else similarity.similarity.phi
        half = 1 if scale == 1 else 0.5  # the paper's score has no factor ½
        scores = -half * scale * torch.cdist(phi(h), phi(h)).square()
    elif arm == claim.DOT:
        scores = scale * attention.query(h) @ attention.key(h).T
    else:
        scores = torch.zeros(5, 5) if arm == claim.MEAN else torch.where(torch.eye(5) > 0, 0.0, -torch.inf)
    P = attention(h)
    torch.testing.assert_close(P if arm == claim.ALONE else P.dense(), scores.softmax(-1), atol=1e-4, rtol=1e-3)


def test_a_linear_metric_is_linear_and_the_other_is_not():
    a, b = torch.randn(2, claim.WIDTH)
    for arm, linear in ((claim.EUCLIDEAN, True), (claim.METRIC, False)):
        phi = claim.PAPER_WEIGHTS[arm]().similarity.phi
        assert torch.allclose(phi(a) + phi(b), phi(a + b), atol=1e-5) == linear


def test_the_two_recipes_turn_bodies_as_they_say(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 3)
    monkeypatch.setattr(claim, "PAPER_STEPS", 3)
    bodies = small(6)
    for recipe, upright in ((claim.transformer(), False), (claim.papers(), True)):
        found = claim.trained(claim.ALONE, recipe, bodies[:4], bodies[4:], 0.01, seeded())
        height = torch.tensor(found.arrays["points"])[:, 2]
        assert torch.allclose(height, bodies.points[4, :, 2], atol=1e-5) == upright


def test_parts_that_the_height_tells_are_learned_and_noise_costs_accuracy(monkeypatch):
    monkeypatch.setattr(claim, "PAPER_STEPS", 150)
    bodies = small(24)
    told = Bodies(bodies.points, bodies.normals, (bodies.points[..., 2] > 0).long())
    found = claim.trained(claim.ALONE, claim.papers(), told[:16], told[16:], 0.03, seeded())
    values = found.values
    assert values["accuracy"] > 0.95
    assert 0 < values["steps"] < 150
    assert 0.01 < values["lost"] < 0.5
    assert values["noisy accuracy"] == pytest.approx(values["accuracy"] - values["lost"])
    assert found.arrays["accuracy by noise"][-1] < values["noisy accuracy"]
    assert found.arrays["part to part"].shape == (2, 2)


def test_a_point_alone_does_not_see_the_others_and_with_attention_it_does(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 5)
    bodies = small(6)
    moved = bodies.points.clone()
    moved[4, 0] += 5.0  # of the first unseen body one point

    def weight(arm):
        torch.manual_seed(0)
        first = claim.trained(arm, claim.transformer(), bodies[:4], bodies[4:], 0.01, seeded())
        torch.manual_seed(0)
        other = Bodies(moved, bodies.normals, bodies.parts)
        second = claim.trained(arm, claim.transformer(), other[:4], other[4:], 0.01, seeded())
        return [found.values["own part"] for found in (first, second)]

    assert weight(claim.ALONE) == [1.0, 1.0]
    assert weight(claim.MEAN)[0] == pytest.approx(weight(claim.MEAN)[1])  # equal weights whatever the points are
    assert weight(claim.METRIC)[0] != pytest.approx(weight(claim.METRIC)[1], abs=1e-6)


def test_steps_are_counted_by_the_mean_loss_of_the_last_ten():
    losses = np.array([1.0] * 20 + [0.0] * 20)
    assert claim.steps_to(losses, 0.5) == 24.0  # losses 15 to 24 have the mean 0.5
    assert claim.steps_to(losses, 0.0) == 29.0
    assert claim.steps_to(np.full(30, 0.7), 0.5) == 30.0
    one_lucky_batch = np.full(30, 0.7)
    one_lucky_batch[12] = 0.1
    assert claim.steps_to(one_lucky_batch, 0.5) == 30.0


def test_parts_are_compared_by_hand():
    parts, predicted = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 0, 1, 1]])
    torch.testing.assert_close(
        claim.part_to_part(predicted, parts, 3), torch.tensor([[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 0, 0]])
    )
    P = Attention(torch.zeros(1, 4, 1), torch.zeros(1, 4, 1))
    assert claim.own_part(P, parts, 2) == pytest.approx((3 * 0.75 + 0.25) / 4)
    assert claim.own_part(torch.eye(4), parts, 2) == 1.0


def test_a_trial_has_the_values_of_its_own_rate_and_of_the_paper_s_network(monkeypatch):
    for name, value in (("STEPS", 3), ("PAPER_STEPS", 3), ("TRAIN", 4), ("TEST", 2)):
        monkeypatch.setattr(claim, name, value)
    asked, trained = [], claim.trained

    def recorded(arm, recipe, seen, unseen, rate, generator):
        asked.append((recipe.network.__name__, rate, len(seen), len(unseen)))
        return trained(arm, recipe, seen, unseen, rate, generator)

    monkeypatch.setattr(claim, "trained", recorded)
    monkeypatch.setattr(claim.AttentionOnShapes, "chosen", {claim.DOT: 0.003})
    one = catalog.claim("attention_on_shapes")
    found = one.measure(claim.DOT, 5)
    assert asked == [("SurfaceNetwork", 0.003, 4, 2), ("PlainSurfaceNetwork", claim.PAPER_RATE, 4, 2)]
    assert {*found.values} == {*one.measures}


def test_the_search_and_a_trial_measure_the_same(monkeypatch):
    for name, value in (("STEPS", 5), ("PAPER_STEPS", 2), ("TRAIN", 4), ("TEST", 2)):
        monkeypatch.setattr(claim, name, value)
    one = catalog.claim("attention_on_shapes")
    torch.manual_seed(0)
    whole = one.measure(claim.METRIC, 7)
    torch.manual_seed(0)
    searched = one.measure_at(claim.METRIC, one.chosen[claim.METRIC], 7)
    assert whole.values[one.score] == searched.values[one.score]


def test_the_file_of_the_docstring_runs_the_same_on_scanned_bodies(tmp_path, monkeypatch):
    text = re.search(r"    from limelight.*generator\)\n", claim.__doc__, re.DOTALL).group()
    lines = [line.removeprefix("    ") for line in text.splitlines()]
    write_bodies(tmp_path)
    path = tmp_path / "attention_on_scans.py"
    path.write_text("\n".join(lines).replace("folder/of/bodies", str(tmp_path)))
    for name, value in (("STEPS", 10), ("PAPER_STEPS", 10), ("TRAIN", 3)):
        monkeypatch.setattr(claim, name, value)
    monkeypatch.setattr(human_bodies, "UNSEEN", 2)
    on_scans = load(str(path))
    assert on_scans.name == "attention_on_scans"
    assert [len(bodies) for bodies in on_scans.bodies(seeded())] == [3, 2]
    found = on_scans.measure(claim.METRIC, 0)
    assert 0 <= found.values["accuracy"] <= 1
    assert found.arrays["part to part"].shape == (8, 8)
