"""Similarities that are a small network of the query and the key: Bahdanau's and GAT's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limelight.heads import require_count
from limelight.similarity.base_similarity import Similarity
from limelight.similarity.forms import InnerProduct, PairFunction, Parts
from limelight.similarity.inner import require_widths
from limelight.similarity.tensors import upcast, upcast_pair


class Additive(Similarity):
    """β = vᵀ tanh(W q + U k + b), scale 1 (Bahdanau et al. 2015).

    q is (*batch, n, d) and k (*batch, m, key_width). It takes n·m·hidden hyperbolic tangents,
    so with `hidden` = 16 it costs many times as much as dot-product attention.

    >>> import torch
    >>> from limelight import Additive, Attention
    >>> q, k = torch.randn(5, 4), torch.randn(7, 3)
    >>> Attention(q, k, Additive(4, 3, hidden=8)).shape
    (5, 7)
    """

    same_width = False

    def __init__(self, d: int, key_width: int | None = None, hidden: int = 16) -> None:
        super().__init__()
        key_width = d if key_width is None else key_width
        for name, size in (("d", d), ("key_width", key_width), ("hidden", hidden)):
            require_count(f"Additive({name}=…)", size)
        self.query = nn.Linear(d, hidden)
        self.key = nn.Linear(key_width, hidden, bias=False)
        self.out = nn.Parameter(torch.randn(hidden) / hidden**0.5)
        self.pair_size = hidden

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        return self._pairs(self.parts(q, k))

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        require_widths(self, q, k, self.query.in_features, self.key.in_features)
        return Parts((upcast(_linear(self.query, q)),), (upcast(_linear(self.key, k)),))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        return self._pairs(parts)

    def _pairs(self, parts: Parts) -> Float[Tensor, "*#batch r c"]:
        (q,), (k,) = parts.queries, parts.keys
        return torch.tanh(q[..., :, None, :] + k[..., None, :, :]) @ self.out.to(q.dtype)


class GAT(Similarity):
    """β = LeakyReLU(⟨a₁, q⟩ + ⟨a₂, k⟩), scale 1 (Veličković et al. 2018), of features that are projected already.

    >>> import torch
    >>> from limelight import GAT, Attention, Graph
    >>> h = torch.randn(4, 3)  # nodes
    >>> edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    >>> Attention(h, h, GAT(3), mask=Graph(edges, 4)).kernel
    'sparse'
    """

    same_width = False

    def __init__(self, d: int, key_width: int | None = None, slope: float = 0.2) -> None:
        super().__init__()
        key_width = d if key_width is None else key_width
        for name, size in (("d", d), ("key_width", key_width)):
            require_count(f"GAT({name}=…)", size)
        self.query = nn.Linear(d, 1, bias=False)
        self.key = nn.Linear(key_width, 1, bias=False)
        self.slope = slope

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n m"]:
        # The paper's ⟨a, (q, k)⟩ of two vectors side by side splits into ⟨a₁, q⟩ + ⟨a₂, k⟩: one number for each query
        # and one for each key. A pair then costs one addition, whatever the width.
        (left,), (right,) = self.parts(q, k).queries, self.parts(q, k).keys
        return F.leaky_relu(left + right.mT, self.slope)

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        require_widths(self, q, k, self.query.in_features, self.key.in_features)
        return Parts((upcast(_linear(self.query, q)),), (upcast(_linear(self.key, k)),))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch r c"]:
        return F.leaky_relu(parts.queries[0] + parts.keys[0].mT, self.slope)

    def pair_function(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m d"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> PairFunction:
        parts, slope = self.parts(*upcast_pair(q, k), real), self.slope
        left, right = parts.queries[0][..., 0], parts.keys[0][..., 0]
        nothing = InnerProduct(q[..., :0], k[..., :0], left, right)
        return PairFunction(nothing, lambda s, i, j, read: F.leaky_relu(s, slope))

    def extra_repr(self) -> str:
        d, e = self.query.in_features, self.key.in_features
        return f"{d}, slope={self.slope:g}" if d == e else f"{d}, {e}, slope={self.slope:g}"


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)
