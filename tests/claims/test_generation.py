"""The two claims on generation: their data, what arms share, and their measures on constructed images."""

import pytest
import torch

from limelight.claims import autoencoders_and_generation as drawing
from limelight.claims import classifier_generator as steering
from limelight.data.digits import digits
from limelight.experiment.conditions import prepare
from limelight.models import digit_generators as draws
from tests.claims.brief import cut_short

SEED = 4242


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Few steps of training, and no network from another test."""
    for name in ("autoencoders_and_generation", "classifier_generator"):
        cut_short(name, monkeypatch)
    shared = (drawing.autoencoder, steering.classifier, steering.denoiser, steering._by_diffusion)
    for function in shared:
        function.cache_clear()
    yield
    for function in shared:
        function.cache_clear()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def measured(claim, arm):
    prepare(SEED)
    return claim.measure(arm, SEED).values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("claim", "first", "second"),
    [
        (drawing.AutoencodersAndGeneration(), drawing.PLAIN, drawing.MIXTURE),
        (steering.ClassifierGenerator(), steering.STEERED, steering.FIFTY),
    ],
)
def test_an_arm_is_the_same_whichever_ran_before_it(claim, first, second):
    alone = measured(claim, second)
    drawing.autoencoder.cache_clear()
    steering.denoiser.cache_clear()
    steering._by_diffusion.cache_clear()
    measured(claim, first)
    assert measured(claim, second) == alone


def test_the_data_of_steering_do_not_overlap_but_for_the_few():
    data = steering.data_of(3)
    sizes = [len(part[0]) for part in (data.pool, data.few, data.judging, data.test)]
    assert sizes == [900, 50, 397, 500]
    assert torch.equal(data.few[0], data.pool[0][:50])
    images, _ = digits()
    together = torch.cat([data.pool[0], data.judging[0], data.test[0]]).flatten(1)
    assert len(together) == len(images)
    ordered = [sorted(map(tuple, part.flatten(1).tolist())) for part in (together, images)]
    assert ordered[0] == ordered[1]


def test_the_ceiling_has_none_of_the_few():
    images, _ = steering._real(3)
    few = steering.data_of(3).few[0]
    assert torch.cdist(images.flatten(1), few.flatten(1)).min() > 0
    assert len(images) == steering.EXAMPLES


def test_shifted_examples_are_near_the_few_with_their_labels(monkeypatch):
    few, expected = steering.data_of(3).few
    images, labels = steering._shifted(3)
    assert torch.equal(labels, expected.repeat(10))
    nearest = torch.cdist(images.flatten(1), few.flatten(1)).argmin(1)
    assert (nearest == torch.arange(50).repeat(10)).float().mean() > 0.9
    monkeypatch.setattr(steering, "NOISE", 0.0)
    monkeypatch.setattr(steering, "SHIFT", 0.0)
    assert torch.equal(steering._shifted(3)[0], few.repeat(10, 1, 1))


def test_a_whole_pixel_moves_an_image_by_one():
    image = digits()[0][0]
    found = steering._moved(image, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found[1:], image[:-1])
    assert (found[0] == 0).all()


def test_shuffled_examples_have_the_same_images_and_other_labels():
    images, labels = steering._guided(SEED)
    again, shuffled = steering._shuffled(SEED)
    assert torch.equal(images, again)
    assert torch.equal(labels.sort().values, shuffled.sort().values)
    assert (labels != shuffled).float().mean() > 0.8


def test_unguided_examples_are_labeled_by_the_classifier():
    images, labels = steering._unguided(SEED)
    scores = steering.classifier(SEED)(steering.unbounded(images), torch.zeros(len(images)).long())
    assert torch.equal(scores.argmax(-1), labels)


def test_variety_is_zero_for_one_image_of_each_class_and_one_for_real_ones():
    images, labels = digits()
    first = torch.stack([images[labels == label][0] for label in range(10)])
    assert steering._variety(first.repeat(4, 1, 1), torch.arange(10).repeat(4)) == pytest.approx(0, abs=1e-3)
    ratio = steering._variety(images[:800], labels[:800]) / steering._variety(images[800:], labels[800:])
    assert ratio == pytest.approx(1, abs=0.1)


def test_real_images_teach_and_shuffled_labels_do_not():
    data = steering.data_of(3)
    images, labels = steering._real(3)
    wrong = labels[torch.randperm(len(labels), generator=seeded())]
    assert steering._accuracy(images, labels, data.test, 3) > 0.9
    assert steering._accuracy(images, wrong, data.test, 3) < 0.4


def test_the_gain_is_what_the_examples_add_to_the_few():
    found = steering.ClassifierGenerator().measure(steering.REAL, SEED).values
    data = steering.data_of(SEED)
    assert found["gain"] == found["accuracy"] - steering._accuracy(*data.few, data.test, SEED)
    assert found["gain"] > 0


def test_the_filter_is_the_better_of_two():
    images = digits()[0][:200]
    noisy = images + drawing.NOISE * torch.randn(images.shape, generator=seeded())
    found = drawing._filtered(images, noisy, images, seeded(1))
    assert found <= min(drawing._error(drawing._blurred(noisy, width), images) for width in drawing.BLURS) * 1.05
    assert found < 0.6 * drawing._error(noisy, images)
    flat = torch.full_like(images, 0.5)
    speckled = torch.where(torch.rand(images.shape, generator=seeded()) < 0.03, 1.0, flat)  # a median takes all away
    blurred = min(drawing._error(drawing._blurred(speckled, width), flat) for width in drawing.BLURS)
    assert drawing._filtered(flat, speckled, flat, seeded(1)) < 0.1 * blurred


def test_the_distance_to_the_nearest_is_zero_for_copies():
    images = digits()[0]
    assert drawing._to_nearest(images[:100], images[:500]) == pytest.approx(0, abs=1e-3)
    moved = images[:100] + 0.1
    assert drawing._to_nearest(moved, images[:100]) == pytest.approx(0.8, abs=0.05)  # 0.1 in each of 64 pixels


def test_variations_of_a_model_that_copies_and_of_one_that_forgets():
    images, labels = digits()
    same = drawing._variations(draws.RealImages(images), images[:800], labels[:800], seeded())
    assert min(same[0]) > 0.88
    assert max(same[1]) == 0
    assert torch.equal(same[2][0], same[2][3])
    random = drawing._variations(draws.NoiseImages(images, seeded(1)), images[:800], labels[:800], seeded())
    assert max(random[0]) < 0.3
    assert min(random[1]) > 1
