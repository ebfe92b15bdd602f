"""The gradients of a softmax over many keys for some of these keys, from its output and log-normalizer.

out_i = Σ_j p_ij v_j,   p_ij = exp(s_ij − L_i),   L_i = log Σ_j exp s_ij,   sums over all keys, of which some are here.

Attention over a sequence that several processes share knows (out, L) after its forward pass, and in its backward pass
sees the keys of one process after the other.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.kernels.fused import InnerProductScores
from limelight.kernels.scores import Scores, zero_neg_inf
from limelight.similarity import upcast

Pair = tuple[Float[Tensor, "*batch n e"], Float[Tensor, "*batch n"]]


def reduce_within(
    scores: Scores, v: Float[Tensor, "*#batch m e"], out: Float[Tensor, "*batch n e"], lse: Float[Tensor, "*batch n"]
) -> Pair:
    """(out, L) as a function of the scores and values of some keys. Raises in a second derivative.

    The numbers are those that are given. Their gradients are what these keys contribute to those of the whole softmax.
    """
    if not isinstance(scores, InnerProductScores):
        part, own = scores.reduce(v)
        return part_of_whole(part.expand_as(out), own.expand_as(lse), out, lse)
    rows = scores.query_bias
    q, k, bias, walk = scores.walk_over(v, out, *([] if rows is None else [rows[..., None]]))
    merge, unmerge = walk.batch.merge, walk.batch.unmerge
    rows = None if rows is None else merge(rows[..., None])[..., 0]
    given = merge(out), merge(lse[..., None])[..., 0]
    out, lse = _Within.apply(q, k, merge(v), bias, rows, *given, walk)  # type: ignore[no-untyped-call]
    return unmerge(out), unmerge(lse)


def part_of_whole(part: Tensor, own: Tensor, out: Tensor, lse: Tensor) -> Pair:
    """(out, L) as a function of (out_b, L_b), the output and log-normalizer of some of the keys alone."""
    whole: Pair = _PartOfWhole.apply(part, own, out, lse)  # type: ignore[no-untyped-call]
    return whole


# With L = log Σ_b e^{L_b} over parts, out = Σ_b w_b out_b, where w_b = e^{L_b − L}. Since ∂w_b/∂L_c = w_b (δ_bc − w_c),
# the gradients g of out and h of L give w_b g for out_b, and w_b (h + ⟨g, out_b − out⟩) for L_b.
class _PartOfWhole(torch.autograd.Function):
    """(out_b, L_b) ↦ (out, L), whose values are given."""

    @staticmethod
    def forward(ctx, part, own, out, lse):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(part, own, out, lse)
        return out.view_as(out), lse.view_as(lse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dout, dlse):  # type: ignore[no-untyped-def]
        part, own, out, lse = ctx.saved_tensors
        weight = (own - zero_neg_inf(lse)).exp()
        dpart, down = None, torch.zeros_like(lse) if dlse is None else dlse
        if dout is not None and dout.shape[-1]:
            dout = upcast(dout)
            dpart = (weight[..., None] * dout).to(part.dtype)
            down = down + torch.linalg.vecdot(upcast(part) - out, dout)
        return dpart, (weight * down).to(own.dtype), None, None


# The backward pass of a softmax needs no more of a key than its score, its value and two numbers of the row:
#     p_ij = exp(s_ij − L_i)   and   dS_ij = p_ij (⟨dout_i, v_j⟩ − ⟨out_i, dout_i⟩ + dL_i).
# So torch's backward kernel, which is given out and L of all keys, returns what the keys that are here contribute, and
# the forward pass over them is not needed again.
#
# A term a_i of the query moves all of a row's scores here, but not those of other keys. The kernel does not know it, so
# it is given L_i − a_i. Its gradient is Σ_j dS_ij. A column of ones in k and one of zeros in q do not change the
# scores, and this column of dq = scale · dS k is scale · Σ_j dS_ij.
class _Within(torch.autograd.Function):
    """(q, k, v, b, a) ↦ (out, L), whose values are given."""

    @staticmethod
    def forward(ctx, q, k, v, bias, rows, out, lse, walk):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, bias, rows, out, lse)
        ctx.walk = walk
        return out.view_as(out), lse.view_as(lse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dout, dlse):  # type: ignore[no-untyped-def]
        q, k, v, bias, rows, out, lse = ctx.saved_tensors
        summed = ctx.needs_input_grad[4]
        dout = torch.zeros_like(out) if dout is None else dout
        if rows is not None:
            lse = lse - rows
        if summed:
            q, k = (torch.cat([x, x.new_full((*x.shape[:-1], 1), fill)], -1) for x, fill in ((q, 0), (k, 1)))
        dq, dk, dv, dbias = ctx.walk.gradients(q, k, v, bias, out, lse, dout, dlse, ctx.needs_input_grad[3])
        drows = None
        if summed:
            drows = dq[..., -1].to(rows.dtype) / ctx.walk.scale
            dq, dk = dq[..., :-1], dk[..., :-1]
        return dq, dk, dv, dbias, drows, None, None, None
