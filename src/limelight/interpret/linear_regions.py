"""The number of linear regions of a function among given points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError


def count_linear_regions(
    f: Callable[[Tensor], Tensor], x: Float[Tensor, "n d"], share: float = 0.01, tolerance: float = 0.05
) -> int:
    """The number of groups of points x with equal gradients ∇f that have at least `share` of the points each.

    Gradients count as equal if they differ by at most `tolerance` times the largest gradient. A transition between two
    planes, as where a softmax changes from one expert to the next, is not counted while it has less than `share` of the
    points. f maps points (n, d) to values (n,), each point independently; x are points of its domain, such as a grid.

    Raises `InputError` if x does not have the shape (n, d), f does not return one number for each point, or share or
    tolerance is not between 0 and 1.
    """
    if x.ndim != 2 or len(x) == 0:
        raise InputError(f"count_linear_regions expects points of shape (n, d), n ≥ 1, got {tuple(x.shape)}")
    for name, value in (("share", share), ("tolerance", tolerance)):
        if not 0 < value < 1:
            raise InputError(f"count_linear_regions({name}=…) expects a number between 0 and 1, got {value!r}")
    with torch.enable_grad():
        points = x.detach().clone().requires_grad_()
        z = f(points)
        if z.shape != x.shape[:1]:
            raise InputError(
                f"count_linear_regions expects f to map {tuple(x.shape)} to {(len(x),)}, got {tuple(z.shape)}"
            )
        (gradient,) = torch.autograd.grad(z.sum(), points)
    radius = tolerance * float(gradient.norm(dim=1).max())
    found = 0
    while len(gradient):
        alike = (gradient - gradient[0]).norm(dim=1) <= radius
        found += int(alike.sum()) >= share * len(x)
        gradient = gradient[~alike]
    return found
