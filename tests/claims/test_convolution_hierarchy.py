"""What `convolution_hierarchy` reads from networks that were built to answer to bars, arcs or a digit."""

import math

import numpy as np
import pytest
import torch

from limelight.claims import convolution_hierarchy as hierarchy
from limelight.data import digits
from limelight.data.large_digits import SIDE, on_canvas
from limelight.data.stimuli import arcs, gabors
from limelight.models.convolutional_hierarchy import ConvolutionalHierarchy
from tests.claims.brief import cut_short

SEED = 4242  # a seed that is not judged


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ConvolutionalHierarchy(10)


def test_a_first_layer_of_gabors_is_found_selective_and_one_of_blurs_is_not(model):
    angles = torch.arange(8) * math.pi / 8
    model.fix_first_layer(gabors(5, angles, 4.0))
    found, curves, _ = hierarchy.responses_to_shapes(model)
    assert found["orientation 1"] > 0.5
    assert found["gratings 1"] > 0.5
    assert curves.shape == (8, 12)
    blur = torch.ones(8, 5, 5) / 25
    blur[:, [0, 0, 4, 4], [0, 4, 0, 4]] = 0
    model.fix_first_layer(blur)
    found, _, _ = hierarchy.responses_to_shapes(model)
    assert found["orientation 1"] < 0.05
    assert found["curved 1"] == 0


def test_a_second_layer_that_matches_semicircles_prefers_arcs(model):
    """The first layer passes the image on; the second sees it at half the resolution."""
    passing = torch.zeros(8, 5, 5)
    passing[:, 2, 2] = 1
    model.fix_first_layer(passing)
    second = model.convolutions[1].weight.data.zero_()

    def template(turn):
        drawn = arcs(10, torch.zeros(1), torch.zeros(1, 2), hierarchy.LENGTH, turn)
        pooled = torch.nn.functional.max_pool2d(drawn, 2)[0, 0]
        return pooled - pooled.mean()

    second[:8, 0], second[8:, 0] = template(math.pi), template(0.0)
    found, _, relative = hierarchy.responses_to_shapes(model)
    assert found["curved 2"] == 0.5
    assert relative.shape == (3, 4)
    assert (relative[:, 0] == 1).all()


def test_a_unit_that_no_bar_excites_does_not_count(model):
    model.convolutions[0].weight.data[0] = -1.0
    found, curves, _ = hierarchy.responses_to_shapes(model)
    assert (curves[0] == 0).all()
    rest = ConvolutionalHierarchy(10, channels=(7, 16, 32))
    rest.convolutions[0].weight.data.copy_(model.convolutions[0].weight.data[1:])
    assert hierarchy.responses_to_shapes(rest)[0]["orientation 1"] == pytest.approx(found["orientation 1"])
    assert np.isfinite(hierarchy.tuning(np.stack([curves, curves]))).all()
    assert len(hierarchy.tuning(np.stack([curves, curves]))) == 14


def test_tuning_curves_stand_with_their_best_response_in_the_middle():
    found = hierarchy.tuning(np.array([[[1.0, 2, 4, 0], [0, 0, 0, 0]], [[0, 0, 0, 3.0], [6, 3, 0, 0]]]))
    assert found.tolist() == [[0.25, 0.5, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0.5]]


def test_responses_are_those_above_an_empty_image(model):
    images = torch.rand(2, 3, SIDE, SIDE)
    before = hierarchy.excitation(model, images, 0.0)
    model.convolutions[0].bias.data += 0.5
    rest = hierarchy.peaks(model, torch.zeros(1, SIDE, SIDE))[0][0]
    assert (rest == 0.5).all()
    after = hierarchy.excitation(model, images, 0.0)
    torch.testing.assert_close(after[0], before[0])
    assert all((each == 0).all() for each in hierarchy.excitation(model, torch.zeros(1, SIDE, SIDE), 0.0))


def test_each_unit_is_judged_at_its_best_wavelength():
    responses = torch.tensor([[[1.0, 5.0], [2.0, 0.0]], [[0.0, 4.0], [3.0, 4.0]]])  # wavelengths, orientations, units
    assert hierarchy.best_wave(responses).tolist() == [[0, 3], [5, 0]]


def test_a_patch_is_what_the_unit_sees_where_it_responds_most(model):
    images = on_canvas(digits.digits()[0][:40], hierarchy.no_shift(40))
    found = hierarchy.exciting_patches(model, images)
    for layer, (name, seen) in enumerate(zip(found, model.layers(images), strict=True)):
        peak = seen.flatten(2).max(2).values
        units = peak.amax(0).argsort(descending=True)[: hierarchy.SHOWN]
        patches = torch.tensor(found[name], dtype=torch.float32)
        assert patches.shape[2:] == (model.FIELDS[layer],) * 2
        for unit, row in zip(units, patches, strict=True):
            shown = torch.nn.functional.pad(
                row, (0, 24 - row.shape[2]) * 2
            )  # the unit at the first place sees the patch
            answers = model.layers(shown)[layer][:, unit, 0, 0]
            best = peak[:, unit].sort(descending=True).values[: hierarchy.BEST]
            torch.testing.assert_close(answers, best, rtol=0.02, atol=0.02)


def test_shuffled_images_have_the_same_pixels_in_one_other_order():
    shown = hierarchy.Shown(True, torch.Generator().manual_seed(0))
    images = torch.rand(3, SIDE, SIDE)
    found = shown(images)
    torch.testing.assert_close(found.flatten(1).sort().values, images.flatten(1).sort().values)
    assert not torch.equal(found, images)
    torch.testing.assert_close(shown(images[1:]), found[1:])
    assert torch.equal(hierarchy.Shown(False, torch.Generator())(images), images)


def test_a_network_that_stands_for_digits_is_found_so(monkeypatch, model):
    """With activations that name the class of the image, all areas are 1 and every unit stands for a digit."""
    known, unseen = digits.split(200, 150, torch.Generator().manual_seed(0))
    given = iter([unseen, known])

    def oracle(_model, images):
        truth = torch.nn.functional.one_hot(next(given)[1], 10).float()
        return [truth, -truth, torch.zeros(len(images), 3)]

    monkeypatch.setattr(hierarchy, "peaks", oracle)
    monkeypatch.setattr(hierarchy, "left_by_changes", lambda *_: {})
    shown = hierarchy.Shown(False, torch.Generator())
    found, _ = hierarchy.responses_to_digits(model, shown, known, unseen, torch.Generator().manual_seed(0))
    assert (found["class 1"], found["letters 1"]) == (1, 1)
    assert found["class 2"] < 0.7  # one digit fewer than all others
    assert found["class 3"] == 0.5
    assert found["silent"] == pytest.approx(3 / 23)


@pytest.mark.slow
def test_only_labels_of_the_control_are_random_and_an_untrained_network_is_not_trained(monkeypatch):
    claim = cut_short("convolution_hierarchy", monkeypatch)
    given = {}

    def recorded(model, _images, labels, *_rest):
        given["labels"] = labels
        return lambda: model.last.bias.sum()

    monkeypatch.setattr(hierarchy, "batch_loss", recorded)
    labels = digits.split(hierarchy.TRAIN, hierarchy.TEST, torch.Generator().manual_seed(SEED))[0][1]
    filters = {}
    for arm in claim.arms:
        torch.manual_seed(SEED)
        filters[arm] = claim.measure(arm, SEED).arrays["filters"]
        assert torch.equal(given["labels"], labels) == (arm != claim.control)
    torch.manual_seed(SEED)
    torch.testing.assert_close(
        filters[hierarchy.UNTRAINED], hierarchy.first_filters(ConvolutionalHierarchy(10)).numpy()
    )
    assert not np.array_equal(filters[hierarchy.GABOR], filters[hierarchy.UNTRAINED])
