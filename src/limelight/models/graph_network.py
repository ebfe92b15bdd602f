"""A network of nodes that attend to their neighbors: h ← P(W h) W h + b, with P along the edges of a graph.

This is the form of graph attention networks (GAT, Veličković et al. 2018, 1710.10903) with one head. Layers differ by
the similarity that makes P from the nodes' projected features, and nothing is stored for pairs that are not edges.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limelight.attention import Attention
from limelight.mask import Graph
from limelight.models.propagation_network import linear_map
from limelight.similarity import Dot, Similarity


class SimilarityNeighbors(nn.Module):
    """P_ij = softmax over the neighbors j of β(z_i, z_j), at the similarity's own scale or at another.

    >>> import torch
    >>> from limelight import GAT, Graph
    >>> from limelight.models.graph_network import SimilarityNeighbors
    >>> SimilarityNeighbors(GAT(4))(torch.randn(3, 4), Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)).kernel
    'sparse'
    """

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, z: Float[Tensor, "n width"], graph: Graph) -> Attention:
        return Attention(z, z, self.similarity, mask=graph)


class DotProductNeighbors(nn.Module):
    """P_ij = softmax over the neighbors j of ⟨W_q z_i, W_k z_j⟩/√width: attention by dot products.

    >>> import torch
    >>> from limelight import Graph
    >>> from limelight.models.graph_network import DotProductNeighbors
    >>> DotProductNeighbors(4)(torch.randn(3, 4), Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)).shape
    (3, 3)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = linear_map(width), linear_map(width)

    def forward(self, z: Float[Tensor, "n width"], graph: Graph) -> Attention:
        return Attention(self.query(z), self.key(z), Dot(), mask=graph)


class UniformNeighbors(nn.Module):
    """P_ij = 1 / the number of neighbors: their plain mean, without attention.

    >>> import torch
    >>> from limelight import Graph
    >>> from limelight.models.graph_network import UniformNeighbors
    >>> UniformNeighbors()(torch.randn(2, 4), Graph(torch.tensor([[0, 0, 1], [0, 1, 1]]), 2)).dense()
    tensor([[0.5000, 0.5000],
            [0.0000, 1.0000]])
    """

    def forward(self, z: Float[Tensor, "n width"], graph: Graph) -> Attention:
        return Attention(torch.zeros_like(z), torch.zeros_like(z), Dot(), mask=graph)


class GraphLayer(nn.Module):
    """P(W h) W h + b: each node takes a mean of its neighbors' projected features, (n, inputs) ↦ (n, outputs).

    attention: a width ↦ a module that makes P of z = W h and the graph.

    >>> import torch
    >>> from limelight import Graph
    >>> from limelight.models.graph_network import DotProductNeighbors, GraphLayer
    >>> graph = Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)
    >>> GraphLayer(5, 4, DotProductNeighbors)(torch.randn(3, 5), graph).shape
    torch.Size([3, 4])
    """

    def __init__(self, inputs: int, outputs: int, attention: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.project, self.bias = nn.Linear(inputs, outputs, bias=False), nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.project.weight)
        self.attention = attention(outputs)

    def forward(self, h: Float[Tensor, "n inputs"], graph: Graph) -> Float[Tensor, "n outputs"]:
        z = self.project(h)
        return self.attention(z, graph) @ z + self.bias

    def weights(self, h: Float[Tensor, "n inputs"], graph: Graph) -> Attention:
        """P, the weights of each node's neighbors."""
        found = self.attention(self.project(h), graph)
        assert isinstance(found, Attention)
        return found


class GraphNetwork(nn.Module):
    """Two layers with an ELU between them: features of the nodes (n, inputs) ↦ a score of each class (n, classes).

    After two layers a node knows of its neighbors' neighbors. On the graph in which every node is its only neighbor
    each layer is linear, and the network is a fully connected one that sees no edges. While it is trained, each input
    of a layer is left out with the probability `dropout`, and the others are divided by 1 − `dropout`.

    Source: Veličković et al. 2018 (1710.10903), section 3.3, with one head and without dropout of edges.

    >>> import torch
    >>> from limelight import Graph
    >>> from limelight.models.graph_network import UniformNeighbors, GraphNetwork
    >>> graph = Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)
    >>> GraphNetwork(5, 8, 2, lambda width: UniformNeighbors())(torch.randn(3, 5), graph).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, inputs: int, width: int, classes: int, attention: Callable[[int], nn.Module], dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.first, self.second = GraphLayer(inputs, width, attention), GraphLayer(width, classes, attention)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float[Tensor, "n inputs"], graph: Graph) -> Float[Tensor, "n classes"]:
        return self.second(self.dropout(self.hidden(features, graph)), graph)

    def hidden(self, features: Float[Tensor, "n inputs"], graph: Graph) -> Float[Tensor, "n width"]:
        """What the first layer makes of the nodes."""
        return F.elu(self.first(self.dropout(features), graph))

    def attentions(self, features: Float[Tensor, "n inputs"], graph: Graph) -> tuple[Attention, Attention]:
        """P of the first layer and of the second, for measures and pictures."""
        return self.first.weights(features, graph), self.second.weights(self.hidden(features, graph), graph)
