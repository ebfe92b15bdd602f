"""The product P v at the end of a computation by rows, whose value the backward pass does not need.

    out = P v,    ∂out/∂P: dP = dout vᵀ,    ∂out/∂v: dv = Pᵀ dout

The backward pass computes the weights P of some rows again and takes the gradient through them. Neither dP nor dv
depends on out, so the product itself, one of eight in a step of training, need not be computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from limelight.shapes import broadcast_shapes

_VALUE_IS_NEEDED = ContextVar("_VALUE_IS_NEEDED", default=True)


@contextmanager
def only_derivative(only: bool) -> Iterator[None]:
    """Within the block, if `only` is True, `last_product` has a first derivative and no value."""
    if torch.compiler.is_compiling():  # a compiler traces no variables of a context, and computes only what is needed
        yield
        return
    before = _VALUE_IS_NEEDED.set(not only)
    try:
        yield
    finally:
        _VALUE_IS_NEEDED.reset(before)


def last_product(p: Float[Tensor, "*#batch r m"], v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch r e"]:
    """P v; inside `only_derivative` a tensor of its shape whose entries must not be read."""
    if torch.compiler.is_compiling() or _VALUE_IS_NEEDED.get():
        return p @ v
    return _Derivative.apply(p, v)  # type: ignore[no-untyped-call]


class _Derivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(p, v)
        # Autograd asks only for the shape and the dtype of the value, so one number, which is not set either, stands
        # for all entries: no memory is taken and nothing is computed.
        batch = broadcast_shapes(p.shape[:-2], v.shape[:-2])
        return p.new_empty(()).expand(*batch, p.shape[-2], v.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, Tensor | None]:
        p, v = ctx.saved_tensors
        of_p, of_v = ctx.needs_input_grad
        dp = (dout @ v.mT).sum_to_size(p.shape) if of_p else None
        return dp, (p.mT @ dout).sum_to_size(v.shape) if of_v else None
