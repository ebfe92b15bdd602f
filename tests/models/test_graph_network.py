"""A graph network is its equations, along the edges alone."""

import math

import pytest
import torch
import torch.nn.functional as F

from limelight import GAT, Graph, Metric
from limelight.data.labeled_graphs import with_loops
from limelight.models.graph_network import (
    DotProductNeighbors,
    GraphLayer,
    GraphNetwork,
    SimilarityNeighbors,
    UniformNeighbors,
)
from limelight.models.propagation_network import TanhResidual

NODES = 6
EDGES = with_loops(torch.tensor([[0, 1, 2, 3, 0], [1, 0, 3, 2, 5]]), NODES)
ALLOWED = torch.zeros(NODES, NODES, dtype=torch.bool).index_put(tuple(EDGES), torch.tensor(True))
GRAPH = Graph(EDGES, NODES)


def dot(attention, z):
    return attention.query(z) @ attention.key(z).T / math.sqrt(z.shape[1])


def gat(attention, z):
    return F.leaky_relu(attention.similarity.query(z) + attention.similarity.key(z).T, 0.2)


def metric(attention, z):
    return -torch.cdist(attention.similarity.phi(z), attention.similarity.phi(z)).square()


@pytest.mark.parametrize(
    ("make", "scores"),
    [
        (DotProductNeighbors, dot),
        (lambda width: SimilarityNeighbors(GAT(width)), gat),
        (lambda width: SimilarityNeighbors(Metric(TanhResidual(width))), metric),
        (lambda width: UniformNeighbors(), lambda attention, z: torch.zeros(NODES, NODES).to(z)),
    ],
    ids=["dot", "GAT", "metric", "mean"],
)
def test_a_layer_is_a_softmax_over_the_neighbors(make, scores):
    layer, h = GraphLayer(3, 4, make).double(), torch.randn(NODES, 3, dtype=torch.float64)
    torch.nn.init.normal_(layer.bias)
    z = layer.project(h)
    P = scores(layer.attention, z).masked_fill(~ALLOWED, -math.inf).softmax(-1)
    torch.testing.assert_close(layer(h, GRAPH), P @ z + layer.bias)
    torch.testing.assert_close(layer.weights(h, GRAPH).dense(), P)
    assert layer.weights(h, GRAPH).kernel == "sparse"
    theirs, parameters = P @ z + layer.bias, [*layer.parameters()]
    gradients = [torch.autograd.grad(out.square().sum(), parameters) for out in (layer(h, GRAPH), theirs)]
    for mine, right in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, right)


def test_a_network_without_neighbors_is_fully_connected():
    network = GraphNetwork(3, 8, 2, DotProductNeighbors).eval()
    x, alone = torch.randn(NODES, 3), Graph(torch.arange(NODES).expand(2, -1), NODES)
    hidden = F.elu(network.first.project(x) + network.first.bias)
    torch.testing.assert_close(network(x, alone), network.second.project(hidden) + network.second.bias)


def test_two_layers_reach_the_neighbors_of_neighbors_and_no_more():
    chain = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 5]])
    network, x = GraphNetwork(3, 8, 2, DotProductNeighbors).eval(), torch.randn(NODES, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x, Graph(chain, NODES))[0].sum(), x)
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [2]


def test_inputs_are_left_out_only_while_it_is_trained():
    network, x = GraphNetwork(3, 8, 2, DotProductNeighbors, dropout=0.5), torch.randn(NODES, 3)
    assert not torch.equal(network(x, GRAPH), network(x, GRAPH))
    torch.manual_seed(3)
    found = network(x, GRAPH)
    torch.manual_seed(3)
    kept = F.dropout(F.elu(network.first(F.dropout(x, 0.5), GRAPH)), 0.5)
    torch.testing.assert_close(found, network.second(kept, GRAPH))
    network.eval()
    assert torch.equal(network(x, GRAPH), network(x, GRAPH))
    first, second = network.attentions(x, GRAPH)
    h = network.hidden(x, GRAPH)
    torch.testing.assert_close(h, F.elu(first @ network.first.project(x) + network.first.bias))
    torch.testing.assert_close(network(x, GRAPH), second @ network.second.project(h) + network.second.bias)
