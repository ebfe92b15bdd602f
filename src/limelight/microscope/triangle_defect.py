"""How far the scores of a head are from those of a metric: the share of triples of tokens that form no triangle.

If a head had one map for queries and keys, W_Q = W_K = W, its scores would be inner products of the vectors W x, and
|W (x_i − x_j)|² = s_ii + s_jj − s_ij − s_ji would be their squared distance. The right side can be computed for any
head: it is ⟨q_i − q_j, k_i − k_j⟩. It need not be a squared distance. It may be negative, where s is not positive
definite, and its roots may violate d_ik ≤ d_ij + d_jk.

Three numbers a, b, c are the squared sides of a triangle if none is negative and 2(ab + bc + ca) ≥ a² + b² + c², by
Heron's formula for sixteen times the square of its area. No root is needed, and a triangle without an area counts as
one. The part of the scores that depends on i alone or on j alone cancels, so that biases of W_Q and W_K do not matter,
nor does where the center of the tokens lies; it is subtracted first, in float64, so that little is lost to rounding.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

TOKENS = 32  # so many tokens of a longer text take part, evenly spaced: 4,960 triples
_ROUNDING = 1e-12  # of the largest score


def triangle_defect(q: Float[Tensor, "*heads n d"], k: Float[Tensor, "*heads n d"]) -> Float[Tensor, "*heads"]:
    """The share of triples i, j, m whose ⟨q_i − q_j, k_i − k_j⟩ are not the squared sides of a triangle.

    q_i and k_i belong to the same token i. Of more than `TOKENS` tokens some take part, evenly spaced. NaN for fewer
    than three tokens, and where a score is not finite.

    >>> import torch
    >>> from limelight.microscope.triangle_defect import triangle_defect
    >>> q, k = torch.randn(2, 10, 8, generator=torch.Generator().manual_seed(0))
    >>> triangle_defect(q, q), triangle_defect(q, -q)  # inner products of one set of vectors, and their negatives
    (tensor(0.), tensor(1.))
    >>> triangle_defect(q, k) > 0.8
    tensor(True)
    """
    squares, rounding = _squared_distances(q, k)
    i, j, m = torch.combinations(torch.arange(squares.shape[-1], device=q.device), 3).unbind(-1)
    sides = torch.stack([squares[..., i, j], squares[..., j, m], squares[..., i, m]])
    a, b, c = sides
    area = 2 * (a * b + b * c + c * a) - sides.square().sum(0)
    is_triangle = (sides.amin(0) >= -rounding) & (area >= -4 * rounding * sides.abs().sum(0))
    share = (~is_triangle).to(q.dtype).mean(-1)
    return torch.where(squares.isfinite().all(-1).all(-1), share, torch.nan)


def _squared_distances(q: Tensor, k: Tensor) -> tuple[Float[Tensor, "*heads t t"], Float[Tensor, "*heads 1"]]:
    """(⟨q_i − q_j, k_i − k_j⟩ of the tokens that take part, what may be rounding in it)."""
    n = q.shape[-2]
    taken = torch.linspace(0, n - 1, min(n, TOKENS), device=q.device).round().long()
    q, k = (x[..., taken, :].double() for x in (q, k))
    s = (q - q.mean(-2, keepdim=True)) @ (k - k.mean(-2, keepdim=True)).mT
    own = s.diagonal(dim1=-2, dim2=-1)
    return own[..., :, None] + own[..., None, :] - s - s.mT, _ROUNDING * s.abs().amax((-2, -1))[..., None]
