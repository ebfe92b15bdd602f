"""How does every output move with every input? The Jacobian of a layer of tokens, all rows in one backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError


def jacobian(f: Callable[[Tensor], Tensor], x: Float[Tensor, "n d"]) -> Float[Tensor, "outputs inputs"]:
    """J = ∂f(x)/∂x as a matrix, f's outputs and x's entries each in one row after another.

    f is asked for a batch (outputs, n, d) of copies of x, each of which is differentiated by one output; it must
    treat the members of a batch apart. Memory is that of (outputs)·n·d numbers, so this is for few tokens.

    Raises `InputError` where x is not (n, d), or f returns no batch of matrices for a batch.
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
