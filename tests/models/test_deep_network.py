"""Layers of deep networks do what their equations say to the signal and to its gradient."""

import pytest
import torch

from limelight.models.deep_network import DeepNetwork, Residual, he_layer, normalized_layer, plain_layer


@pytest.fixture
def h():
    return torch.randn(2000, 256, generator=torch.Generator().manual_seed(0))


def test_a_residual_layer_that_does_nothing_passes_all_on(h):
    layer = Residual(plain_layer(256))
    torch.nn.init.zeros_(layer.inner[1].weight)
    torch.nn.init.zeros_(layer.inner[1].bias)
    assert torch.equal(layer(h), h)


@pytest.mark.parametrize(("layer", "factor"), [(he_layer, 1.0), (plain_layer, 6**-0.5)])
def test_a_layer_keeps_or_shrinks_the_signal(h, layer, factor):
    torch.manual_seed(0)
    assert float(layer(256)(h).detach().square().mean().sqrt()) == pytest.approx(factor, rel=0.06)


def test_normalized_layers_do_not_depend_on_the_scale_of_an_input(h):
    layer = normalized_layer(256)
    torch.testing.assert_close(layer(100 * h + 5), layer(h), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("depth", [0, 1, 7])
def test_a_network_has_as_many_layers_as_asked(depth):
    model = DeepNetwork(12, 8, 3, depth, lambda width: Residual(plain_layer(width)))
    assert len(model.layers) == depth
    x = torch.randn(5, 12)
    torch.testing.assert_close(model(x), model.last(model.features(x)))
