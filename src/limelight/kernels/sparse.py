"""Scores on the edges of a graph: time and memory linear in the edges.

s_e = scale · β(q_{i(e)}, k_{j(e)}),  −∞ for every pair that is not an edge
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError
from limelight.kernels.rows import by_rows, sum_over_rows
from limelight.kernels.scores import Scores, zero_neg_inf
from limelight.shapes import broadcast_shapes
from limelight.similarity import Bias, Parts, Positional, Similarity, upcast_pair


@dataclass(frozen=True)
class EdgeScores(Scores):
    """One score for each edge, (*#batch, E), with the indices i of its query and j of its key."""

    scores: Float[Tensor, "*#batch e"]
    i: Int[Tensor, " e"]
    j: Int[Tensor, " e"]
    n: int
    m: int

    @property
    def T(self) -> EdgeScores:
        return EdgeScores(self.scores, self.j, self.i, self.m, self.n)

    def add_key_bias(self, bias: Float[Tensor, "*#batch m"]) -> EdgeScores:
        return replace(self, scores=self.scores + bias[..., self.j])

    def add_constant(self, constant: Float[Tensor, "*#batch"]) -> EdgeScores:
        return replace(self, scores=self.scores + constant[..., None])

    def remove_shift(self) -> tuple[EdgeScores, Float[Tensor, "*#batch"]]:
        return self, self.scores.new_zeros(())

    def log_softmax(self) -> EdgeScores:
        return replace(self, scores=self.scores - zero_neg_inf(self.logsumexp())[..., self.i])

    def logsumexp(self) -> Float[Tensor, "*#batch n"]:
        top, total = self._top_and_total()
        return total.log() + top

    def _top_and_total(self) -> tuple[Float[Tensor, "*#batch n"], Float[Tensor, "*#batch n"]]:
        """(t_i, Σ_e exp(s_e − t_i)) for the edges of each query, t_i their largest score; (−∞, 1) without edges."""
        # The log-sum-exp L_i = t_i + log Σ_e exp(s_e − t_i) takes two passes over the edges: a scatter that takes the
        # maximum t_i, and a scatter that adds. The maximum needs no gradient, since it cancels.
        s = self.scores.detach()
        top = s.new_full((*s.shape[:-1], self.n), -math.inf)
        top = top.scatter_reduce(-1, self.i.expand(s.shape), s, "amax")
        total = self.sums((self.scores - zero_neg_inf(top)[..., self.i]).exp())
        return top, total.masked_fill(top == -math.inf, 1)

    def reduce(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        p, lse = self.softmax_on_edges()
        return self.mix(p, v), lse

    def softmax_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*#batch n e"]:
        return self.mix(F.dropout(self.softmax_on_edges()[0], p), v)

    def softmax_on_edges(self) -> tuple[Float[Tensor, "*#batch e"], Float[Tensor, "*#batch n"]]:
        """(p_e, log-normalizers of the queries)."""
        top, total = self._top_and_total()
        return (self.scores - top[..., self.i]).exp() / total[..., self.i], total.log() + top

    def mix(self, p: Float[Tensor, "*#batch e"], v: Float[Tensor, "*#batch m w"]) -> Float[Tensor, "*#batch n w"]:
        """Σ_e p_e v_j(e) over the edges e of each query, computed for some edges at a time."""
        batch = broadcast_shapes(p.shape[:-1], v.shape[:-2])

        # index_add adds p_e v_j(e) of each edge to its query. With a dense graph, edges × columns numbers would be as
        # many as a matrix has, so some edges are taken at a time, and computed again in the backward pass.
        def some(own: tuple[Tensor, Tensor], edges: slice) -> Tensor:
            p, v = own
            parts = p[..., edges, None] * v[..., self.j[edges], :].to(p.dtype)
            return parts.new_zeros(*batch, self.n, v.shape[-1]).index_add(
                -2, self.i[edges], parts.expand(*batch, -1, -1)
            )

        return sum_over_rows(some, (p, v), len(self.i), math.prod(batch) * max(v.shape[-1], 1)).to(v.dtype)

    def entropy(self) -> Float[Tensor, "*#batch n"]:
        top, total = self._top_and_total()
        surprise = total.log()[..., self.i] - (self.scores - top[..., self.i])
        return self.sums((-surprise).exp() * surprise)

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        inside = (self.i >= rows.start) & (self.i < rows.stop)
        s = self.scores[..., inside]
        at = (self.i[inside] - rows.start) * self.m + self.j[inside]
        flat = s.new_full((*s.shape[:-1], (rows.stop - rows.start) * self.m), -math.inf)
        return flat.index_copy(-1, at, s).unflatten(-1, (rows.stop - rows.start, self.m))

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.scores.shape[:-1], self.n, self.m)

    def sums(self, x: Float[Tensor, "*#batch e"]) -> Float[Tensor, "*#batch n"]:
        """Σ_e x_e over the edges of each query."""
        return x.new_zeros(*x.shape[:-1], self.n).index_add(-1, self.i, x)


def edge_scores(
    q: Float[Tensor, "*#batch n d"],
    k: Float[Tensor, "*#batch m e"],
    similarity: Similarity,
    scale: float | Tensor,
    edges: Int[Tensor, "2 edges"],
) -> EdgeScores:
    """scale · β on each edge, some edges at a time."""
    if any(isinstance(part, Positional | Bias) for part in similarity.modules()):
        raise InputError("nodes of a graph have no positions; use a similarity of contents, or kernel='chunked'")
    i, j = edges
    # What β needs from each query and key is computed once per node, and then selected for the two ends of each edge.
    # An inner product is a sum over features; any other β is computed for each edge as a matrix of one query and one
    # key.
    parts = similarity.parts(*upcast_pair(q, k))
    width = sum(x.shape[-1] for x in parts.tensors()) * math.prod(broadcast_shapes(q.shape[:-2], k.shape[:-2]))

    def some(tree: tuple[Parts, Similarity], at: slice) -> Tensor:
        parts, similarity = tree
        if similarity.is_inner_product:
            (left,), (right,) = parts.queries, parts.keys
            return (left[..., i[at], :] * right[..., j[at], :]).sum(-1)
        own: Parts = parts.map(
            lambda x: x[..., i[at], None, :], lambda x: x[..., j[at], None, :], lambda x: x.unsqueeze(-3)
        )
        return similarity.block(own, i[:1], j[:1])[..., 0, 0] * similarity.coefficient

    beta = by_rows(some, (parts, similarity), i.shape[0], max(width, 1) * similarity.pair_size)
    if isinstance(scale, Tensor):
        scale = scale.reshape(scale.shape[:-1] or (1,))  # (*#batch, 1) beside (*#batch, E)
    return EdgeScores(scale * beta, i, j, q.shape[-2], k.shape[-2])
