"""One call from queries, keys and values to outputs, with torch's own argument conventions."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from limelight import check
from limelight.errors import InputError
from limelight.heads_operator import heads_operator, read_masks, require_groups
from limelight.kernels import Kernel
from limelight.mask import Mask, causal
from limelight.normalization import Normalization, Softmax
from limelight.plain import plain_attention
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
    normalization: Normalization = Softmax(),
    mask: Mask | Tensor | None = None,
    kernel: Kernel = "auto",
) -> Float[Tensor, "*batch n e"]:
    """Attention(query, key, …) @ value, called like `torch.nn.functional.scaled_dot_product_attention`.

    `attn_mask` (or `mask`; if both are given, both must allow a pair) is a `Mask`, a boolean tensor in
    which True allows, or a float tensor that is added to the scores, in which −∞ and its dtype's least
    number forbid. `is_causal` lets query i see keys 0 … i. `enable_gqa` lets (…, H, n, d) queries share
    (…, H/g, m, d) keys, which are not repeated unless each head has its own bias or scale. With dropout
    the fused kernel is not used: weights are dropped a few rows at a time.

    Raises what `Attention` raises, and `InputError` for a dropout outside [0, 1) and for a number of
    query heads that is not a multiple of the number of key heads.

    >>> import torch
    >>> from limelight import Euclidean, attend
    >>> q, k, v = torch.randn(3, 2, 8, 16, 64).unbind()
    >>> attend(q, k, v, is_causal=True).shape
    torch.Size([2, 8, 16, 64])
    >>> attend(q, k, v, is_causal=True, similarity=Euclidean(8.0)).shape
    torch.Size([2, 8, 16, 64])
    >>> ours, torchs = attend(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v)
    >>> torch.allclose(ours, torchs, atol=1e-5)
    True
    """
    if isinstance(dropout_p, bool) or not isinstance(dropout_p, (int, float)) or not 0 <= dropout_p < 1:
        raise InputError(f"dropout_p expects a number in [0, 1), got {dropout_p!r}")
    if not isinstance(is_causal, bool):
        raise InputError(f"is_causal expects True or False, got {is_causal!r}")
    if mask is attn_mask is None and dropout_p == 0 and kernel == "auto":
        out = plain_attention(query, key, value, similarity, normalization, is_causal, scale, enable_gqa)
        if out is not None:
            return out
    check.instance("similarity", similarity, Similarity)
    check.operands(query, key, similarity.same_width)
    allowed, biases = read_masks(query, key, attn_mask, mask, causal if is_causal else None)
    if enable_gqa:
        for name, x in (("key", key), ("value", value)):
            require_groups(query, x, name)
    P = heads_operator(
        query, key, similarity, normalization, allowed, biases=biases, scale=scale, grouped=enable_gqa, kernel=kernel
    )
    return P.apply(value, dropout_p)
