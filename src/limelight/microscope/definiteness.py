"""Whether a head's scores are those of a similarity: the signs of the eigenvalues of their symmetric part.

The symmetric part of S_ij = ⟨q_i, k_j⟩ is an inner product of some vectors if it has no negative eigenvalue, as it has
for W_Q = W_K. Then tokens that are alike attract each other. With no positive one they repel each other.

With the tokens as rows of Q and K, the symmetric part is H = ½ (Q Kᵀ + K Qᵀ) = ½ M J Mᵀ, where M = [Q K] is n × 2d and
J exchanges its halves. H is n × n, but its eigenvalues other than 0 are those of ½ Lᵀ J L, which is 2d × 2d, where L is
the Cholesky factor of MᵀM: AB and BA have the same eigenvalues, and L has the same products of columns as M.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_RIDGE = 1e-13  # of the mean of the diagonal, so that the factor exists where columns depend on each other


def definiteness(q: Float[Tensor, "*heads n d"], k: Float[Tensor, "*heads n d"]) -> Float[Tensor, "*heads"]:
    """Σ λ / Σ |λ| over the eigenvalues of ½ (S + Sᵀ), S_ij = ⟨q_i, k_j⟩ less its means over i and over j.

    In [−1, 1]: 1 if S is positive semidefinite on differences of tokens, −1 if negative. q_i and k_i belong to the same
    token i. The means are left out, since what depends on i alone changes no weight, and what depends on j alone is
    only how much a key is liked by all. NaN where all scores are equal.

    >>> import torch
    >>> from limelight.microscope.definiteness import definiteness
    >>> q = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    >>> definiteness(q, q), definiteness(q, -q)
    (tensor(1.), tensor(-1.))
    """
    d = q.shape[-1]
    rows = zip(q.reshape(-1, *q.shape[-2:]), k.reshape(-1, *k.shape[-2:]), strict=True)
    products = torch.stack([_products(*head) for head in rows])
    ridge = _RIDGE * products.diagonal(dim1=-2, dim2=-1).mean(-1)
    factor = torch.linalg.cholesky_ex(products + ridge[:, None, None] * torch.eye(2 * d).to(products))[0]
    mixed = (factor[:, :d].mT @ factor[:, d:]).to(q.dtype)
    values = torch.linalg.eigvalsh((mixed + mixed.mT) / 2)
    total = values.abs().sum(-1)
    share = torch.where(total > 4 * d * ridge, values.sum(-1) / total, torch.nan)
    return share.clamp(-1, 1).reshape(q.shape[:-2])  # clamped for rounding alone


def _products(q: Float[Tensor, "n d"], k: Float[Tensor, "n d"]) -> Float[Tensor, "2d 2d"]:
    """MᵀM of M = [Q K], each about its mean over the tokens, in float64."""
    both = torch.cat([q, k], -1).double()
    both -= both.mean(-2, keepdim=True)
    return both.mT @ both
