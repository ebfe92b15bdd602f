"""The two passes round the ring, of which everything else is made; both are differentiable.

    Rows:     out_i = Σ_j softmax_j(s_ij + b_j) v_j  and  L_i = log Σ_j exp(s_ij + b_j), sums over the keys of all ranks
    Columns:  c_j = log Σ_i exp(s_ij + f_i), a sum over the queries of all ranks

Queries stay; keys, values and the key term b travel. Each rank computes the block of its queries and the visiting keys
with an ordinary `Attention`, and merges it with what it has. Column sums travel with their keys and are merged on the
way.

What visits a rank takes memory beside its own rows: keys and values of two other ranks, their gradients, and the output
of a block. So keys go round in several pieces, one after the other, and a block has a part of the queries: then all of
that is a small share of what the rank has anyway. The bytes and the pairs of tokens are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.distributed.order import Piece, Run
from limelight.distributed.ring import Homeward, Ring, refuse_again
from limelight.distributed.sharded_mask import ShardedMask
from limelight.kernels.part_of_whole import part_of_whole
from limelight.kernels.scores import Scores, zero_neg_inf
from limelight.mask import Mask
from limelight.normalization import Normalization
from limelight.shapes import broadcast_shapes
from limelight.similarity import Similarity, upcast
from limelight.weights import SoftmaxWeights, Weights


class _WithKeyTerm(Normalization):
    """P_ij = softmax_j(s_ij/T + b_j) for a given b, which was computed from the queries of all ranks; None is zero."""

    def __init__(self, bias: Float[Tensor, "*#batch m"] | None, temperature: float | Tensor) -> None:
        super().__init__()
        self.bias, self.temperature = bias, temperature

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return () if self.bias is None else tuple(self.bias.shape[:-1])

    @property
    def uses_column_sums(self) -> bool:
        return False

    def forward(self, scores: Scores) -> Weights:
        return SoftmaxWeights(scores if self.bias is None else scores.add_key_bias(self.bias))


class Block(NamedTuple):
    """Some queries of this rank and some visiting keys, with the mask of their pairs.

    The first query is `ahead` positions ahead of the first key.
    """

    rows: slice
    cols: slice
    mask: Mask | None
    ahead: int


@dataclass(frozen=True)
class Plan:
    """One operator on all ranks: its scores, and which rows and which keys each rank has.

    `queries` are the runs of this rank, and `pieces` have those of the keys of every rank. `learned` are the tensors of
    the similarity, scale and temperature that learn. With `repeat` > 1 each key head is repeated for so many query
    heads, after it has arrived.
    """

    ring: Ring
    similarity: Similarity
    scale: float | Tensor | None
    temperature: float | Tensor
    mask: ShardedMask
    queries: list[Run]
    pieces: list[Piece]
    learned: tuple[Tensor, ...]
    batch: tuple[int, ...]
    repeat: int

    def attention(self, q: Tensor, k: Tensor, term: Tensor | None, block: Block) -> Attention:
        """The operator of a block, from its own queries and keys, and the keys' term (…, m, 1)."""
        normalization = _WithKeyTerm(None if term is None else term[..., 0], self.temperature)
        return Attention(q, self.repeated(k), self.similarity.at(block.ahead), normalization, block.mask, self.scale)

    def repeated(self, x: Tensor) -> Tensor:
        return x if self.repeat == 1 else x.repeat_interleave(self.repeat, -3)

    def visits(self, piece: Piece, own: Sequence[Tensor]) -> Iterator[tuple[int, list[Tensor], Iterator[Block]]]:
        """(home, tensors, blocks) for every rank: its piece of what is (…, m, width) there, and the blocks with it."""
        mine = [piece.of(x) for x in (*own, *self.mask.of_keys)]
        for home, tensors in self.ring.visits(mine, piece.lengths):
            yield home, tensors[: len(own)], self._blocks(piece.runs[home], tensors[len(own) :])

    def rounds(self, own: Sequence[Tensor]) -> Iterator[tuple[int, list[Tensor], Iterator[Block]]]:
        """The visits of all pieces, one after the other."""
        return chain.from_iterable(self.visits(piece, own) for piece in self.pieces)

    def _blocks(self, keys: Sequence[Run], of_keys: Sequence[Tensor]) -> Iterator[Block]:
        """The blocks of this rank's queries and some visiting keys, but those that positions hide completely."""
        for rows in self.queries:
            for cols in keys:
                if not self.mask.hides_all(rows, cols):
                    mask = self.mask.between(rows, cols, of_keys)
                    yield Block(rows.at, cols.at, mask, rows.start - cols.start)


@dataclass(frozen=True)
class Reading:
    """What a row pass reads from the operator of a block: (…, n, width) numbers that merge as outputs do, and L.

    `within` gives what was read from all blocks, which it is given, as a function of the operator of one.
    """

    of: Callable[[Attention, Tensor], tuple[Tensor, Tensor]]
    within: Callable[[Attention, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    width: int
    dtype: torch.dtype

    def whole(self, A: Attention, v: Tensor, batch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """What is read, with these batch dimensions."""
        out, lse = self.of(A, v)
        return out.expand(*batch, *out.shape[-2:]), lse.expand(*batch, lse.shape[-1])


def rows(plan: Plan, q: Tensor, k: Tensor, v: Tensor, term: Tensor | None) -> tuple[Tensor, Tensor]:
    """(out, L) for this rank's queries, over the keys of all ranks; (0, −∞) for a query that sees no key.

    `term` is b, (…, m, 1), or None for zero.
    """
    reading = Reading(Attention.apply_with_logsumexp, Attention.apply_within, v.shape[-1], v.dtype)
    out, lse = _Rows.apply(plan, reading, q, k, v, term, *plan.learned)  # type: ignore[no-untyped-call]
    return out, lse


def entropy(plan: Plan, q: Tensor, k: Tensor, term: Tensor | None) -> Float[Tensor, "*batch n"]:
    """−Σ_j p_ij log p_ij over the keys of all ranks; 0 for a query that sees no key."""
    # Entropy is L − Σ_j p_ij (s_ij + b_j), and mean scores of blocks merge as their outputs do.
    reading = Reading(_minus_mean_score, _mean_score_within, 1, upcast(q.detach()[..., :0]).dtype)
    out, lse = _Rows.apply(plan, reading, q, k, k[..., :0], term, *plan.learned)  # type: ignore[no-untyped-call]
    return zero_neg_inf(lse) + out[..., 0]


def _mean_score_within(A: Attention, v: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    part, own = _minus_mean_score(A, v)
    return part_of_whole(part.expand_as(out), own.expand_as(lse), out, lse)


def _minus_mean_score(A: Attention, _: Tensor) -> tuple[Tensor, Tensor]:
    lse = A.logsumexp()
    return (A.entropy() - zero_neg_inf(lse))[..., None], lse


def columns(plan: Plan, q: Tensor, k: Tensor, row_bias: Tensor | None) -> Float[Tensor, "*batch m"]:
    """c_j for this rank's keys, over the queries of all ranks; −∞ for a key that no query sees."""
    sums: Tensor = _Columns.apply(plan, q, k, row_bias, *plan.learned)  # type: ignore[no-untyped-call]
    return sums


# Merging. Each block gives (out_b, L_b), a softmax over its keys alone. With L = log Σ_b e^{L_b}, the softmax over all
# keys gives Σ_b w_b out_b with w_b = e^{L_b − L}. The backward pass needs no block's own output
# (`kernels/part_of_whole.py`), so that nothing of other ranks' keys is kept between the passes or computed twice.
class _Rows(torch.autograd.Function):
    """(q, k, v, b, learned…) ↦ (out, L)."""

    @staticmethod
    def forward(ctx, plan, reading, q, k, v, term, *learned):  # type: ignore[no-untyped-def]
        batch = broadcast_shapes(plan.batch, plan.repeated(v).shape[:-2])
        out = upcast(q.new_zeros(*batch, q.shape[-2], reading.width))
        lse = out.new_full(out.shape[:-1], -math.inf)
        for _, (k_, v_, *b_), blocks in plan.rounds(_given(k, v, term)):
            for block in blocks:
                at, cols = block.rows, block.cols
                A = plan.attention(q[..., at, :], k_[..., cols, :], b_[0][..., cols, :] if b_ else None, block)
                part, own = reading.whole(A, plan.repeated(v_[..., cols, :]), batch)
                out[..., at, :], lse[..., at] = _merged(out[..., at, :], lse[..., at], part, own)
        out = out.to(reading.dtype)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, term, out, lse, *learned)
        ctx.plan, ctx.reading = plan, reading
        return out, lse

    @staticmethod
    def backward(ctx, dout, dlse):  # type: ignore[no-untyped-def]
        refuse_again(dout, dlse)
        if dout is None and dlse is None:
            return (None,) * len(ctx.needs_input_grad)
        q, k, v, term, out, lse, *_ = ctx.saved_tensors
        out, lse = out.detach(), lse.detach()  # a block's result must not lead back to this pass
        plan, given = ctx.plan, _given(k, v, term)
        local = _Sums([q, *plan.learned])

        def of_block(block: Block, visiting: list[Tensor]) -> tuple[Tensor | None, ...]:
            at = block.rows
            own_q, inputs = _leaf(q[..., at, :]), [_leaf(x) for x in visiting]
            with torch.enable_grad():
                A = plan.attention(own_q, inputs[0], inputs[2] if len(inputs) > 2 else None, block)
                whole = ctx.reading.within(A, plan.repeated(inputs[1]), out[..., at, :], lse[..., at])
            slopes = None if dout is None else dout[..., at, :], None if dlse is None else dlse[..., at]
            read, slopes = zip(*[pair for pair in zip(whole, slopes, strict=True) if pair[1] is not None], strict=True)
            found = torch.autograd.grad(read, (own_q, *plan.learned, *inputs), slopes, allow_unused=True)
            local.add([at] + [None] * len(plan.learned), found[: -len(inputs)])
            return found[-len(inputs) :]

        dk, dv, *dterm = _gradients_of_keys(plan, given, [], of_block)
        dq, *dlearned = local.like([q, *plan.learned])
        return None, None, dq, dk, dv, dterm[0] if dterm else None, *dlearned


# c_j = log Σ_b e^{c_bj} over blocks of queries b. So the gradient of c_bj is that of c_j times e^{c_bj − c_j}, and c
# and its gradient travel with the keys in the backward pass.
class _Columns(torch.autograd.Function):
    """(q, k, f, learned…) ↦ c."""

    @staticmethod
    def forward(ctx, plan, q, k, row_bias, *learned):  # type: ignore[no-untyped-def]
        c = upcast(k.new_empty((*plan.batch, k.shape[-2], 1)))
        for piece in plan.pieces:
            homeward = Homeward(plan.ring, piece.lengths, torch.logaddexp)
            for home, (k_,), blocks in plan.visits(piece, [k]):
                sums = upcast(k.new_full((*plan.batch, k_.shape[-2], 1), -math.inf))
                for block in blocks:
                    f = None if row_bias is None else row_bias[..., block.rows]
                    own = _block_columns(plan, q[..., block.rows, :], k_[..., block.cols, :], f, block)
                    sums[..., block.cols, 0] = torch.logaddexp(sums[..., block.cols, 0], own)
                homeward.add(home, [sums])
            piece.put(c, homeward.total()[0])
        ctx.save_for_backward(q, k, row_bias, c, *learned)
        ctx.plan = plan
        return c[..., 0]

    @staticmethod
    def backward(ctx, dc):  # type: ignore[no-untyped-def]
        refuse_again(dc)
        q, k, row_bias, c, *_ = ctx.saved_tensors
        plan, mine = ctx.plan, _given(q, None if row_bias is None else row_bias[..., None])
        local = _Sums([*mine, *plan.learned])

        def of_block(block: Block, visiting: list[Tensor]) -> tuple[Tensor | None, ...]:
            inputs, own_k = [_leaf(x[..., block.rows, :]) for x in mine], _leaf(visiting[0])
            c_, g = (x[..., 0] for x in visiting[1:])
            with torch.enable_grad():
                f = inputs[1][..., 0] if len(inputs) > 1 else None
                own = _block_columns(plan, inputs[0], own_k, f, block)
            gradient = g * (own.detach() - zero_neg_inf(c_)).exp()
            found = torch.autograd.grad(own, (*inputs, *plan.learned, own_k), gradient, allow_unused=True)
            local.add([block.rows] * len(inputs) + [None] * len(plan.learned), found[:-1])
            return found[-1:]

        (dk,) = _gradients_of_keys(plan, [k], [c, dc[..., None]], of_block)
        dmine = local.like([*mine, *plan.learned])
        dq, df = dmine[0], None if row_bias is None else dmine[1][..., 0]
        return None, dq, dk, df, *dmine[len(mine) :]


def _block_columns(plan: Plan, q: Tensor, k: Tensor, row_bias: Tensor | None, block: Block) -> Tensor:
    """log Σ_i exp(s_ij + f_i) over the queries of a block."""
    A = plan.attention(q, k, None, block)
    by_key = A.weights().scores.T
    sums = (by_key if row_bias is None else by_key.add_key_bias(row_bias)).logsumexp()
    return sums.expand(*plan.batch, k.shape[-2])


def _gradients_of_keys(
    plan: Plan,
    own: Sequence[Tensor],
    beside: Sequence[Tensor],
    of_block: Callable[[Block, list[Tensor]], Sequence[Tensor | None]],
) -> list[Tensor]:
    """What all ranks contribute to the gradients of `own`, which goes round the ring with what is `beside` it.

    `of_block` gets a block and its rows of both, and returns the gradients of the rows of `own`.
    """
    gradients = [torch.empty_like(x) for x in own]
    for piece in plan.pieces:
        homeward = Homeward(plan.ring, piece.lengths, torch.add)
        for home, tensors, blocks in plan.visits(piece, [*own, *beside]):
            visiting = _Sums(tensors[: len(own)])
            for block in blocks:
                found = of_block(block, [x[..., block.cols, :] for x in tensors])
                visiting.add([block.cols] * len(own), found)
            homeward.add(home, visiting.sums)
        for gradient, total in zip(gradients, homeward.total(), strict=True):
            piece.put(gradient, total)
    return gradients


class _Sums:
    """Sums of gradients for some rows of each tensor, or for whole tensors, in at least float32."""

    def __init__(self, like: Sequence[Tensor]) -> None:
        self.sums = [upcast(torch.zeros_like(x)) for x in like]

    def add(self, at: Sequence[slice | None], gradients: Sequence[Tensor | None]) -> None:
        """Add gradients for these rows, or for a whole tensor where its rows are None; a gradient of None is zero."""
        for total, rows, gradient in zip(self.sums, at, gradients, strict=True):
            if gradient is not None:
                (total if rows is None else total[..., rows, :]).add_(gradient)

    def like(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums in the dtypes of these tensors."""
        return [total.to(x.dtype) for total, x in zip(self.sums, tensors, strict=True)]


def _given(*tensors: Tensor | None) -> list[Tensor]:
    return [x for x in tensors if x is not None]


def _merged(out: Tensor, lse: Tensor, piece: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax over two sets of keys, from that over each of them."""
    total = torch.logaddexp(lse, own)
    finite = zero_neg_inf(total)
    return (lse - finite).exp()[..., None] * out + (own - finite).exp()[..., None] * piece, total


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()
