"""The Jacobian of a layer of tokens, with all rows computed in one backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError


def jacobian(f: Callable[[Tensor], Tensor], x: Float[Tensor, "n d"]) -> Float[Tensor, "outputs inputs"]:
    """J = ∂f(x)/∂x as a matrix, with a row for each output of f and a column for each entry of x, both flattened.

    f is called with a batch (outputs, n, d) of copies of x, and for each copy one output is differentiated; so f must
    treat the members of a batch independently. This takes memory for outputs·n·d numbers, so use it for few tokens.

    Raises `InputError` if x does not have the shape (n, d), or f does not return a batch of matrices for a batch.
    """
    if x.ndim != 2:
        raise InputError(f"jacobian expects tokens of shape (n, d), got {tuple(x.shape)}")
    outputs = f(x[None]).numel()
    with torch.enable_grad():
        copies = x.detach().expand(outputs, *x.shape).clone().requires_grad_()
        found = f(copies)
        if found.ndim != 3 or found.shape[0] != outputs or found[0].numel() != outputs:
            raise InputError(
                f"jacobian expects f to map a batch {tuple(copies.shape)} to a batch of matrices, "
                f"got {tuple(found.shape)}"
            )
        (gradient,) = torch.autograd.grad(found.flatten(1).diagonal().sum(), copies)
    return gradient.flatten(1)
