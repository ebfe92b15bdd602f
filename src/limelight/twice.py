"""Second derivatives for operations of torch whose derivative torch cannot differentiate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limelight.tracing import is_differentiated_again


def twice_differentiable(
    out: Tensor, inputs: Sequence[Tensor], gradients: Callable[..., Sequence[Tensor | None]]
) -> Tensor:
    """`out`, which torch computed from `inputs`, as a tensor that can be differentiated any number of times.

    An ordinary backward pass uses the derivative of the operation that computed `out`. A backward pass that is
    differentiated itself uses `gradients(*inputs, dout)` instead, which must consist of differentiable operations.
    """
    if not out.requires_grad or torch.compiler.is_compiling():
        return out
    return _Twice.apply(out, gradients, *inputs)  # type: ignore[no-untyped-call]


class _Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, out, gradients, *inputs):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs)
        ctx.gradients = gradients
        return out.view_as(out)

    @staticmethod
    def backward(ctx, dout):  # type: ignore[no-untyped-def]
        if not is_differentiated_again(dout):
            return dout, None, *[None] * len(ctx.saved_tensors)
        return None, None, *ctx.gradients(*ctx.saved_tensors, dout)
