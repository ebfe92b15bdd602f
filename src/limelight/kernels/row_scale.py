"""Scores whose rows are multiplied by numbers, r_i s_ij, on every kernel and without an n×m array.

A number for each row is not a key bias: it multiplies the key's term too. On the fused kernel it multiplies the
queries, and a key's term becomes one more column.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.kernels.chunked import ChunkedScores
from limelight.kernels.fused import InnerProductScores
from limelight.kernels.reference import DenseScores
from limelight.kernels.scores import Scores
from limelight.kernels.sparse import EdgeScores
from limelight.mask.visible_keys import count_visible
from limelight.similarity import Bias, Dot, InnerProduct, Parts, Similarity, Sum, as_one_product, is_wide, upcast
from limelight.similarity.tensors import concat_features


def log_visible_keys(scores: Scores) -> float | Float[Tensor, "*#batch n"]:
    """log n_i, where n_i is the number of keys that query i may see; one number if nothing is masked.

    It is 0 for a query that sees no key.
    """
    if isinstance(scores, DenseScores):
        count = (scores.scores > -math.inf).sum(-1)
    elif isinstance(scores, EdgeScores):
        count = torch.bincount(scores.i, minlength=scores.n)
    else:
        assert isinstance(scores, InnerProductScores | ChunkedScores)
        if scores.mask is None:
            return math.log(max(scores.shape[-1], 1))
        count = count_visible(scores.mask, scores.shape[-2], scores.shape[-1], _a_tensor_of(scores).device)
    return count.clamp(min=1).to(upcast(_a_tensor_of(scores)).dtype).log()


def scale_rows(scores: Scores, factor: float | Float[Tensor, "*#batch #n"]) -> Scores:
    """r_i s_ij; a masked pair stays at −∞."""
    if isinstance(scores, InnerProductScores):
        return _scale_products(scores, factor)
    like = upcast(_a_tensor_of(scores))
    r = factor.to(like.dtype) if isinstance(factor, Tensor) else like.new_full((1,), factor)
    if isinstance(scores, DenseScores):
        hidden = scores.scores == -math.inf
        return DenseScores((r[..., None] * scores.scores.masked_fill(hidden, 0)).masked_fill(hidden, -math.inf))
    if isinstance(scores, EdgeScores):
        return replace(scores, scores=scores.scores * r.expand(*r.shape[:-1], scores.n)[..., scores.i])
    # r is one more part of the queries, so that the walk over rectangles cuts it along with them, and its gradient
    # comes from autograd like that of every part.
    assert isinstance(scores, ChunkedScores)
    assert scores.row_bias is None
    assert scores.col_bias is None
    rows = r.expand(*r.shape[:-1], scores.rows)[..., None]
    return replace(
        scores, similarity=_RowScaled(scores.similarity), parts=Parts(queries=(rows,), within=(scores.parts,))
    )


def _scale_products(scores: InnerProductScores, factor: float | Tensor) -> Scores:
    # r_i (c⟨q_i, k_j⟩ + a_i + b_j) is again an inner product plus biases unless b and r both vary: the term r_i b_j is
    # then neither of the query nor of the key alone. It is itself a product of one feature, so it becomes one more
    # column of q and k. A positive r that is one number for all rows goes into the scale, and costs nothing.
    if not isinstance(factor, Tensor):
        if factor > 0:  # then it is a part of the scale, and nothing is copied
            a, b, table = (None if x is None else factor * x for x in _terms(scores))
            scale = factor * scores.scale
            return replace(scores, scale=scale, query_bias=a, key_bias=b, pair_bias=table)
        factor = upcast(scores.q).new_full((1,), factor)
    a, b, table = _terms(scores)
    is_uniform = factor.shape[-1] == 1  # one number for each matrix
    if table is not None or not (b is None or is_uniform or is_wide(scores.q)):
        # The kernel has no gradient for a bias of pairs, and in half precision a column would round the key's term.
        return scale_rows(_chunked(scores), factor)
    q, k = (scores.q * factor[..., None]).to(scores.q.dtype), scores.k
    if b is not None and is_uniform:
        b = b * factor
    elif b is not None:  # r_i (c⟨q_i, k_j⟩ + b_j) = c⟨(r_i q_i, r_i), (k_j, b_j/c)⟩
        r = factor.to(q.dtype)[..., None].expand(*factor.shape[:-1], q.shape[-2], 1)
        q, k, b = concat_features([q, r]), concat_features([k, (b / scores.scale).to(k.dtype)[..., None]]), None
    return replace(scores, q=q, k=k, query_bias=None if a is None else a * factor, key_bias=b)


def _terms(scores: InnerProductScores) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    return scores.query_bias, scores.key_bias, scores.pair_bias


def _chunked(scores: InnerProductScores) -> ChunkedScores:
    """The same scores, to be computed by rectangles."""
    a, b, table = _terms(scores)
    parts = as_one_product(InnerProduct(scores.scale * upcast(scores.q), upcast(scores.k), a, b))
    similarity: Similarity = Dot()
    if table is not None:
        similarity = Sum(similarity, Bias(table))
        parts = replace(parts, scales=(None,), within=(Parts((table,)),))
    return ChunkedScores(similarity, parts, 1.0, scores.mask, scores.shape[-2], scores.shape[-1])


class _RowScaled(Similarity):
    """r_i β(q_i, k_j), computed from the parts of β and from r (*#batch, n, 1)."""

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity, self.pair_size = similarity, similarity.pair_size

    @property
    def coefficient(self) -> float:  # type: ignore[override]
        return self.similarity.coefficient

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        raise NotImplementedError("the numbers of the rows are among the parts")

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "*#batch #r #c"]:
        return parts.queries[0] * self.similarity.block(parts.within[0], i, j)


def _a_tensor_of(scores: Scores) -> Tensor:
    """A tensor with the device of the scores, and with their dtype before it is made at least float32."""
    if isinstance(scores, InnerProductScores):
        return scores.q
    if isinstance(scores, ChunkedScores):
        return next(scores.parts.tensors())
    assert isinstance(scores, DenseScores | EdgeScores)
    return scores.scores
