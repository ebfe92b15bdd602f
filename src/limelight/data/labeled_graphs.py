"""Graphs whose nodes have features and a class: generated communities, and Cora where a user has its files.

The generated graph is a stochastic block model with corrected degrees (Holland et al. 1983; Karrer & Newman 2011,
1008.3926). It stands in for networks of papers that cite each other, such as Cora, which would have to be downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limelight.errors import InputError, MissingExtraError

SPREAD = 0.7  # the standard deviation of the logarithm of a node's propensity to have edges


@dataclass(frozen=True)
class LabeledGraph:
    """Nodes with features and a class each, and edges (2, E), which hold every pair of neighbors in both orders."""

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    edges: Int[Tensor, "2 e"]

    @property
    def nodes(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def few_of_each_class(self, count: int, generator: torch.Generator) -> Bool[Tensor, " n"]:
        """True for `count` nodes of each class, drawn at random: those whose class is given in training.

        Raises `InputError` where a class has no more nodes than that.
        """
        least = int(self.labels.bincount().min())
        if not 0 < count < least:
            raise InputError(
                f"count expects a number from 1 to {least - 1}, fewer than the smallest class has nodes, got {count}"
            )
        order = torch.randperm(self.nodes, generator=generator)
        chosen = torch.zeros(self.nodes, dtype=torch.bool)
        for label in range(self.classes):
            chosen[order[self.labels[order] == label][:count]] = True
        return chosen


# Edges are drawn one by one, so that time and memory are linear in their number: the first node of an edge with a
# probability that is proportional to its propensity θ, the second in the same way among the nodes of the same class,
# with probability `within`, or among those of all other classes. A pair that is drawn twice is one edge, and a node is
# no neighbor of itself. Propensities are log-normal, so that a few nodes have many neighbors and most have few.
def community_graph(
    nodes: int,
    classes: int,
    generator: torch.Generator,
    *,
    degree: float = 8.0,
    within: float = 0.6,
    width: int = 16,
    signal: float = 0.5,
) -> LabeledGraph:
    """A stochastic block model: x_i = signal · μ_{c(i)} + noise, and edges mostly within a class c.

    `degree` is the mean number of neighbors before pairs that were drawn twice are joined, and `within` the share of
    edges that stay in their class. The largest class has three times the nodes of the smallest. μ_c and the noise are
    standard normal vectors of `width` numbers.

    Raises `InputError` for fewer than two classes, fewer than ten nodes for each, or a share outside [0, 1].

    >>> import torch
    >>> from limelight.data.labeled_graphs import community_graph
    >>> graph = community_graph(300, 3, torch.Generator().manual_seed(0))
    >>> graph.features.shape, graph.classes
    (torch.Size([300, 16]), 3)
    """
    if classes < 2 or nodes < 10 * classes or not 0 <= within <= 1 or degree <= 0:
        raise InputError(
            "a community graph expects at least 2 classes, at least 10 nodes for each, a positive degree and a share "
            f"`within` in [0, 1]; got {classes} classes, {nodes} nodes, degree {degree:g}, within {within:g}"
        )
    labels = _sizes(nodes, classes)[torch.randperm(nodes, generator=generator)]
    propensity = (SPREAD * torch.randn(nodes, generator=generator)).exp()
    first = torch.multinomial(propensity, round(nodes * degree / 2), replacement=True, generator=generator)
    stays = torch.rand(len(first), generator=generator) < within
    second = torch.empty_like(first)
    for label in range(classes):
        for same in (True, False):
            asking = (labels[first] == label) & (stays == same)
            allowed = propensity * ((labels == label) == same)
            if asking.any():
                second[asking] = torch.multinomial(allowed, int(asking.sum()), replacement=True, generator=generator)
    centers = signal * torch.randn(classes, width, generator=generator)
    features = centers[labels] + torch.randn(nodes, width, generator=generator)
    return LabeledGraph(features, labels, both_ways(torch.stack([first, second]), nodes))


def _sizes(nodes: int, classes: int) -> Int[Tensor, " n"]:
    """The class of each node in order; sizes grow evenly from the smallest class to one of three times its size."""
    ends = torch.linspace(1, 3, classes).cumsum(0)
    return torch.searchsorted(ends / ends[-1], (torch.arange(nodes) + 0.5) / nodes)


def both_ways(pairs: Int[Tensor, "2 e"], nodes: int) -> Int[Tensor, "2 f"]:
    """Each pair of different nodes in both orders, once.

    >>> import torch
    >>> from limelight.data.labeled_graphs import both_ways
    >>> both_ways(torch.tensor([[0, 1, 2], [1, 0, 2]]), 3)
    tensor([[0, 1],
            [1, 0]])
    """
    different = pairs[:, pairs[0] != pairs[1]]
    number = torch.unique(torch.cat([different[0] * nodes + different[1], different[1] * nodes + different[0]]))
    return torch.stack([number // nodes, number % nodes])


def with_loops(edges: Int[Tensor, "2 e"], nodes: int) -> Int[Tensor, "2 f"]:
    """The edges and one from each node to itself."""
    return torch.cat([edges, torch.arange(nodes).expand(2, -1)], 1)


def cora(folder: str | Path) -> LabeledGraph:
    """Cora, 2,708 papers in seven fields that cite each other, from its files `cora.content` and `cora.cites`.

    A feature is 1 where a paper has a word, of 1,433 words, divided by the number of its words. A citation of a paper
    that is not among the 2,708 is left out. The archive cora.tgz (McCallum et al. 2000; Sen et al. 2008) has both
    files.

    Raises `MissingExtraError`, which says how to get the data, where a file is missing, and `InputError` for a file
    that is not as described.
    """
    content, cites = (Path(folder) / f"cora.{part}" for part in ("content", "cites"))
    for path in (content, cites):
        if not path.is_file():
            raise MissingExtraError(
                f"Cora needs the file {path}, which is in the archive cora.tgz of https://linqs.org/datasets/; or "
                "pip install torch-geometric, and give from_torch_geometric(Planetoid(FOLDER, 'Cora')[0])"
            )
    names, words, fields = _papers(content)
    kinds, place = sorted(set(fields)), {name: i for i, name in enumerate(names)}
    pairs = [(place[a], place[b]) for a, b in _citations(cites) if a in place and b in place]
    return LabeledGraph(
        words / words.sum(1, keepdim=True).clamp(min=1),
        torch.tensor([kinds.index(field) for field in fields]),
        both_ways(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).mT, len(names)),
    )


def _papers(path: Path) -> tuple[list[str], Float[Tensor, "n words"], list[str]]:
    """The name of each paper, which words it has, and its field."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = [row[0] for row in rows]
    if not rows or {len(row) for row in rows} != {max(len(rows[0]), 3)} or len({*names}) < len(names):
        raise InputError(
            f"{path} must have a line for each paper: its name, which no other line has, as many numbers as every "
            "other line, and its field"
        )
    try:
        words = torch.tensor([[float(number) for number in row[1:-1]] for row in rows])
    except ValueError as problem:
        raise InputError(f"{path} must have numbers between a paper's name and its field: {problem}") from None
    return names, words, [row[-1] for row in rows]


def _citations(path: Path) -> list[list[str]]:
    """The names of two papers for each line, of which one cites the other."""
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{path} must have the names of two papers in each line")
    return pairs


class GeometricData(Protocol):
    """What `from_torch_geometric` reads of a graph of torch-geometric."""

    x: Tensor
    y: Tensor
    edge_index: Tensor


def from_torch_geometric(data: GeometricData) -> LabeledGraph:
    """A graph of the package torch-geometric, such as `Planetoid(FOLDER, "Cora")[0]`, which downloads Cora.

    Edges count in both directions, and edges from a node to itself are left out. Raises `InputError` where features,
    classes and edges do not belong together.
    """
    x, y, edges = data.x, data.y, data.edge_index
    if x.ndim != 2 or y.shape != x.shape[:1] or edges.ndim != 2 or edges.shape[0] != 2:
        raise InputError(
            "a labeled graph expects x (n, d), y (n,) and edge_index (2, E), "
            f"got {tuple(x.shape)}, {tuple(y.shape)} and {tuple(edges.shape)}"
        )
    return LabeledGraph(x.float(), y.long(), both_ways(edges.long(), len(y)))
