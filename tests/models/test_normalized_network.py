"""Normalizations do to brighter images what their definitions say."""

import pytest
import torch
from torch import nn

from limelight.models.normalized_network import NormalizedNetwork, layer_norm, no_norm, with_statistics_of


@pytest.fixture
def images():
    return torch.rand(40, 8, 8, generator=torch.Generator().manual_seed(0))


def test_statistics_are_those_of_the_images(images):
    torch.manual_seed(0)
    model = NormalizedNetwork(10, nn.BatchNorm2d)
    for _ in range(3):
        model(torch.rand(8, 8, 8))  # what is stored before does not count
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = with_statistics_of(model, images)
    seen = model.first(images[:, None])
    torch.testing.assert_close(adapted.first_norm.running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(adapted.first_norm.running_var, seen.var((0, 2, 3)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(adapted(images), model.train()(images), rtol=1e-2, atol=1e-2)
    for name, value in model.first_norm.named_parameters():
        assert torch.equal(value, before[f"first_norm.{name}"])


def test_the_model_itself_stays_as_it_is(images):
    model = NormalizedNetwork(10, nn.BatchNorm2d).eval()
    before = model(images)
    with_statistics_of(model, images + 3)
    assert torch.equal(model(images), before)


def test_away_from_the_border_statistics_taken_anew_undo_a_change_of_contrast(images):
    model = NormalizedNetwork(10, nn.BatchNorm2d).eval()
    nn.init.zeros_(model.first.bias)
    faded = with_statistics_of(model, images / 4)(images / 4)
    torch.testing.assert_close(faded, with_statistics_of(model, images)(images), rtol=1e-2, atol=1e-2)
    assert float((model(images / 4) - model(images)).detach().abs().max()) > 0.01


def test_layer_norm_looks_at_one_image_only(images):
    norm, features = layer_norm(4), torch.randn(5, 4, 3, 3)
    found = norm(features)
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:1], norm(features[:1]))
    model = NormalizedNetwork(10, layer_norm)
    torch.testing.assert_close(with_statistics_of(model, images)(images), model(images))


def test_without_a_norm_features_pass_as_they_are():
    features = torch.randn(2, 3, 4, 4)
    assert torch.equal(no_norm(3)(features), features)
