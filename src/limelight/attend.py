"""One call from queries, keys and values to outputs, with torch's own argument conventions."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.errors import InputError
from limelight.heads import batch_shape_of
from limelight.kernels import Kernel
from limelight.mask import Mask, as_mask, causal, split_additive
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Bias, Dot, Scaled, Similarity


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

    attn_mask (or mask; where several are given all must allow) is a `Mask`, a boolean tensor, True =
    may see, or a float tensor that is added to the scores, −∞ or its dtype's least number meaning
    may not. `is_causal` counts queries and keys from their starts. `enable_gqa` lets (…, H, n, d)
    queries share (…, H/g, m, d) keys, which are not repeated unless each head has a bias or scale of
    its own. Dropout takes weights away a few rows at a time, not on the fused kernel.

    Raises what `Attention` raises, and `InputError` for a dropout outside [0, 1) and heads that do
    not divide.

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
    if isinstance(dropout_p, bool) or not 0 <= dropout_p < 1:
        raise InputError(f"dropout_p expects a number in [0, 1), got {dropout_p!r}")
    allowed, scores = None, similarity
    for given in (attn_mask, mask, causal if is_causal else None):
        if isinstance(given, Tensor) and given.is_floating_point():
            given, added = split_additive(given)
            if added is not None:
                own = scores.default_scale(query.shape[-1]) if scale is None else scale
                scores, scale = Scaled(scores, own) + Bias(added), None
        if given is not None:
            allowed = as_mask(given) if allowed is None else allowed & given
    if not enable_gqa:
        return _apply(Attention(query, key, scores, normalization, allowed, scale, kernel=kernel), value, dropout_p)
    for name, x in (("key", key), ("value", value)):
        _require_groups(query, x, name)
    groups = key.shape[-3]
    if value.shape[-3] != groups or _each_head_its_own(scores, normalization, allowed, scale, query.shape[-1]):
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3) for x in (key, value))
        return _apply(Attention(query, key, scores, normalization, allowed, scale, kernel=kernel), value, dropout_p)
    together = query.unflatten(-3, (groups, -1))
    allowed = None if allowed is None else allowed.for_groups()
    A = Attention(together, key.unsqueeze(-3), scores, normalization, allowed, scale, kernel=kernel)
    return _apply(A, value.unsqueeze(-3), dropout_p).flatten(-4, -3)


def _apply(A: Attention, value: Tensor, dropout_p: float) -> Tensor:
    if dropout_p == 0:
        return A.__matmul__(value)  # as a method: a compiled graph takes no operator of a class of ours
    return A.apply_with_dropout(value, dropout_p)


def _require_groups(query: Tensor, x: Tensor, name: str) -> None:
    """(…, H, n, d) queries and (…, H/g, m, d) keys, each head of which serves g query heads."""
    if min(query.ndim, x.ndim) < 3 or query.shape[-3] % x.shape[-3]:
        raise InputError(
            f"enable_gqa expects (…, H, n, d) queries and {name} (…, H/g, m, d) with a whole g; "
            f"got {tuple(query.shape)} and {tuple(x.shape)}"
        )


def _each_head_its_own(
    similarity: Similarity, normalization: Normalization, mask: Mask | None, scale: float | Tensor | None, d: int
) -> bool:
    """Is anything said of single query heads, so that those of a group cannot stand side by side?"""
    scale = similarity.default_scale(d) if scale is None else scale
    shapes = [similarity.batch_shape, normalization.batch_shape]
    shapes += [batch_shape_of(scale), batch_shape_of(normalization.temperature)]
    heads_of_mask = () if mask is None else mask.batch_shape[-1:]
    return any(shapes) or heads_of_mask not in ((), (1,))
