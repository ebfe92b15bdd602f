"""Stacked networks: each is what one network is alone, and takes no notice of the others."""

import pytest
import torch

from limelight.errors import InputError
from limelight.models.mlp import mlp
from limelight.models.stacked import StackedAttention, StackedMLP


def test_each_network_is_a_fully_connected_one():
    torch.manual_seed(0)
    stacked, x = StackedMLP(3, 6, 5, 4, 2), torch.randn(3, 7, 6)
    for which in range(3):
        alone = mlp(6, 5, 4, 2)
        with torch.no_grad():
            for layer, weight, bias in zip(alone[::2], stacked.weights, stacked.biases, strict=True):
                layer.weight.copy_(weight[which].T)
                layer.bias.copy_(bias[which, 0])
        torch.testing.assert_close(stacked(x)[which], alone(x[which]))
    torch.testing.assert_close(stacked(x[0]), stacked(x[:1].expand(3, -1, -1)))


def test_each_layer_is_attention_written_out():
    torch.manual_seed(0)
    layer = StackedAttention(3, inputs=4, width=6, outputs=2).double()
    x = torch.randn(3, 5, 7, 4, dtype=torch.float64)
    for which in range(3):
        q, k, v = (x[which] @ matrix[which] for matrix in (layer.query, layer.key, layer.value))
        torch.testing.assert_close(layer(x)[which], (q @ k.mT / 6**0.5).softmax(-1) @ v)


@pytest.mark.parametrize("build", [lambda: StackedMLP(3, 4, 5, 2), lambda: StackedAttention(3, 4, 6, 2)])
def test_the_loss_of_one_network_moves_that_network_alone(build):
    torch.manual_seed(0)
    network = build()
    x = torch.randn(3, 5, 4) if isinstance(network, StackedMLP) else torch.randn(3, 5, 7, 4)
    network(x)[1].square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad[[0, 2]].abs().max() == 0
        assert parameter.grad[1].abs().max() > 0


def test_networks_start_as_linear_layers_do():
    torch.manual_seed(0)
    stacked = StackedMLP(2, 16, 8, 3)
    assert not torch.equal(stacked.weights[0][0], stacked.weights[0][1])
    for weight, most in zip((*stacked.weights, *stacked.biases), (0.25, 8**-0.5) * 2, strict=True):
        assert float(weight.detach().abs().max()) <= most
    assert float(stacked.weights[0].detach().abs().max()) > 0.2


@pytest.mark.parametrize(
    "build", [lambda: StackedMLP(0, 4, 2), lambda: StackedMLP(2, 4, 0), lambda: StackedAttention(2, 0, 4, 1)]
)
def test_sizes_below_one_are_refused(build):
    with pytest.raises(InputError, match="whole number ≥ 1"):
        build()
