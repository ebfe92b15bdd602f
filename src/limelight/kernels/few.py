"""Few queries and many keys, as in decoding: the scores are stored, since they are fewer than the numbers in the keys.

    s_ij = scale · β(q_i, k_j) for i = 1 … n ≤ 4

Every other kernel reads the keys once to see that they are finite, once more for their mean or their norms, and then to
attend to them. For one query these readings are what takes the time. Here β reads them once, and that the scores are
finite tells that the keys are.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.heads import learns
from limelight.kernels.scores import softmax_of
from limelight.mask import Mask
from limelight.similarity import Similarity, is_finite
from limelight.tracing import in_transform, is_readable

_QUERIES = 4  # for more, a product of matrices is faster
_PER_KEY = 64  # numbers held for each key while β is computed


def are_few(q: Tensor, k: Tensor, similarity: Similarity, scale: float | Tensor) -> bool:
    """True if the scores are best stored: of few queries, on the CPU, not in half precision, and without gradients."""
    n = q.shape[-2]
    if torch.compiler.is_compiling() or not 0 < n <= _QUERIES or n * similarity.pair_size > _PER_KEY:
        return False
    if q.device.type != "cpu" or q.dtype not in (torch.float32, torch.float64) or 0 in k.shape:
        return False
    if in_transform() or not is_readable(k):
        return False
    return not torch.is_grad_enabled() or not (
        q.requires_grad or k.requires_grad or learns(scale) or any(p.requires_grad for p in similarity.parameters())
    )


@torch.no_grad()
def scores_of_few(
    q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"], similarity: Similarity, scale: float | Tensor
) -> Float[Tensor, "*#batch n m"] | None:
    """scale · β of every pair, masked ones too; None if some are not finite, so that q and k must be looked at."""
    beta = similarity.of_few(q, k)
    if beta is None:
        return None
    scores = beta * scale
    return scores if is_finite(scores) else None


def softmax_of_few(
    scores: Float[Tensor, "*#batch n m"], mask: Mask | None, v: Float[Tensor, "*#batch m e"]
) -> Float[Tensor, "*#batch n e"]:
    """Σ_j softmax_j(s_ij) v_j over the keys that the mask shows; zero where it shows none."""
    if mask is None:
        return torch.softmax(scores, -1) @ v
    n, m = scores.shape[-2:]
    allowed = mask.block(slice(0, n), slice(0, m), scores.device)
    return softmax_of(torch.where(allowed, scores, -math.inf)) @ v
