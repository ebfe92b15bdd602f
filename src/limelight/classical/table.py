"""The table of methods as attention: the contents of a row, and the page `docs/methods.md` with all rows.

The columns are those of Ruan & Zhang (2412.18288): a pseudo-metric is initialized, strengthened and normalized, and
the resulting matrix propagates something. The last column is the operator as a Python expression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.differential import DifferentialAttention
from limelight.linear_operator import LinearOperator
from limelight.local_linear import LocalLinear
from limelight.mask import Graph, Mask
from limelight.similarity import Forgetting, Metric, Similarity, SoftCap, Sum


@dataclass(frozen=True)
class Method:
    """A method in the paper's terms. `operator` makes its attention, or what is made of several, from points (n, d)."""

    name: str
    source: str
    pseudo_metric: str
    strengthening: str
    normalization: str
    propagation: str
    operator: Callable[[Float[Tensor, "n d"]], LinearOperator]

    def row(self, X: Float[Tensor, "n d"]) -> str:
        """A line of the table, with the operator of these points."""
        cells = (self.name, self.source, self.pseudo_metric, self.strengthening, self.normalization, self.propagation)
        return " | ".join(
            ("", *(cell.replace("|", "\\|") for cell in cells), f"`{written(self.operator(X))}`", "")
        ).strip()


_HEAD = """# Methods as attention

A method initializes a pseudo-metric, strengthens it, normalizes it, and propagates something with the resulting matrix
(Ruan & Zhang, 2412.18288). The last column is the operator that represents the matrix P without storing it. The tests
compare each operator with scikit-learn, or with the published equation if scikit-learn lacks the method. For MDS,
Isomap, LLE, t-SNE, UMAP, SVM and GCN the operator is only a part of the normalization; `limelight.classical.affinities`
has the rest.

In an expression of the last column, `q` (n, 2) and `k` (m, 2) are the points that are compared, or features made of
them, and φ is a function or a torch module. `edges` (2, E) are the pairs of a graph with n nodes, and `log_gates` (m,)
are the logarithms of gates. `LogDistance` is in `limelight.classical`; all other names are in `limelight`.

`limelight.classical` has no estimators for k nearest neighbors, k-means and label propagation. scikit-learn's are
faster, so use its `KNeighborsClassifier`, `KNeighborsRegressor`, `KMeans` and `LabelPropagation`. The claim
`same_operator` checks that each of these methods is attention. There are no estimators either for MDS and the methods
below it in the table, since what these do with P is not attention.

This page is written by `python docs/methods.py`, from `limelight.classical.methods`.

| method | source | pseudo-metric (initialize) | strengthening | normalization | propagation | operator |
|---|---|---|---|---|---|---|
"""


def written(A: LinearOperator) -> str:
    """The Python expression of the operator: `Attention(q, k, Euclidean(bandwidth=1.0), TopK(k=5), mask=…)`."""
    if isinstance(A, DifferentialAttention):
        return f"DifferentialAttention({written(A.first)}, {written(A.second)}, share={A.share:g})"
    if isinstance(A, LocalLinear):
        return f"LocalLinear({written(A.attention)})"
    assert isinstance(A, Attention)
    parts = [_similarity(A.similarity), f"{type(A.normalization).__name__}({A.normalization.extra_repr()})"]
    return f"Attention(q, k, {', '.join(parts)}{'' if A.mask is None else f', mask={_mask(A.mask)}'})"


def _similarity(similarity: Similarity) -> str:
    if isinstance(similarity, Metric):
        return "Metric(φ)"
    if isinstance(similarity, Forgetting):
        return "Forgetting(log_gates)"
    if isinstance(similarity, Sum):
        return " + ".join(map(_similarity, similarity.parts_of_sum()))
    if isinstance(similarity, SoftCap):
        return f"SoftCap({_similarity(similarity.scores)}, {similarity.extra_repr()})"
    return f"{type(similarity).__name__}({similarity.extra_repr()})"


def _mask(mask: Mask) -> str:
    return "Graph(edges, n)" if isinstance(mask, Graph) else repr(mask)


def page(methods: Iterable[Method]) -> str:
    """The whole of docs/methods.md."""
    X = torch.linspace(0, 1, 24, dtype=torch.float64).square().reshape(12, 2)
    with torch.random.fork_rng():  # GAT draws its parameters, which are not shown
        return _HEAD + "\n".join(method.row(X) for method in methods) + "\n"
