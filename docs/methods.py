"""The table of methods as attention: `python docs/methods.py` writes docs/methods.md.

The columns are those of Ruan & Zhang (2412.18288): a pseudo-metric is initialized, strengthened and normalized, and
the resulting matrix propagates something. The last column is the operator as a Python expression.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import (
    GAT,
    Attention,
    DifferentialAttention,
    Dot,
    Euclidean,
    Forgetting,
    Graph,
    LinearOperator,
    LocalLinear,
    Mask,
    Metric,
    Normalization,
    ScalableSoftmax,
    Similarity,
    SoftCap,
    SoftmaxWithSink,
    Sum,
    TopK,
    causal,
    window,
)
from limelight.classical import LogDistance, affinities
from limelight.classical.flow import neighbor_graph
from limelight.normalization import Softmax

PAGE = Path(__file__).with_suffix(".md")
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

This page is written by `python docs/methods.py`.

| method | source | pseudo-metric (initialize) | strengthening | normalization | propagation | operator |
|---|---|---|---|---|---|---|
"""


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


_Build = Callable[[Float[Tensor, "n d"]], LinearOperator]
_OTHERS = ~window(before=0, after=0)


def _itself(similarity: Similarity, normalization: Normalization = Softmax(), mask: Mask | None = None) -> _Build:
    return lambda X: Attention(X, X, similarity, normalization, mask)


def _centers(similarity: Similarity, normalization: Normalization = Softmax()) -> _Build:
    return lambda X: Attention(X, X[:3], similarity, normalization)


def _graph_attention(X: Float[Tensor, "n d"]) -> Attention:
    return Attention(X, X, GAT(X.shape[1]), mask=Graph(_ring(len(X)), len(X)))


def _graph_convolution(X: Float[Tensor, "n d"]) -> Attention:
    return affinities.gcn(_ring(len(X)), len(X)).attention


def _ring(n: int) -> Tensor:
    i = torch.arange(n)
    return torch.cat([torch.stack([i, (i + 1) % n]), torch.stack([(i + 1) % n, i])], 1)


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


METHODS = (
    Method(
        "Dot-product attention",
        "Vaswani et al. 2017",
        "−⟨Qx_i, Kx_j⟩, learned",
        "temperature √d",
        "softmax of a row",
        "H ← P V H",
        _itself(Dot()),
    ),
    Method(
        "GAT",
        "Veličković et al. 2018",
        "−LeakyReLU(⟨a₁, Wx_i⟩ + ⟨a₂, Wx_j⟩), learned",
        "neighbors in a graph",
        "softmax of a row",
        "H ← P W H",
        _graph_attention,
    ),
    Method(
        "Metric attention",
        "Ruan & Zhang, 2412.18288",
        "|φ(x_i) − φ(x_j)|², learned",
        "none",
        "softmax of a row",
        "H ← P H",
        _itself(Metric(torch.tanh)),
    ),
    Method(
        "Attention with sinks",
        "gpt-oss, 2508.10925; off-by-one softmax: Miller 2023",
        "−⟨Qx_i, Kx_j⟩, learned",
        "temperature √d",
        "softmax of a row with one more logit, the sink, which has no value: rows sum to less than one",
        "H ← P V H",
        _itself(Dot(), SoftmaxWithSink()),
    ),
    Method(
        "Scalable softmax",
        "Nakanishi, 2501.19399",
        "−⟨Qx_i, Kx_j⟩, learned",
        "temperature √d / (s log n), s learned, for the n keys that a query may see",
        "softmax of a row",
        "H ← P V H",
        _itself(Dot(), ScalableSoftmax()),
    ),
    Method(
        "Forgetting attention",
        "Lin et al., 2503.02130",
        "−⟨Qx_i, Kx_j⟩ − Σ log f_l over j < l ≤ i, with learned gates f_l = σ(w x_l + b)",
        "temperature √d; only earlier tokens",
        "softmax of a row",
        "H ← P V H",
        lambda X: Attention(X, X, Dot() + Forgetting(-X[:, 0].square()), mask=causal),
    ),
    Method(
        "Differential attention",
        "Ye et al., 2410.05258",
        "−⟨Qx_i, Kx_j⟩, learned, twice",
        "temperature √d",
        "softmax of a row, less λ times another: entries may be negative",
        "H ← P V H",
        lambda X: DifferentialAttention(Attention(X, X), Attention(-X, X), 0.2),
    ),
    Method(
        "Soft-capped attention",
        "Gemma 2, 2408.00118",
        "−⟨Qx_i, Kx_j⟩, learned",
        "temperature √d, then s ← c tanh(s/c)",
        "softmax of a row",
        "H ← P V H",
        _itself(SoftCap(Dot(), 50.0)),
    ),
    Method(
        "Kernel regression",
        "Nadaraya 1964, Watson 1964",
        "|x − x_j|²",
        "bandwidth",
        "softmax of a row",
        "ŷ = P y",
        _itself(Euclidean()),
    ),
    Method(
        "Local linear regression",
        "Stone 1977, Cleveland 1979",
        "|x − x_j|²",
        "bandwidth",
        "softmax of a row, then weighted least squares: entries may be negative",
        "ŷ = L y, the value at x of the line fitted with the weights P",
        lambda X: LocalLinear(Attention(X[:, :2], X[:, :2], Euclidean())),
    ),
    Method(
        "k nearest neighbors",
        "Fix & Hodges 1951",
        "|x − x_j|²",
        "the k nearest",
        "equal weights for them: bandwidth → ∞",
        "ŷ = P y",
        _itself(Euclidean(), TopK(5)),
    ),
    Method(
        "Mean shift",
        "Fukunaga & Hostetler 1975",
        "|x − x_j|²",
        "bandwidth",
        "softmax of a row",
        "x ← P X until convergence; blurring: X ← P X",
        _itself(Euclidean()),
    ),
    Method(
        "Label propagation",
        "Zhu & Ghahramani 2002",
        "|x_i − x_j|²",
        "bandwidth",
        "softmax of a row",
        "F ← P F, rows divided by their sums, known labels restored",
        _itself(Euclidean()),
    ),
    Method(
        "Label spreading",
        "Zhou et al. 2004",
        "|x_i − x_j|²",
        "bandwidth, W_ii = 0",
        "D^{-1/2} W D^{-1/2} = D^{1/2} P D^{-1/2}",
        "F ← αSF + (1 − α)Y until convergence",
        _itself(Euclidean(), mask=_OTHERS),
    ),
    Method(
        "k-means",
        "Lloyd 1982",
        "|x_i − c_k|²",
        "the nearest center: temperature → 0",
        "u over centers, then over points",
        "C ← mean of X under u",
        _centers(Euclidean(), TopK(1)),
    ),
    Method(
        "Soft k-means",
        "MacKay 2003",
        "|x_i − c_k|²",
        "bandwidth",
        "over centers, then over points: α = 1",
        "C ← P X",
        lambda X: Attention(X[:3], X, Euclidean(), Softmax(1.0)),
    ),
    Method(
        "Slot attention",
        "Locatello et al., 2006.15055",
        "−⟨Qc_k, Kx_j⟩, learned",
        "temperature √d",
        "over slots, then over points: α = 1",
        "C ← GRU(P V, C), C ← C + MLP(C), repeated",
        lambda X: Attention(X[:3], X, Dot(), Softmax(1.0)),
    ),
    Method(
        "Fuzzy c-means",
        "Bezdek 1981",
        "log |x_i − c_k|²",
        "temperature m − 1, then uᵐ",
        "softmax over centers",
        "C ← mean of X under uᵐ",
        _centers(LogDistance()),
    ),
    Method(
        "Markov clustering",
        "van Dongen 2000",
        "|x_i − x_j|², or a graph",
        "the k nearest; in each step P ← P², then entries to the power r",
        "each row divided by its sum, in each step",
        "P ← inflated P² until convergence; a cluster is the points that share an attractor",
        lambda X: Attention(X, X, Euclidean(), mask=neighbor_graph(affinities.neighbors(X, 5)[0])),
    ),
    Method(
        "Diffusion maps",
        "Coifman & Lafon 2006",
        "|x_i − x_j|²",
        "bandwidth",
        "W_ij/(q_i q_j)ᵅ, then softmax of a row: the α family",
        "eigenvectors, λᵗ ψ",
        _itself(Euclidean(), Softmax(1.0)),
    ),
    Method(
        "Laplacian eigenmaps, spectral clustering",
        "Belkin & Niyogi 2003; Shi & Malik 2000",
        "|x_i − x_j|²",
        "bandwidth, W_ii = 0",
        "D⁻¹W: softmax of a row",
        "eigenvectors; k-means on them",
        _itself(Euclidean(), mask=_OTHERS),
    ),
    Method(
        "MDS",
        "Torgerson 1952",
        "|x_i − x_j|²",
        "none",
        "−½ J D² J: rows and columns centered, not divided",
        "eigenvectors, √λ ψ",
        _itself(Dot()),
    ),
    Method(
        "Isomap",
        "Tenenbaum et al. 2000",
        "shortest path over nearest neighbors",
        "the k nearest",
        "−½ J D² J",
        "eigenvectors, √λ ψ",
        _itself(Euclidean(), TopK(5), _OTHERS),
    ),
    Method(
        "LLE",
        "Roweis & Saul 2000",
        "|x_i − Σ_j w_ij x_j|² over the k nearest",
        "(G + reg · tr G · I)⁻¹ 1",
        "rows divided by their sums; entries may be negative",
        "eigenvectors of (I − W)ᵀ(I − W) with the smallest eigenvalues",
        _itself(Euclidean(), TopK(5), _OTHERS),
    ),
    Method(
        "SNE",
        "Hinton & Roweis 2002",
        "|x_i − x_j|²",
        "a temperature for each row such that its entropy is log perplexity",
        "softmax of a row without the point i itself",
        "gradient descent on Σ_i KL(P_i, Q_i)",
        lambda X: affinities.sne(X, 5.0),
    ),
    Method(
        "t-SNE",
        "van der Maaten & Hinton 2008",
        "|x_i − x_j|²; in the map log(1 + |y_i − y_j|²)",
        "as SNE",
        "(P + Pᵀ)/2n; in the map over all pairs",
        "gradient descent on KL(P, Q)",
        lambda X: affinities.tsne(X, 5.0).attention,
    ),
    Method(
        "UMAP",
        "McInnes et al., 1802.03426",
        "d_ij minus the distance of the nearest point",
        "the k nearest, with a bandwidth for each row such that weights sum to log₂ k",
        "w_ij + w_ji − w_ij w_ji",
        "gradient descent on a cross-entropy of pairs",
        _itself(Euclidean(), TopK(5), _OTHERS),
    ),
    Method(
        "SVM",
        "Cortes & Vapnik 1995",
        "|x − z_j|² to support vectors",
        "γ",
        "none: e^L P",
        "sign(K a + b)",
        lambda X: affinities.svm(X, X, 0.5).attention,
    ),
    Method(
        "GCN",
        "Kipf & Welling 2017",
        "0 on edges",
        "neighbors in a graph, and itself",
        "D̃^{-1/2} (A + I) D̃^{-1/2} = D^{1/2} P D^{-1/2}",
        "H ← σ(S H W)",
        _graph_convolution,
    ),
)


if __name__ == "__main__":
    PAGE.write_text(page(METHODS), encoding="utf-8")
