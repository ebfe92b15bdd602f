"""P as a random walk over the tokens: how fast it forgets where it started.

The eigenvalues of P have absolute values of at most 1, and one of them is 1, since rows sum to one. After t steps what
is left of the start falls as |λ₂|^t, with λ₂ the largest of the others.

Where no token attends to a later one, P is triangular, and its eigenvalues are on its diagonal: λ₂ is the largest P_ii
of a token other than the first. This is exact and takes linear time. Elsewhere λ₂ comes from Arnoldi's method, which
needs products with P only. They are followed by taking away the mean; this replaces the eigenvalue 1, whose vector is
constant, by 0, and leaves all others as they are, because P maps constants to constants.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 24  # products with P: of many eigenvalues that lie close together the largest is known to about 0.02
_TINY = 1e-6  # of the length of a vector: below it no new direction is left


def second_eigenvalue(
    apply: Callable[[Float[Tensor, "heads n 1"]], Float[Tensor, "heads n 1"]],
    start: Float[Tensor, "heads n 1"],
    most: int = STEPS,
) -> Float[Tensor, " heads"]:
    """|λ₂| of each head from products with P, whose rows sum to one; `start` is any vector that is not constant.

    At most so many products are taken. For up to as many tokens it is exact, up to rounding.

    >>> import torch
    >>> from limelight.microscope.random_walk import second_eigenvalue
    >>> P = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])  # its eigenvalues are 1 and 0.9 + 0.8 - 1
    >>> second_eigenvalue(lambda v: P @ v, torch.tensor([[[1.0], [0.0]]]))
    tensor([0.7000])
    """
    steps = min(most, start.shape[-2] - 1)
    basis = [_unit(_centered(start))]
    small = start.new_zeros(len(start), steps + 1, steps)  # P in this basis: its largest eigenvalues are nearly P's
    for step in range(steps):
        new, known = _centered(apply(basis[-1])), torch.cat(basis, -1)
        before = new.norm(dim=(-2, -1))
        for _ in range(2):  # once more for what rounding has left
            shares = known.mT @ new
            new = new - known @ shares
            small[:, : step + 1, step] += shares[..., 0]
        size = new.norm(dim=(-2, -1))
        size = torch.where(size > _TINY * before, size, 0)
        small[:, step + 1, step] = size
        basis.append(torch.where(size[:, None, None] > 0, new / size[:, None, None], 0))
    found = torch.linalg.eigvals(small[:, :steps].double()).abs().amax(-1)
    return found.clamp(max=1).to(start.dtype)


def _centered(v: Tensor) -> Tensor:
    return v - v.mean(-2, keepdim=True)


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=(-2, -1), keepdim=True)
