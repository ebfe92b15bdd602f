"""P on the edges of a graph: one weight for each edge, and all measures of them, in time linear in the edges.

A softmax is computed by the sparse kernel. Any other function of a row needs a few numbers of each row, its thresholds;
these are computed from rows of edges, padded to the longest row, and then the weights edge by edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limelight.kernels.rows import by_rows
from limelight.kernels.scores import zero_neg_inf
from limelight.kernels.sparse import EdgeScores
from limelight.weights import Mixture, RowMap, SoftmaxWeights, TopKWeights, Weights


@dataclass(frozen=True)
class EdgeWeights(Weights):
    """P_e for each edge e. A pair that is not an edge has weight zero."""

    _scores: EdgeScores
    p: Float[Tensor, "*#batch e"]

    @property
    def scores(self) -> EdgeScores:
        return self._scores

    def apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
        return self._scores.mix(self.p, v)

    def apply_wide(self, v: Tensor) -> Float[Tensor, "*#batch n e"]:
        return self._scores.mix(self.p, v.to(self.p))

    def apply_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*#batch n e"]:
        return self._scores.mix(F.dropout(self.p, p), v)

    def apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*#batch m e"]:
        return self._scores.T.mix(self.p, w)

    def column_mass(self) -> Float[Tensor, "*#batch m"]:
        return self._scores.T.sums(self.p)

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        return zero_neg_inf(replace(self._scores, scores=self.p).block(rows))

    def block_transposed(self, rows: slice) -> Float[Tensor, "*#batch r n"]:
        return zero_neg_inf(replace(self._scores, scores=self.p).T.block(rows))

    def entropy(self) -> Float[Tensor, "*#batch n"]:
        q = self._normalized()
        return -self._scores.sums(q * q.masked_fill(q == 0, 1).log())

    def potential(self) -> Float[Tensor, "*#batch n"]:
        q = self._normalized()
        energy = self._scores.sums(q * self._scores.scores.masked_fill(q == 0, 0))
        return (energy + self.entropy()).masked_fill(self._scores.sums(q.detach()) == 0, -math.inf)

    def mean_distance(self, offset: int) -> Float[Tensor, "*#batch n"]:
        away = (self._scores.i + offset - self._scores.j).abs()
        return self._scores.sums(self._normalized() * away)

    def topk(self, k: int) -> TopKWeights:
        # Edges are sorted by weight and then, with a stable sort, by query. So the edges of a query stand together, the
        # largest weight first, and the rank of an edge is its distance from the first edge of its query.
        scores, (*batch, count) = self._scores, self.p.shape
        by_weight = self.p.detach().argsort(dim=-1, descending=True, stable=True)
        order = by_weight.gather(-1, scores.i[by_weight].argsort(dim=-1, stable=True))
        queries = scores.i[order]
        place = torch.arange(count, device=order.device) - _first_edges(scores)[queries]
        at = torch.where(
            place < k, queries * k + place, scores.n * k
        )  # the others are written to one more entry, which is dropped
        weights = self.p.new_zeros(*batch, scores.n * k + 1).scatter(-1, at, self.p.gather(-1, order))
        keys = scores.j.new_full((*batch, scores.n * k + 1), -1).scatter(-1, at, scores.j[order])
        values, found = (x[..., :-1].unflatten(-1, (scores.n, k)) for x in (weights, keys))
        return TopKWeights(values, found.masked_fill(values == 0, -1))

    def _normalized(self) -> Float[Tensor, "*#batch e"]:
        """The weights of each row divided by their sum; zero in a row of zeros."""
        total = self._scores.sums(self.p)
        return self.p / total.masked_fill(total == 0, 1)[..., self._scores.i]


def along_edges(weights: Weights) -> Weights:
    """The weights as `EdgeWeights` if they are on the edges of a graph; otherwise the same weights."""
    if isinstance(weights, SoftmaxWeights) and isinstance(weights.scores, EdgeScores):
        return EdgeWeights(weights.scores, weights.scores.softmax_on_edges()[0])
    if isinstance(weights, Mixture):
        first, second = along_edges(weights.first), along_edges(weights.second)
        if isinstance(first, EdgeWeights) and isinstance(second, EdgeWeights):
            share = weights.share[..., 0]
            return EdgeWeights(first.scores, share * first.p + (1 - share) * second.p)
    return weights


def weights_on_edges(scores: EdgeScores, row_map: RowMap) -> EdgeWeights:
    """w(s_e, t_i), where t_i depends on the edges of query i alone."""
    order, first = scores.i.argsort(stable=True), _first_edges(scores)
    longest = max(int(first.diff().max()), 1) if scores.n else 1

    def some(own: tuple[EdgeScores, RowMap], rows: slice) -> Tensor:
        scores, row_map = own
        start, stop = int(first[rows.start]), int(first[rows.stop])
        edges = order[start:stop]
        queries = scores.i[edges]
        place = torch.arange(start, stop, device=edges.device) - first[queries]
        s = scores.scores[..., edges]
        flat = s.new_full((*s.shape[:-1], (rows.stop - rows.start) * longest), -math.inf)
        flat = flat.index_copy(-1, (queries - rows.start) * longest + place, s)
        return row_map.thresholds(flat.unflatten(-1, (rows.stop - rows.start, longest)))

    entries = math.prod(scores.scores.shape[:-1]) * longest
    t = by_rows(some, (scores, row_map), scores.n, entries, dim=-2)
    p = row_map.weights(scores.scores[..., None], t[..., scores.i, :])[..., 0]
    return EdgeWeights(scores, p)


def _first_edges(scores: EdgeScores) -> Int[Tensor, " n+1"]:
    """The index of each query's first edge when edges are sorted by query, and last the number of edges."""
    degrees = torch.bincount(scores.i, minlength=scores.n)
    return torch.cat([degrees.new_zeros(1), degrees.cumsum(0)])
