"""Networks of the points of a surface: each is what its equation says, and orders and other bodies do not matter."""

import pytest
import torch

from limelight import Metric
from limelight.models.surface_network import (
    Alone,
    DotProducts,
    EqualWeights,
    PlainSurfaceNetwork,
    Similar,
    SurfaceNetwork,
)

ATTENTIONS = {
    "dot": lambda: DotProducts(8),
    "metric": lambda: Similar(Metric(torch.nn.Linear(8, 8))),
    "mean": EqualWeights,
    "alone": Alone,
}


def matrix(P):
    return P if isinstance(P, torch.Tensor) else P.dense()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_plain_network_by_its_equation(name):
    network, x = PlainSurfaceNetwork(6, 8, 3, 2, ATTENTIONS[name]), torch.randn(5, 6)
    h = network.first(x)
    for attention in network.attention:
        h = matrix(attention(h)) @ h
    torch.testing.assert_close(network(x), network.last(h), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_network_of_transformer_blocks_by_its_equation(name):
    network, x = SurfaceNetwork(6, 8, 3, 2, ATTENTIONS[name]), torch.randn(5, 6)
    h = network.first(x)
    for attention, value, forward in zip(network.attention, network.values, network.forwards, strict=True):
        h = h + matrix(attention(h)) @ value(h)
        h = h + forward[2](torch.relu(forward[0](h)))
    torch.testing.assert_close(network(x), network.last(h), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("network", [PlainSurfaceNetwork, SurfaceNetwork])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_points_have_no_order_and_bodies_do_not_see_each_other(name, network):
    network, x = network(6, 8, 3, 2, ATTENTIONS[name]), torch.randn(3, 5, 6)
    order = torch.randperm(5)
    torch.testing.assert_close(network(x[:, order]), network(x)[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network(x)[1], network(x[1]), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(network(x)[0], network(x)[1])


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_weights_are_those_of_each_block(name):
    network, x = SurfaceNetwork(6, 8, 3, 2, ATTENTIONS[name]), torch.randn(4, 6)
    first, second = map(matrix, network.weights(x))
    torch.testing.assert_close(first, matrix(network.attention[0](network.first(x))))
    torch.testing.assert_close(second, matrix(network.attention[1](network.mixed(network.first(x), 0))))
    torch.testing.assert_close(second.sum(-1), torch.ones(4))


def test_only_without_attention_is_a_point_independent_of_the_others():
    x = torch.randn(5, 6)
    moved = x.clone()
    moved[0] += 3.0
    for name, attention in ATTENTIONS.items():
        network = SurfaceNetwork(6, 8, 3, 2, attention)
        assert torch.allclose(network(x)[1:], network(moved)[1:], atol=1e-6) == (name == "alone")


def test_a_given_scale_of_dot_products():
    h = torch.randn(5, 8)
    given = DotProducts(8, scale=1.0)
    P = (given.query(h) @ given.key(h).T).softmax(-1)
    torch.testing.assert_close(given(h).dense(), P, atol=1e-5, rtol=1e-4)
