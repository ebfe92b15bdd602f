"""One call from queries, keys and values to outputs, with torch's own argument conventions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.errors import InputError
from limelight.kernels import Kernel
from limelight.mask import Boolean, Mask, as_mask, causal
from limelight.normalisation import Normalisation, Softmax
from limelight.similarity import Dot, Similarity


def attend(
    query: Float[Tensor, "*#batch n d"],
    key: Float[Tensor, "*#batch m d"],
    value: Float[Tensor, "*#batch m e"],
    attn_mask: Mask | Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | Tensor | None = None,
    enable_gqa: bool = False,
    *,
    similarity: Similarity = Dot(),
    normalisation: Normalisation = Softmax(),
    mask: Mask | Tensor | None = None,
    kernel: Kernel = "auto",
) -> Float[Tensor, "*batch n e"]:
    """Attention(query, key, …) @ value, called like `torch.nn.functional.scaled_dot_product_attention`.

    attn_mask (or mask; where several are given all must allow) is a `Mask` or a boolean tensor,
    True = may see; a float tensor is taken if it holds 0 and −∞ only. `is_causal` counts queries
    and keys from their starts. `enable_gqa` lets (…, H, n, d) queries share (…, H/g, m, d) keys.

    Raises what `Attention` raises, and `InputError` for dropout (not offered) and for a float mask
    with other values (a bias is part of the similarity).
    """
    if dropout_p != 0.0:
        raise InputError(f"attend has no dropout on the weights: expected dropout_p=0.0, got {dropout_p}")
    if enable_gqa:
        key, value = (_share(query, x, name) for name, x in (("key", key), ("value", value)))
    wanted = [_as_seen(given) for given in (attn_mask, mask, causal if is_causal else None) if given is not None]
    seen = None
    for part in wanted:
        seen = part if seen is None else seen & part
    return Attention(query, key, similarity, normalisation, seen, scale, kernel=kernel) @ value


def _as_seen(mask: Mask | Tensor) -> Mask:
    if not isinstance(mask, Tensor) or not mask.is_floating_point():
        return as_mask(mask)
    seen = mask == 0
    if not bool((seen | (mask == float("-inf"))).all()):
        raise InputError(
            "a float mask expects 0 (may see) and −inf (may not) only; this one has other values: "
            "a bias on the scores belongs to the similarity"
        )
    return Boolean(seen)


def _share(query: Tensor, x: Tensor, name: str) -> Tensor:
    """(…, H/g, m, d) → (…, H, m, d), each head serving g query heads."""
    if min(query.ndim, x.ndim) < 3 or query.shape[-3] % x.shape[-3]:
        raise InputError(
            f"enable_gqa expects (…, H, n, d) queries and {name} (…, H/g, m, d) with a whole g; "
            f"got {tuple(query.shape)} and {tuple(x.shape)}"
        )
    return torch.repeat_interleave(x, query.shape[-3] // x.shape[-3], dim=-3)
