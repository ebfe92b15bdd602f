"""Of how many linear pieces is a function made, where it is looked at?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError


def count_linear_regions(
    f: Callable[[Tensor], Tensor], x: Float[Tensor, "n d"], share: float = 0.01, tolerance: float = 0.05
) -> int:
    """The number of planes with which f agrees, to first order, on at least `share` of the points x each.

    Two points belong to one plane where their gradients ∇f differ by less than `tolerance` times the largest
    gradient. What lies between two planes, as where a softmax goes over from one expert to the next, is no piece while
    it is short of that share. f maps (n, d) to (n,), each point by itself; x are points of its domain, say a grid.

    Raises `InputError` where x is not (n, d), f returns no number for each point, or share or tolerance is not
    between 0 and 1.
    """
    if x.ndim != 2 or len(x) == 0:
        raise InputError(f"linear_pieces expects points of shape (n, d), n ≥ 1, got {tuple(x.shape)}")
    for name, value in (("share", share), ("tolerance", tolerance)):
        if not 0 < value < 1:
            raise InputError(f"linear_pieces({name}=…) expects a number between 0 and 1, got {value!r}")
    with torch.enable_grad():
        points = x.detach().clone().requires_grad_()
        z = f(points)
        if z.shape != x.shape[:1]:
            raise InputError(f"linear_pieces expects f to map {tuple(x.shape)} to {(len(x),)}, got {tuple(z.shape)}")
        (gradient,) = torch.autograd.grad(z.sum(), points)
    radius = tolerance * float(gradient.norm(dim=1).max())
    found = 0
    while len(gradient):
        alike = (gradient - gradient[0]).norm(dim=1) <= radius
        found += int(alike.sum()) >= share * len(x)
        gradient = gradient[~alike]
    return found
