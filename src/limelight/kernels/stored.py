"""Small matrices that torch's own attention stores, for dropout and for a bias of pairs that learns.

The gradient of such a bias is an array as large as the matrix, so storing the matrix too takes only a few times as much
memory. It takes a third less time than the chunked kernel, which computes all scores again for this gradient.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limelight.kernels.rows import learned_by
from limelight.mask import Mask
from limelight.shapes import broadcast_shapes
from limelight.similarity import Bias, Similarity, Sum, is_wide, unscaled
from limelight.similarity.tensors import times
from limelight.tracing import in_transform

_ENTRIES = 1 << 24  # entries of all matrices: 64 MB as float32


def may_be_stored(q: Tensor, entries: int) -> bool:
    """True if the matrix may be stored: few entries, on the CPU, not in half precision."""
    return q.device.type == "cpu" and is_wide(q) and 0 < entries <= _ENTRIES


def softmax_with_learned_bias(
    q: Float[Tensor, "*#batch n d"],
    k: Float[Tensor, "*#batch m d"],
    v: Float[Tensor, "*#batch m e"],
    similarity: Similarity,
    scale: float | Tensor,
    mask: Mask | None,
) -> Float[Tensor, "*#batch n e"] | None:
    """Σ_j softmax_j(scale · β(q_i, k_j)) v_j, if β is a product of contents plus biases of pairs, one of which learns.

    None for any other β, if the matrix is not small, and on a GPU or in half precision.
    """
    if type(similarity) is not Sum or not torch.is_grad_enabled() or torch.compiler.is_compiling() or in_transform():
        return None
    terms = similarity.parts_of_sum()
    biases = [term for term in terms if type(unscaled(term)) is Bias]
    contents = [term for term in terms if term not in biases]
    if len(contents) != 1 or not any(x.requires_grad for term in biases for x in learned_by(term)):
        return None
    factors = contents[0].key_factors(k)
    is_product = type(unscaled(contents[0])).of_product is Similarity.of_product
    if factors is None or factors.bias is not None or not is_product:
        return None
    # torch's operation adds an array to the scores and differentiates it: its gradient is dS = P ∘ (dP − D) itself,
    # which autograd then sends on to each bias and its scale. It multiplies that array by no scale, so those of the
    # terms go into the queries and into the array: scale · (c ⟨q', k'⟩ + Σ_t c_t B_t).
    n, m, d = q.shape[-2], k.shape[-2], q.shape[-1]
    added = reduce(torch.add, [times(term.dense(q, k), term.default_scale(d)) for term in biases])
    batch = broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2], added.shape[:-2])
    if not may_be_stored(q, math.prod(batch) * n * m):
        return None
    added = times(added, scale)
    if mask is not None:
        added = torch.where(mask.block(slice(0, n), slice(0, m), q.device), added, -math.inf)
    queries = contents[0].query_factors(q) * (contents[0].default_scale(d) * scale)
    # torch adds the array in place to ⟨q, k⟩, so these products must have all of its batch dimensions.
    queries = queries.expand(*broadcast_shapes(queries.shape[:-2], added.shape[:-2]), *queries.shape[-2:])
    return F.scaled_dot_product_attention(queries, factors.k, v, attn_mask=added, scale=1.0)
