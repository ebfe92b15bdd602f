"""Few queries and many keys, as in decoding: the scores are stored, since they are fewer than the numbers in the keys.

    s_ij = scale · β(q_i, k_j) for i = 1 … n ≤ 4

Every other kernel reads the keys once to check that they are finite, once more for their mean or their norms, and again
to attend to them. For one query these readings take most of the time. Here computing β reads them once, and if the
scores are finite, the keys are finite too.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.heads import learns
from limelight.kernels.rows import learned_by
from limelight.kernels.scores import softmax_of
from limelight.mask import Mask
from limelight.similarity import Bias, Positional, Similarity, is_finite, is_wide
from limelight.similarity.tensors import times
from limelight.tracing import in_transform, is_readable

_QUERIES = 4  # for more, a product of matrices is faster


def are_few(q: Tensor) -> bool:
    """True if there are so few queries that their scores may be stored; False on a GPU and in half precision."""
    if torch.compiler.is_compiling() or not 0 < q.shape[-2] <= _QUERIES or in_transform():
        return False
    return q.is_cpu and is_wide(q) and is_readable(q)


def scores_of_few(
    q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"], similarity: Similarity, scale: float | Tensor
) -> Float[Tensor, "*#batch n m"] | None:
    """scale · β of every pair, masked ones too.

    None if a gradient of them may be needed, if the similarity cannot compute them in one pass, and if some are not
    finite, so that q and k must be checked.
    """
    if 0 in k.shape or not is_readable(k) or anything_learns(q, k, similarity, scale):
        return None
    with torch.no_grad():
        # Query heads that share a key head are treated as more queries of it, g·n rows, so that the keys are read once;
        # `@` would copy them for each head of a group. This would change the positions of queries.
        shares = _is_shared(q, k) and not depends_on_positions(similarity)
        beta = similarity.of_few(q.flatten(-3, -2), k.squeeze(-3)) if shares else similarity.of_few(q, k)
        if beta is None:
            return None
        scores = times(beta.unflatten(-2, q.shape[-3:-1]) if shares else beta, scale)
        return scores if is_finite(scores) else None


def depends_on_positions(similarity: Similarity) -> bool:
    """True if β of a pair, or of a part of a sum, is a number for their positions."""
    if not similarity._modules:  # the common case; walking over modules takes ten times as long
        return isinstance(similarity, (Positional, Bias))
    return any(isinstance(part, (Positional, Bias)) for part in similarity.modules())


def anything_learns(q: Tensor, k: Tensor, similarity: Similarity, scale: float | Tensor | None) -> bool:
    """True if a gradient of the scores may be needed."""
    if not torch.is_grad_enabled():
        return False
    return q.requires_grad or k.requires_grad or learns(scale) or any(x.requires_grad for x in learned_by(similarity))


def product(x: Float[Tensor, "*#batch n m"], y: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
    """x @ y. If several matrices of x share one of y, that one is read once and not copied for each of them."""
    if not _is_shared(x, y):
        return x @ y
    return (x.flatten(-3, -2) @ y.squeeze(-3)).unflatten(-2, x.shape[-3:-1])


def _is_shared(x: Tensor, y: Tensor) -> bool:
    """True for (…, g, n, _) and (…, 1, m, _): then g·n rows share one matrix, which `@` would copy g times."""
    return x.ndim == y.ndim > 2 and y.shape[-3] == 1 < x.shape[-3]


def weights_of_few(scores: Float[Tensor, "*#batch n m"], mask: Mask | None) -> Float[Tensor, "*#batch n m"]:
    """softmax_j(s_ij) over the keys that the mask allows; zero if it allows none."""
    if mask is None:
        return torch.softmax(scores, -1)
    # A mask is read for these few rows only, and hides scores after they are computed: a masked pair costs as much as
    # another, but the keys are read once either way.
    n, m = scores.shape[-2:]
    allowed = mask.block(slice(0, n), slice(0, m), scores.device)
    return softmax_of(torch.where(allowed, scores, -math.inf))
