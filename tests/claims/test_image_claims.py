"""The claims on images: what is measured is what it is called, and broken mechanisms are noticed."""

import numpy as np
import pytest
import torch

from limelight.claims import batch_norm_shift, memorization, presence_to_detection, residual_depth, symmetry
from limelight.data import digits
from limelight.data.cluttered_digits import SIDE, scenes
from limelight.experiment.results import Record, Results
from limelight.interpret.boxes import intersection_over_union
from limelight.models.deep_network import DeepNetwork, Residual, plain_layer
from tests.claims.brief import cut_short

SEED = 4242  # a seed that is not judged


def of_curves(curves):
    """Results of `symmetry` whose arms have these curves at every task, for each seed the same."""
    claim = symmetry.Symmetry()
    records = [
        Record(
            claim.name, arm, seed, "done",
            values={
                f"{task} {size}": value + 1e-4 * seed
                for task in symmetry.TASKS
                for size, value in zip(symmetry.SIZES, curves.get(arm, curves[symmetry.PLAIN]), strict=True)
            },
        )
        for arm in claim.arms
        for seed in range(10)
    ]  # fmt: skip
    return Results(claim.arms, claim.measures, records)


def test_images_saved_are_the_distance_between_two_curves():
    plain, told = [0.5, 0.6, 0.7, 0.8, 0.9], [0.7, 0.8, 0.9, 0.95, 0.97]
    found = symmetry.images_saved(of_curves({"plain": plain, "augmented": told}), "augmented", symmetry.TURNED)
    assert found.estimate == pytest.approx(4)  # 0.9 of 200 images in place of 800
    worse = symmetry.images_saved(of_curves({"plain": told, "augmented": plain}), "augmented", symmetry.TURNED)
    assert worse.estimate == pytest.approx(1 / 4)
    same = symmetry.images_saved(of_curves({"plain": plain}), "augmented", symmetry.TURNED)
    assert same.estimate == pytest.approx(1)


def test_sets_say_whether_a_digit_is_among_them():
    task, seed = symmetry.TASKS[symmetry.SET], 7
    images, labels = digits.digits()
    generator = torch.Generator().manual_seed(0)
    inputs, is_there = symmetry.examples(task, images, labels, 400, seed, generator)
    wanted = {tuple(image.flatten().tolist()) for image in images[labels == seed]}
    members = [[tuple(member.tolist()) in wanted for member in x.view(3, 64)] for x in inputs]
    assert [any(each) for each in members] == is_there.bool().tolist()
    assert 150 < int(is_there.sum()) < 250
    places = np.array(members).sum(0)  # in any of the three places
    assert places.min() > 40


def test_an_invariant_network_gives_all_images_of_an_orbit_one_answer(monkeypatch):
    monkeypatch.setattr(symmetry, "STEPS", 30)
    upright = symmetry.Task(symmetry.mirror(), 0.0)
    turned = symmetry.Task(symmetry.mirror(), 1.0)
    assert symmetry.learning_curve(symmetry.INVARIANT, upright, SEED).tolist() == pytest.approx(
        symmetry.learning_curve(symmetry.INVARIANT, turned, SEED).tolist(), abs=0.005
    )


def test_a_box_in_the_middle_overlaps_as_pixels_say():
    known = scenes(*digits.digits(), 300, torch.Generator().manual_seed(0))
    boxes = presence_to_detection.of_usual_size(known, False, torch.Generator())
    size = (known.boxes[:, 2:] - known.boxes[:, :2]).float().mean(0)
    torch.testing.assert_close((boxes[:, 2:] - boxes[:, :2])[0], size)
    torch.testing.assert_close((boxes[:, 2:] + boxes[:, :2])[0] / 2, torch.full((2,), SIDE / 2))
    assert 0.15 < float(intersection_over_union(boxes[:300], known.boxes.float()).mean()) < 0.3
    anywhere = presence_to_detection.of_usual_size(known, True, torch.Generator().manual_seed(0))
    assert float(anywhere.min()) >= 0
    assert float(anywhere.max()) <= SIDE
    assert float(anywhere[:, 0].std()) > 1


def test_the_pixel_of_a_box_is_in_its_middle():
    maps = presence_to_detection.centers(torch.tensor([[2.0, 4.0, 6.0, 9.0], [0.0, 0.0, 1.0, 1.0]]))
    assert maps.nonzero().tolist() == [[0, 4, 6], [1, 0, 0]]


def test_gradient_times_input_adds_up_to_the_score_of_a_linear_network(monkeypatch):
    """For a linear network Σ x ∂y/∂x = y; the map is the size of its parts."""
    monkeypatch.setattr(presence_to_detection, "smoothed", lambda maps: maps)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3, bias=False))
    images = torch.rand(5, 4, 4)
    weights = linear[1].weight[linear(images).argmax(1)].view(5, 4, 4)
    torch.testing.assert_close(presence_to_detection.gradient_maps(linear, images), (images * weights).abs())


def test_what_is_read_from_a_network_is_what_it_keeps():
    torch.manual_seed(0)
    (images, _), (unseen, _) = residual_depth.standardized(*digits.split(400, 200, torch.Generator().manual_seed(0)))
    whole = DeepNetwork(64, 64, 10, 0)
    torch.nn.init.eye_(whole.first.weight)
    assert residual_depth.recovered(whole, images, unseen) > 0.95
    torch.nn.init.zeros_(whole.first.bias)
    torch.nn.init.eye_(whole.first.weight).data.mul_(1e-6)  # the size of features does not matter
    assert residual_depth.recovered(whole, images, unseen) > 0.95
    torch.nn.init.zeros_(whole.first.weight)
    assert residual_depth.recovered(whole, images, unseen) == 0
    narrow = DeepNetwork(64, 4, 10, 0)
    assert 0 < residual_depth.recovered(narrow, images, unseen) < 0.6


def test_gradients_of_first_and_last_layer_are_compared():
    torch.manual_seed(0)
    images, labels = torch.randn(64, 16), torch.randint(10, (64,))
    shallow, deep, deepest = (DeepNetwork(16, 32, 10, depth, plain_layer) for depth in (1, 30, 64))
    assert residual_depth.gradient_ratio(shallow, images, labels) == pytest.approx(1)
    assert (
        0 < residual_depth.gradient_ratio(deepest, images, labels) < residual_depth.gradient_ratio(deep, images, labels)
    )
    assert residual_depth.gradient_ratio(deep, images, labels) < 1e-6
    residual = DeepNetwork(16, 32, 10, 30, lambda width: Residual(plain_layer(width)))
    assert residual_depth.gradient_ratio(residual, images, labels) > 0.1


def test_labels_are_random_for_the_share_that_is_said(monkeypatch):
    given = []
    monkeypatch.setattr(
        memorization, "learned", lambda width, images, labels, *rest: given.append(labels) or (1.0, 1.0)
    )
    claim = memorization.Memorization()
    shares = []
    for arm in claim.arms:
        given.clear()
        found = claim.measure(arm, SEED)
        truth = digits.split(memorization.TRAIN, memorization.TEST, torch.Generator().manual_seed(SEED))[0][1]
        assert all(torch.equal(labels, given[0]) for labels in given)
        shares.append(float((given[0] != truth).float().mean()))
        assert found.values["size"] == memorization.WIDTHS[0]
    assert shares[0] == 0
    assert shares[1] == pytest.approx(0.36, abs=0.08)
    assert shares[2] == pytest.approx(0.9, abs=0.06)


def test_networks_of_one_normalization_are_one(monkeypatch):
    monkeypatch.setattr(batch_norm_shift, "STEPS", 3)
    claim = batch_norm_shift.BatchNormShift()
    found = {arm: claim.measure_at(arm, 0.01, SEED).values for arm in (batch_norm_shift.STORED, batch_norm_shift.ANEW)}
    norm = batch_norm_shift.ARMS[batch_norm_shift.STORED][0]
    assert batch_norm_shift.trained(norm, 3, 0.01, SEED) is batch_norm_shift.trained(norm, 3, 0.01, SEED)
    assert found[batch_norm_shift.STORED] != found[batch_norm_shift.ANEW]


def test_what_is_judged_of_depth_is_the_deepest_network(monkeypatch):
    found = cut_short("residual_depth", monkeypatch).measure("plain", 0)
    for value, array in (("kept", "kept"), ("gradient", "gradients")):
        assert found.values[value] == found.arrays[array][-1] < 0.1 * found.arrays[array][0]
    assert found.values["accuracy"] == pytest.approx(found.arrays["accuracy"].mean())
