"""Two towers: scores are cosines by the temperature, and the loss is symmetric in images and texts."""

import math

import pytest
import torch
from torch import nn

from limelight.errors import InputError
from limelight.models.contrastive import SHARPEST, TwoTowers, contrastive_loss, recall


def towers(**given):
    torch.manual_seed(0)
    return TwoTowers(nn.Linear(6, 4), nn.Linear(5, 4), **given)


def test_scores_are_cosines_divided_by_the_temperature():
    model, images, texts = towers(temperature=0.5), torch.randn(3, 6), torch.randn(2, 5)
    expected = torch.cosine_similarity(model.images(images)[:, None], model.texts(texts)[None], dim=-1) / 0.5
    torch.testing.assert_close(model(images, texts), expected)


def test_the_temperature_is_learned_unless_it_is_fixed_and_has_a_least_value():
    assert towers().log_sharpness.requires_grad
    assert not towers(learned=False).log_sharpness.requires_grad
    cold = towers(temperature=1e-6)
    assert float(cold(torch.randn(20, 6), torch.randn(20, 5)).detach().abs().max()) <= SHARPEST * 1.0001


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_is_a_positive_number(temperature):
    with pytest.raises(InputError, match="positive number"):
        towers(temperature=temperature)


def test_the_loss_asks_for_the_text_of_each_image_and_for_the_image_of_each_text():
    scores = torch.randn(5, 5, dtype=torch.float64)
    p, back = scores.softmax(1).diagonal(), scores.softmax(0).diagonal()
    torch.testing.assert_close(contrastive_loss(scores), -(p.log() + back.log()).mean() / 2)
    torch.testing.assert_close(contrastive_loss(scores), contrastive_loss(scores.mT))
    assert float(contrastive_loss(50 * torch.eye(5))) < 1e-6


def test_images_without_texts_are_refused():
    with pytest.raises(InputError, match=r"got \(3, 4\)"):
        contrastive_loss(torch.zeros(3, 4))


def test_recall_counts_rows_whose_largest_score_is_the_right_one():
    scores = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    assert recall(scores, torch.tensor([1, 1, 0])).tolist() == [1.0, 0.0, 1.0]
