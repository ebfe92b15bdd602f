"""Attention whose matrix is never stored: two primitives on torch's fused kernels, in O(n + m) memory.

    softmax(s) v   and   logsumexp(s),   s_ij = scale·⟨q_i, k_j⟩ + a_i + b_j,  −∞ where masked

Both are results of one differentiable function, `(q, k, v, b) ↦ (out, lse)`. A mask that depends on
the key alone, or is causal, is passed to the kernel; with any other mask tiles of rows are computed one
after the other, each with only the keys in its span, so that a window takes time and memory linear in n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError
from limelight.heads import per_row
from limelight.kernels import backends
from limelight.kernels.backends import Matrices, Tile, pick
from limelight.kernels.row_statistics import entropy_and_mass
from limelight.kernels.rows import by_rows
from limelight.kernels.scores import RowStatistics, Scores, entropy_of, with_terms, zero_neg_inf
from limelight.kernels.stored import may_be_stored
from limelight.kernels.tiles import Batch, Visit, is_simple, plain_tile, tiles
from limelight.mask import Mask, real_keys
from limelight.shapes import broadcast_shapes, rectangle
from limelight.similarity import InnerProduct, Similarity, as_one_product, center, shift_for_precision, upcast
from limelight.similarity.tensors import times
from limelight.tracing import is_differentiated_again, is_readable
from limelight.twice import twice_differentiable

_FINE = 64  # below this, float32 distinguishes numbers that differ by 4e-6
_STATISTICS_FROM = 1 << 20  # entries of a matrix; for fewer, one pass over tiles takes longer than three fused calls


@dataclass(frozen=True)
class InnerProductScores(Scores):
    """s_ij = scale·⟨q_i, k_j⟩ + a_i + b_j, kept as its factors; a term that is None is zero."""

    q: Float[Tensor, "*#batch n r"]
    k: Float[Tensor, "*#batch m r"]
    query_bias: Float[Tensor, "*#batch n"] | None
    key_bias: Float[Tensor, "*#batch m"] | None
    scale: float
    mask: Mask | None
    recompute: bool = False
    pair_bias: Float[Tensor, "*#batch #n #m"] | None = None

    @property
    def T(self) -> InnerProductScores:
        mask = None if self.mask is None else self.mask.T
        table = None if self.pair_bias is None else self.pair_bias.mT
        return InnerProductScores(
            self.k, self.q, self.key_bias, self.query_bias, self.scale, mask, self.recompute, table
        )

    def with_recompute(self) -> InnerProductScores:
        return replace(self, recompute=True)

    def add_key_bias(self, bias: Float[Tensor, "*#batch m"]) -> InnerProductScores:
        return replace(self, key_bias=_plus(self.key_bias, bias))

    def add_constant(self, constant: Float[Tensor, "*#batch"]) -> InnerProductScores:
        return replace(
            self, query_bias=_plus(self.query_bias, constant[..., None].expand(*constant.shape, self.q.shape[-2]))
        )

    def remove_shift(self) -> tuple[InnerProductScores, Float[Tensor, "*#batch"]]:
        # A softmax over keys does not change when a number is added to all scores of a row, so a large number that all
        # scores share only costs precision: float32 has seven digits, so if every s is near 10⁷, no differences are
        # left. With the means μ of queries and keys, q̄ = q − μ_q and k̄ = k − μ_k,
        #     ⟨q, k⟩ = ⟨q̄, k̄⟩ + ⟨q̄, μ_k⟩ + ⟨μ_q, k̄⟩ + ⟨μ_q, μ_k⟩:
        # a product of small numbers, a bias of the query, a bias of the key, and one number for all. In half precision
        # q and k are not changed: their products are exact in float32, but their differences would be rounded.
        real_q, real_k = None if self.mask is None else real_keys(self.mask.T), real_keys(self.mask)
        q, k, a, b = self.q, self.k, self.query_bias, self.key_bias
        common = q.new_zeros((), dtype=backends.lse_dtype(q.dtype))
        if q.dtype == common.dtype:
            middle_q, middle_k = shift_for_precision(q, real_q), shift_for_precision(k, real_k)
            q, k = (x if middle is None else x - middle for x, middle in ((q, middle_q), (k, middle_k)))
            if middle_k is not None:
                a = _plus(a, self.scale * (q @ middle_k.mT)[..., 0])
            if middle_q is not None:
                b = _plus(b, self.scale * (k @ middle_q.mT)[..., 0])
            if middle_q is not None and middle_k is not None:
                common = self.scale * (middle_q @ middle_k.mT)[..., 0, 0]
        if a is not None:
            mean = center(a[..., None], real_q)[..., 0]
            a, common = a - mean, common + mean[..., 0]
        if b is not None:
            mean = center(b[..., None], real_k)[..., 0]
            b, common = b - mean, common + mean[..., 0]
        return replace(self, q=q, k=k, query_bias=a, key_bias=b), common

    def log_softmax(self) -> InnerProductScores:
        # log p_ij = s_ij − L_i: the normalizer is one more bias of the query. So the logarithms of all weights are an
        # inner product plus biases again, and whatever the kernel does with scores (transpose, sum over queries) it
        # does with them.
        alone = self._by_keys_alone()
        return replace(alone, query_bias=-zero_neg_inf(alone.logsumexp()))

    def logsumexp(self) -> Float[Tensor, "*#batch n"]:
        q, k, bias, walk = self.walk_over()
        lse = _LogSumExp.apply(q, k, bias, walk)  # type: ignore[no-untyped-call]
        return self._whole(walk.batch.unmerge(lse))

    def reduce(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        q, k, bias, walk = self.walk_over(v)
        out, lse = Reduce.apply(q, k, walk.batch.merge(v), bias, walk)  # type: ignore[no-untyped-call]
        return walk.batch.unmerge(out), self._whole(walk.batch.unmerge(lse))

    def walk_over(self, *values: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Walk]:
        """q, k and the bias in the batch shape (x, y) that all share, and the `Walk` over their tiles."""
        term = None if self.key_bias is None else self.key_bias[..., None]
        batch = Batch.of(self.q, self.k, *values, term, self.pair_bias, mask=self.mask)
        bias = None if term is None else batch.merge(term)[..., 0]
        table = None if self.pair_bias is None else batch.merge_pairs(self.pair_bias)
        walk = Walk(self.mask, self.scale, batch, self.recompute, pair_bias=table)
        return batch.merge(self.q), batch.merge(self.k), bias, walk

    def _whole(self, lse: Tensor) -> Tensor:
        return lse if self.query_bias is None else lse + self.query_bias

    @property
    def lse_is_free(self) -> bool:
        # On the CPU torch's kernel computes it in any case. For few entries it is not worth keeping.
        return self.q.device.type == "cpu" and self.q.shape[-2] * self.k.shape[-2] >= _STATISTICS_FROM

    def softmax(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
        one = self._as_one_tile(v)
        if one is None:
            return self.reduce(v)[0]
        tile, batch = one
        return batch.unmerge(self._plain(batch.merge(self.q), batch.merge(self.k), batch.merge(v), tile, batch))

    def softmax_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*#batch n e"] | None:
        # torch's CPU kernel has no dropout. With it, `scaled_dot_product_attention` stores the matrix, and is the
        # fastest way if that is small. In half precision it would round the weights, so it is not used.
        one = self._as_one_tile(v)
        if one is None or not may_be_stored(self.q, math.prod(one[1].shape) * self.q.shape[-2] * self.k.shape[-2]):
            return None
        tile, batch = one
        if tile.causal and (tile.allowed is not None or tile.pair_bias is not None):
            return None
        added = tile.allowed if tile.pair_bias is None else tile.additive(None, self.q.dtype)
        q, k, v = (batch.merge(x) for x in (self.q, self.k, v))
        return batch.unmerge(F.scaled_dot_product_attention(q, k, v, added, p, tile.causal, scale=tile.scale))

    def _as_one_tile(self, v: Tensor) -> tuple[Tile, Batch] | None:
        """The whole matrix as one tile that torch's own call can compute, or None if it cannot."""
        if self.key_bias is not None:
            return None
        batch = Batch.of(self.q, self.k, v, self.pair_bias, mask=self.mask)
        n, m = self.q.shape[-2], v.shape[-2]
        table = None if self.pair_bias is None else batch.merge_pairs(self.pair_bias)
        tile = plain_tile(self.mask, n, m, self.scale, batch, v.device, table)
        return None if tile is None or 0 in (*batch.merged, n, m) else (tile, batch)

    def _plain(self, q: Tensor, k: Tensor, v: Tensor, tile: Tile, batch: Batch) -> Tensor:
        """The result of torch's own operation, with a derivative that can be differentiated again."""

        def gradients(q: Tensor, k: Tensor, v: Tensor, dout: Tensor) -> tuple[Tensor | None, ...]:
            walk = Walk(self.mask, self.scale, batch, recompute=False, pair_bias=tile.pair_bias)
            return walk.gradients_by_rows(q, k, v, None, dout, None)[:3]

        return twice_differentiable(backends.plain(q, k, v, tile), (q, k, v), gradients)

    def entropy(self) -> Float[Tensor, "*#batch n"]:
        if self.pair_bias is not None:  # then the mean score cannot be computed from an average of keys
            return by_rows(lambda own, rows: entropy_of(own.block(rows)), self, self.q.shape[-2], self.entries_per_row)
        # H_i = lse_i − Σ_j p_ij s_ij, both from one pass.
        # The mean score needs no single entries: Σ_j p_ij s_ij = scale · ⟨q_i, Σ_j p_ij k_j⟩ + Σ_j p_ij b_j, an average
        # of keys and biases, which are passed as the values.
        alone = self.stabilized()
        q, k, term = alone.q, alone.k, alone.key_bias
        out, lse = alone.reduce(_with_column(k, term))
        mean = self.scale * (q * out[..., : q.shape[-1]]).sum(-1)
        if term is not None:
            mean = mean + out[..., -1]
        return torch.where(lse == -math.inf, 0, lse - mean)

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        s = self.scale * (upcast(self.q[..., rows, :]) @ upcast(self.k).mT)
        if self.pair_bias is not None:
            s = s + rectangle(self.pair_bias, rows, slice(None))
        return with_terms(s, rows, self.query_bias, self.key_bias, self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        terms = [x.shape[:-1] for x in (self.query_bias, self.key_bias) if x is not None]
        mask = () if self.mask is None else self.mask.batch_shape
        table = () if self.pair_bias is None else self.pair_bias.shape[:-2]
        batch = broadcast_shapes(self.q.shape[:-2], self.k.shape[:-2], *terms, table, mask)
        return (*batch, self.q.shape[-2], self.k.shape[-2])

    def stabilized(self) -> InnerProductScores:
        return replace(self, q=upcast(self.q), k=upcast(self.k))._by_keys_alone()

    def row_statistics(self, lse: Float[Tensor, "*#batch n"] | None) -> RowStatistics | None:
        *batch, n, m = self.shape
        if (
            self.q.device.type != "cpu"
            or not is_readable(self.q)
            or n * m < _STATISTICS_FROM
            or self.pair_bias is not None
        ):
            return None
        rest, common = replace(self, q=upcast(self.q), k=upcast(self.k)).remove_shift()
        alone = replace(rest, query_bias=None)
        shift = _plus(rest.query_bias, common[..., None])
        own = alone.logsumexp() if lse is None or _is_rough(lse, shift) else lse - shift
        # With the normalizer as a bias of the query, log p is one inner product, ⟨(q, −lse, 1), (k, 1, b)⟩, so that one
        # pass over tiles gives p (`row_statistics.py`).
        log_p = as_one_product(InnerProduct(alone.scale * alone.q, alone.k, -zero_neg_inf(own), alone.key_bias))
        (x,), (y,) = log_p.queries, log_p.keys
        entropy, mass = entropy_and_mass(x, y, self.mask)
        return RowStatistics(entropy.reshape(*batch, n), mass.reshape(*batch, m))

    def _by_keys_alone(self) -> InnerProductScores:
        """Scores with the same row softmax, without the terms that a query adds to all its scores."""
        rest, _ = self.remove_shift()
        return replace(rest, query_bias=None)


def _is_rough(lse: Tensor, shift: Tensor) -> bool:
    """True if the numbers are so large that float32 loses the digits of lse − shift."""
    return any(bool(zero_neg_inf(x).abs().amax() > _FINE) for x in (lse, shift) if x.numel())


def _plus(term: Tensor | None, more: Tensor) -> Tensor:
    return more if term is None else term + more


def _with_column(k: Tensor, term: Tensor | None) -> Tensor:
    """k with the term as one more column, with the batch dimensions of both."""
    if term is None:
        return k
    rows = broadcast_shapes(k.shape[:-1], term.shape)
    return torch.cat([k.expand(*rows, k.shape[-1]), term[..., None].expand(*rows, 1)], -1)


def inner_product_scores(
    q: Float[Tensor, "*#batch n d"],
    k: Float[Tensor, "*#batch m d"],
    similarity: Similarity,
    scale: float | Tensor,
    mask: Mask | None,
) -> InnerProductScores:
    """The scores scale · β(q, k), from the similarity's inner product."""
    real = real_keys(mask)
    factors = similarity.rounded_inner_product(q, k, real)
    a, b, left = factors.query_bias, factors.key_bias, factors.q
    table = None if factors.pair_bias is None else times(factors.pair_bias, scale)
    if table is not None and table.requires_grad and torch.is_grad_enabled():
        raise InputError(
            f"{type(similarity).__name__}'s bias of pairs learns, but the fused kernel has no gradient for it; leave "
            "it out of `as_inner_product`, or use kernel='reference'"
        )
    right = factors.k if real is None else torch.where(real[..., None], factors.k, 0)
    if (
        isinstance(scale, Tensor) or scale <= 0
    ):  # the kernel takes one positive number, so the query is multiplied by other scales
        outer = per_row(scale)
        left, scale = (left * scale).to(left.dtype), 1.0
        a, b = (None if term is None else term * outer for term in (a, b))
    else:
        a, b = (None if term is None else term * scale for term in (a, b))
    if left.shape[-1] == 0:  # there are only biases, but the kernel needs at least one column
        left, right = (x.new_zeros(*x.shape[:-1], 1) for x in (left, right))
    return InnerProductScores(left, right, a, b, scale, mask, pair_bias=table)


@dataclass(frozen=True)
class Walk:
    """The computation of s_ij = scale·⟨q_i, k_j⟩ + b_j under a mask, one tile after the other."""

    mask: Mask | None
    scale: float
    batch: Batch
    recompute: bool
    at: Matrices = (slice(None), slice(None))
    pair_bias: Float[Tensor, "#x #y #n #m"] | None = None

    @property
    def T(self) -> Walk:
        mask = None if self.mask is None else self.mask.T
        table = None if self.pair_bias is None else self.pair_bias.mT
        return replace(self, mask=mask, pair_bias=table)

    def tiles(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Iterator[Visit]:
        for rows, cols, tile, nonempty in tiles(
            self.mask, q, k, self.scale, self.batch, bias is not None, self.pair_bias
        ):
            yield rows, cols, tile.of(self.at), None if nonempty is None else pick(nonempty, self.at)

    def some_at_a_time(self, q: Tensor, k: Tensor, width: int) -> Iterator[tuple[Matrices, Walk]]:
        """The same walk for a few matrices of the batch at a time, so few that copies of this width are small."""
        one_by_one = is_simple(self.mask)  # else a tile's mask would be computed for each few
        for at in backends.some_matrices(q, k, width) if one_by_one else [self.at]:
            yield at, replace(self, at=at)

    def reduce(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """(Σ_j softmax_j(s_ij) v_j, log Σ_j exp s_ij)."""
        out = _Pieces((*q.shape[:-1], v.shape[-1]), v)
        lse = q.new_full(q.shape[:-1], -math.inf, dtype=backends.lse_dtype(q.dtype))
        for rows, cols, tile, nonempty in self.tiles(q, k, bias):
            piece, lse[:, :, rows] = backends.forward(
                q[:, :, rows], k[:, :, cols], v[:, :, cols], None if bias is None else bias[:, :, cols], tile
            )
            if nonempty is not None:
                piece = piece.masked_fill(~nonempty[..., None], 0)
                lse[:, :, rows].masked_fill_(~nonempty, -math.inf)
            out.add(rows, piece)
        return out.total(), lse

    def gradients(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor,
        dout: Tensor, dlse: Tensor | None, bias_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
        """The gradients of (out, lse) for q, k, v and the bias, by the backward kernel; they are constants."""
        dq, dk, dv = (_Pieces(x.shape, x) for x in (q, k, v))
        dbias = _Pieces(bias.shape, bias) if bias is not None and bias_gradient else None
        for rows, cols, tile, _ in self.tiles(q, k, bias):
            found = backends.backward(
                dout[:, :, rows], None if dlse is None else dlse[:, :, rows],
                q[:, :, rows], k[:, :, cols], v[:, :, cols], None if bias is None else bias[:, :, cols],
                out[:, :, rows], lse[:, :, rows], tile, bias_gradient=dbias is not None,
            )  # fmt: skip
            dq.add(rows, found.q)
            dk.add(cols, found.k)
            dv.add(cols, found.v)
            if dbias is not None and found.bias is not None:
                dbias.add(cols, found.bias)
        return dq.total(), dk.total(), dv.total(), None if dbias is None else dbias.total()

    def gradients_by_rows(
        self, q: Tensor, k: Tensor, v: Tensor | None, bias: Tensor | None, dout: Tensor | None, dlse: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of (out, lse) for q, k, v and the bias, from the entries: they can be differentiated again."""
        unmerge, merged = self.batch.unmerge, self.batch.merged
        scores = InnerProductScores(
            unmerge(q), unmerge(k), None, None if bias is None else unmerge(bias), self.scale, self.mask,
            pair_bias=None if self.pair_bias is None else self.batch.unmerge_pairs(self.pair_bias),
        )  # fmt: skip
        values = scores.q.new_zeros(k.shape[-2], 0) if v is None else unmerge(v)
        douts = (None if x is None else unmerge(x) for x in (dout, dlse))
        found = iter(scores.gradients_by_rows(values, *douts))
        dq, dk, dbias = (next(found), next(found), None if bias is None else next(found))
        if self.pair_bias is not None:
            next(found)  # of the bias of pairs, which has none
        dv = next(found)

        def merge(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.reshape(*merged, *x.shape[len(self.batch.shape) :])

        return merge(dq), merge(dk), merge(dv), merge(dbias)


class _LogSumExp(torch.autograd.Function):
    """(q, k, b) ↦ log Σ_j exp s_ij. Its derivative is two averages over P, so no backward kernel is run.

        dq_i = scale·g_i Σ_j P_ij k_j,   dk_j = scale·Σ_i P_ij g_i q_i,   db_j = Σ_i P_ij g_i

    The kernel computes the first together with the normalizer (with `recompute` it is computed again instead). The
    others are an average over queries times the column mass. They take one more forward pass, which takes less than
    half the time of a backward pass.
    """

    @staticmethod
    def forward(ctx, q, k, bias, walk):  # type: ignore[no-untyped-def]
        # ∂lse_i/∂q_i = scale · Σ_j P_ij k_j is an average of keys, which the kernel computes in the same pass if keys
        # are passed as the values. If it is kept, the gradient of q takes only one multiplication.
        keep = ctx.needs_input_grad[0] and not walk.recompute
        mean_k, lse = walk.reduce(q, k, k if keep else k[..., :0], bias)
        ctx.save_for_backward(q, k, bias, mean_k, lse)
        ctx.walk = walk
        return lse

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        q, k, bias, mean_k, lse = ctx.saved_tensors
        if is_differentiated_again(g):
            dq, dk, _, dbias = ctx.walk.gradients_by_rows(q, k, None, bias, None, g)
            return dq, dk, dbias, None
        for_q, for_k, for_bias, _ = ctx.needs_input_grad
        g = g.masked_fill(lse == -math.inf, 0)[..., None]
        dq, dk = (torch.empty_like(x) if wanted else None for x, wanted in ((q, for_q), (k, for_k)))
        dbias = torch.empty_like(bias) if for_bias else None
        for at, some in ctx.walk.some_at_a_time(q, k, q.shape[-1] + 1):
            own = None if bias is None else bias[at]
            if dq is not None:
                mean = some.reduce(q[at], k[at], k[at], own)[0] if some.recompute else mean_k[at]
                _multiply_into(dq[at], mean, some.scale * g[at])
            if not (for_k or for_bias):
                continue
            # Σ_i P_ij g_i q_i is a sum over queries. With queries and keys exchanged, and −lse as the bias of the new
            # keys, the scores are log P_ij, and the normalizer of their softmax over i is the column mass: the average
            # that the kernel returns, times that mass, is the sum. A column of g beside g q gives the bias's gradient
            # in the same pass.
            parts = [g[at] * q[at]] * for_k + [g[at]] * for_bias
            mean, log_mass = some.T.reduce(k[at], q[at], torch.cat(parts, -1).to(q.dtype), -zero_neg_inf(lse[at]))
            mass = _plus(own, log_mass).exp()[..., None]
            if dk is not None:
                _multiply_into(dk[at], mean[..., : k.shape[-1]], some.scale * mass)
            if dbias is not None:
                dbias[at] = (mean[..., -1:] * mass)[..., 0]
        return dq, dk, dbias, None


def _multiply_into(place: Tensor, a: Tensor, b: Tensor) -> None:
    if torch.compiler.is_compiling():
        place.copy_(a * b)  # the compiler cannot trace `out=` with a part of a tensor
    else:
        torch.mul(a, b, out=place)


class Reduce(torch.autograd.Function):
    """(q, k, v, b) ↦ (Σ_j softmax_j(s_ij) v_j, log Σ_j exp s_ij); both are differentiable for all four arguments."""

    @staticmethod
    def forward(ctx, q, k, v, bias, walk):  # type: ignore[no-untyped-def]
        out, lse = walk.reduce(q, k, v, bias)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, bias, out, lse)
        ctx.walk = walk
        return out, lse

    @staticmethod
    def backward(ctx, dout, dlse):  # type: ignore[no-untyped-def]
        if dout is None and dlse is None:
            return (None,) * 5
        q, k, v, bias, out, lse = ctx.saved_tensors
        if is_differentiated_again(dout, dlse):
            return *ctx.walk.gradients_by_rows(q, k, v, bias, dout, dlse), None
        dout = torch.zeros_like(out) if dout is None else dout
        gradients = ctx.walk.gradients(q, k, v, bias, out, lse, dout, dlse, ctx.needs_input_grad[3])
        return *gradients, None


class _Pieces:
    """A sum of pieces along dimension 2, in at least float32. A single piece that is the whole is not copied."""

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        self.shape, self.like = shape, like
        self.sum: Tensor | None = None

    def add(self, at: slice, piece: Tensor) -> None:
        # A matrix in one tile, the common case, costs no copy. _Pieces that are added up are added in float32, because
        # half precision would lose what later tiles add to a large sum.
        if self.sum is None and at == slice(0, self.shape[2]):
            self.sum = piece
            return
        total = upcast(self.like.new_zeros(self.shape) if self.sum is None else self.sum)
        total[:, :, at] += piece
        self.sum = total

    def total(self) -> Tensor:
        return self.like.new_zeros(self.shape) if self.sum is None else self.sum.to(self.like.dtype)
