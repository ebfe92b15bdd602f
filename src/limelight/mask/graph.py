"""Masks given by the edges of a graph, without an n×m array."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from limelight.errors import DtypeError, InputError
from limelight.mask.base_mask import Mask, conjuncts, require_device
from limelight.tracing import require_readable


class Graph(Mask):
    """Query i may see key j iff (i, j) is an edge: edges (2, E), whole numbers, row 0 the queries, row 1 the keys.

    `nodes` is n = m, or (n, m). An edge given twice counts once. With a graph, attention takes time
    and memory linear in the edges (kernel "sparse").

    Raises `DtypeError` or `InputError` for edges of another dtype or shape, and for edges to nodes that do not exist.

    >>> import torch
    >>> from limelight import Attention, Graph
    >>> x = torch.zeros(4, 1)
    >>> edges = torch.tensor([[0, 1, 2, 3, 3], [1, 0, 3, 2, 0]])
    >>> Attention(x, x, mask=Graph(edges, 4)).dense().round(decimals=2)
    tensor([[0.0000, 1.0000, 0.0000, 0.0000],
            [1.0000, 0.0000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.0000, 1.0000],
            [0.5000, 0.0000, 0.5000, 0.0000]])
    """

    def __init__(self, edges: Int[Tensor, "2 e"], nodes: int | tuple[int, int]) -> None:
        n, m = (nodes, nodes) if isinstance(nodes, int) else nodes
        if not isinstance(edges, Tensor) or edges.is_floating_point() or edges.dtype == torch.bool:
            came = edges.dtype if isinstance(edges, Tensor) else type(edges).__name__
            raise DtypeError(f"a graph expects edges (2, E) of whole numbers, got {came}")
        if edges.ndim != 2 or edges.shape[0] != 2:
            raise InputError(f"a graph expects edges (2, E), queries first, got {tuple(edges.shape)}")
        require_readable(edges, "Graph", "give a boolean mask there")
        i, j = edges.long()
        if edges.numel() and not bool(((i >= 0) & (i < n) & (j >= 0) & (j < m)).all()):
            raise InputError(
                f"edges expect queries from 0 to {n - 1} and keys from 0 to {m - 1}, got queries {int(i.min())} to "
                f"{int(i.max())} and keys {int(j.min())} to {int(j.max())}"
            )
        # The number i·m + j of a pair orders edges by query and then by key, and equal edges have equal numbers, so
        # that `unique` sorts them and drops duplicates. Edges of query i then stand from starts_i to starts_{i+1}, as
        # in the compressed rows of a sparse matrix (CSR), and any run of rows is one slice.
        number = torch.unique(i * m + j)
        self.edges, self.nodes = torch.stack([number // max(m, 1), number % max(m, 1)]), (n, m)
        self._starts = torch.searchsorted(self.edges[0], torch.arange(n + 1, device=edges.device))

    def block(self, rows: slice, cols: slice, device: torch.device) -> Bool[Tensor, "r c"]:
        i, j = self._of(rows)
        inside = (j >= cols.start) & (j < cols.stop)
        allowed = torch.zeros(rows.stop - rows.start, cols.stop - cols.start, dtype=torch.bool, device=device)
        allowed[i[inside] - rows.start, j[inside] - cols.start] = True
        return allowed

    @property
    def T(self) -> Graph:
        return Graph(self.edges.flip(0), self.nodes[::-1])

    def span(self, rows: slice, m: int) -> slice:
        _, j = self._of(rows)
        return slice(int(j.min()), int(j.max()) + 1) if len(j) else slice(0, 0)

    def check(self, n: int, m: int, device: torch.device) -> None:
        require_device(self.edges, device)
        if (n, m) != self.nodes:
            raise InputError(
                f"the graph has {self.nodes[0]} queries and {self.nodes[1]} keys, q and k have {n} and {m}"
            )

    def is_causal(self, n: int, m: int, device: torch.device) -> bool:
        i, j = self.edges
        return bool((j <= i).all()) and bool((j < i).any())

    def is_symmetric(self, n: int, device: torch.device) -> bool:
        return torch.equal(self.edges, self.T.edges)

    def pairs(self, i: Int[Tensor, " e"], j: Int[Tensor, " e"]) -> Bool[Tensor, " e"]:
        return torch.isin(i * self.nodes[1] + j, self.edges[0] * self.nodes[1] + self.edges[1])

    def _of(self, rows: slice) -> Int[Tensor, "2 e"]:
        return self.edges[:, int(self._starts[rows.start]) : int(self._starts[rows.stop])]

    def __repr__(self) -> str:
        return f"Graph({self.edges.shape[1]} edges)"


def edges_of(mask: Mask | None) -> Int[Tensor, "2 e"] | None:
    """The pairs that a mask allows if it is a graph, alone or joined by & with masks that define `pairs`; else None."""
    parts = conjuncts(mask)
    graph = next((part for part in parts if isinstance(part, Graph)), None)
    if graph is None:
        return None
    edges = graph.edges
    for part in parts:
        if part is not graph:
            allowed = part.pairs(*edges)
            if allowed is None:
                return None
            edges = edges[:, allowed]
    return edges
