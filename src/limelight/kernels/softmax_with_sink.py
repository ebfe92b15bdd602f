"""P v for a softmax with a sink, on the fused kernel: one forward and one backward pass, and nothing n×m.

out_i = Σ_j p_ij v_j,   p_ij = exp(s_ij − F_i),   F_i = log(exp a_i + Σ_j exp s_ij)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limelight.kernels import backends
from limelight.kernels.fused import InnerProductScores, Reduce, Walk
from limelight.kernels.scores import Scores, zero_neg_inf
from limelight.tracing import is_differentiated_again


def reduce_with_sink(
    scores: Scores, v: Float[Tensor, "*#batch m e"], sink: float | Float[Tensor, "*#batch #n"]
) -> Float[Tensor, "*#batch n e"]:
    """Σ_j p_ij v_j; zero where every key is masked."""
    if not isinstance(scores, InnerProductScores) or torch.compiler.is_compiling():
        out, lse = scores.reduce(v)
        return times(out, log_share(lse, sink).exp())
    dtype = backends.lse_dtype(scores.q.dtype)
    sink = sink.to(dtype) if isinstance(sink, Tensor) else scores.q.new_full((1,), sink, dtype=dtype)
    if scores.query_bias is not None:  # it moves all scores of a row, so that the sink lies lower by as much
        sink = sink - scores.query_bias
    sinks = sink.expand(*sink.shape[:-1], scores.q.shape[-2])[..., None]
    q, k, bias, walk = scores.walk_over(v, sinks)
    merge, unmerge = walk.batch.merge, walk.batch.unmerge
    return unmerge(_ReduceWithSink.apply(q, k, merge(v), bias, merge(sinks)[..., 0], walk))  # type: ignore[no-untyped-call]


def log_share(lse: Float[Tensor, "*#batch n"], sink: float | Float[Tensor, "*#batch #n"]) -> Float[Tensor, "*#batch n"]:
    """log σ(L_i − a_i), the share that the sink leaves to the keys; finite where every key is masked."""
    return F.logsigmoid(zero_neg_inf(lse) - sink).to(lse.dtype)


def with_sink(lse: Float[Tensor, "*#batch n"], sink: float | Float[Tensor, "*#batch #n"]) -> Float[Tensor, "*#batch n"]:
    """F_i = log(e^L_i + e^a_i), which is a_i where every key is masked."""
    return torch.where(lse == -math.inf, sink, zero_neg_inf(lse) - log_share(lse, sink)).to(lse.dtype)


def times(x: Float[Tensor, "*#batch n e"], factor: Float[Tensor, "*#batch n"]) -> Float[Tensor, "*#batch n e"]:
    """x with each row multiplied by its factor, in the dtype of x."""
    return (x * factor[..., None]).to(x.dtype)


# A sink is one more key with the score a_i and the value 0. The backward pass of a softmax needs no more of a key than
# its score, its value and two numbers of the row: p_ij = exp(s_ij − F_i) and dS_ij = p_ij (⟨dout_i, v_j⟩ − D_i) with
# D_i = ⟨out_i, dout_i⟩. So torch's backward kernel, which is given out and F instead of the output and the normalizer
# of the keys alone, returns the gradients of q, k and v for the softmax with the sink, and that of the sink itself is
# exp(a_i − F_i) (0 − D_i).
class _ReduceWithSink(torch.autograd.Function):
    """(q, k, v, b, a) ↦ Σ_j p_ij v_j."""

    @staticmethod
    def forward(ctx, q, k, v, bias, sink, walk):  # type: ignore[no-untyped-def]
        out, lse = walk.reduce(q, k, v, bias)
        out = times(out, log_share(lse, sink).exp())
        ctx.save_for_backward(q, k, v, bias, sink, out, lse)
        ctx.walk = walk
        return out

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        q, k, v, bias, sink, out, lse = ctx.saved_tensors
        if is_differentiated_again(dout):
            return *_gradients_again(ctx.walk, (q, k, v, bias, sink), dout), None
        normalizer = with_sink(lse, sink).masked_fill(lse == -math.inf, -math.inf)  # such a row has no weight
        gradients = ctx.walk.gradients(q, k, v, bias, out, normalizer, dout, None, ctx.needs_input_grad[3])
        dsink = None
        if ctx.needs_input_grad[4]:
            taken = (sink - zero_neg_inf(lse)).sigmoid()
            dsink = -taken * torch.linalg.vecdot(out.to(taken.dtype), dout.to(taken.dtype))
        return *gradients, dsink, None


def _gradients_again(walk: Walk, inputs: tuple[Tensor | None, ...], dout: Tensor) -> list[Tensor | None]:
    """The same gradients in a form that can be differentiated, from P v of the keys alone and their normalizer."""
    with torch.enable_grad():
        # Each input is given as a view, since queries and keys may be one tensor, whose gradient must not count twice.
        own = [None if x is None else x.view_as(x) for x in inputs]
        q, k, v, bias, sink = own
        assert sink is not None
        out, lse = Reduce.apply(q, k, v, bias, walk)  # type: ignore[no-untyped-call]
        out = times(out, log_share(lse, sink).exp())
        wanted = [x for x in own if x is not None and x.requires_grad]
        found = iter(torch.autograd.grad(out, wanted, dout, create_graph=True))
    return [next(found) if x is not None and x.requires_grad else None for x in own]
