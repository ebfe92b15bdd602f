"""One operator over all heads, made from the arguments of scaled dot-product attention.

`attend`, `nn.MultiheadAttention` and the Hugging Face functions all build their operator here: grouped key heads, masks
that are added to the scores, biases, a cap on the scores and attention sinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limelight import check
from limelight.attention import Attention
from limelight.errors import InputError
from limelight.heads import batch_shape_of, groups_of
from limelight.kernels import Kernel
from limelight.mask import Mask, as_mask, split_additive
from limelight.normalization import Normalization, Softmax, SoftmaxWithSink
from limelight.similarity import Bias, Scaled, Similarity, SoftCap, Sum


@dataclass(frozen=True)
class HeadsOperator:
    """P of (…, H, n, d) queries and (…, H/g, m, d) keys, g query heads to a key head.

    `heads` is H, or None if heads are batch dimensions like others. If `groups` is a number, the attention is computed
    for (…, H/g, g, n, d) queries and (…, H/g, 1, m, d) keys, so that no key is repeated. If heads of one group differ
    in more than their queries and their sinks, keys are repeated instead.
    """

    attention: Attention
    heads: int | None
    groups: int | None

    def apply(self, value: Float[Tensor, "*#batch Hv m e"], dropout: float = 0.0) -> Float[Tensor, "*batch H n e"]:
        """P value, or (D ∘ P) value, where D_ij = 0 with probability `dropout` and 1/(1 − dropout) otherwise."""
        value, A = self._beside_keys(value), self.attention
        # Called as a method, because a compiled graph does not support `@` of this class.
        return self._flat(A.__matmul__(value) if dropout == 0 else A.apply_with_dropout(value, dropout))

    def dense(self) -> Float[Tensor, "*batch H n m"]:
        """The matrix of weights, for pictures."""
        return self._flat(self.attention.dense())

    def _beside_keys(self, value: Float[Tensor, "*#batch Hv m e"]) -> Tensor:
        """The values in a shape that broadcasts against the operator's keys, repeated only where necessary."""
        if self.heads is None:
            return value
        if self.groups == value.shape[-3]:
            return value.unsqueeze(-3)
        if value.shape[-3] not in (1, self.heads):
            value = value.repeat_interleave(self.heads // value.shape[-3], dim=-3)
        if self.groups is None:
            return value
        return value.expand(*value.shape[:-3], self.heads, -1, -1).unflatten(-3, (self.groups, -1))

    def _flat(self, x: Tensor) -> Tensor:
        """(…, H/g, g, n, w) → (…, H, n, w)."""
        return x if self.groups is None else x.flatten(-4, -3)


def heads_operator(
    query: Float[Tensor, "*#batch H n d"],
    key: Float[Tensor, "*#batch Hk m d"],
    similarity: Similarity,
    normalization: Normalization,
    mask: Mask | None,
    *,
    biases: Sequence[Float[Tensor, "*#batch #H #n #m"] | None] = (),
    scale: float | Tensor | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    grouped: bool = True,
    kernel: Kernel = "auto",
) -> HeadsOperator:
    """The operator with scores cap(scale · β(q, k)) + Σ biases, for any β. A bias that is None is zero.

    With `grouped`, keys may have fewer heads than queries, if H is a multiple of their number. Without it the batch
    dimensions of query and key broadcast.
    """
    check.operands(query, key, similarity.same_width)
    if softcap is not None:
        similarity, scale = SoftCap(similarity, softcap, scale), None
    tables = [Bias(bias) for bias in biases if bias is not None]
    if tables:
        own = similarity.default_scale(query.shape[-1]) if scale is None else scale
        similarity, scale = Sum(Scaled(similarity, own), *tables), None
    sinks = None if sinks is None else _broadcast_to_scores(sinks, query)
    heads, groups = query.shape[-3] if grouped else None, None
    if heads is not None and key.shape[-3] != heads:
        if heads_differ(similarity, normalization, mask, scale, query.shape[-1]):
            key = key.repeat_interleave(heads // key.shape[-3], dim=-3)
        else:
            groups = key.shape[-3]
            query, key = query.unflatten(-3, (groups, -1)), key.unsqueeze(-3)
            mask = None if mask is None else mask.for_groups()
            sinks = None if sinks is None else sinks.unflatten(-3, (groups, -1))
    if sinks is not None:
        normalization = _with_sinks(normalization, sinks)
    return HeadsOperator(Attention(query, key, similarity, normalization, mask, scale, kernel=kernel), heads, groups)


def read_masks(query: Tensor, key: Tensor, *given: Mask | Tensor | None) -> tuple[Mask | None, list[Tensor]]:
    """(a mask of the pairs that all given masks allow, the arrays that float masks add to the scores of all pairs).

    A boolean mask is True where a query may see a key. In a float mask, −∞ and its dtype's least number hide a pair;
    they become part of the mask, and only finite numbers are added. A float mask of zeros is left out, unless it has
    batch dimensions that the queries lack: they are those of the output, whatever the numbers.
    """
    n, m = query.shape[-2], key.shape[-2]
    allowed: Mask | None = None
    biases: list[Tensor] = []
    for mask in given:
        own: Mask | Tensor | None = mask
        if isinstance(mask, Tensor) and mask.is_floating_point():
            _require_shape(mask, n, m)
            own, added = split_additive(mask, n)
            if own is None and added is None and not _is_batch_of(mask, query):
                added = mask
            biases += [] if added is None else [added]
        if own is not None:
            allowed = as_mask(own) if allowed is None else allowed & own
    return allowed, biases


def _is_batch_of(mask: Tensor, query: Tensor) -> bool:
    """True if the mask's batch dimensions broadcast to those of the queries."""
    own, whole = mask.shape[:-2], query.shape[:-2]
    return len(own) <= len(whole) and all(a in (1, b) for a, b in zip(reversed(own), reversed(whole), strict=False))


def _require_shape(mask: Tensor, n: int, m: int) -> None:
    """Raise `InputError` unless the float mask broadcasts to (*batch, n, m)."""
    check.dense("a mask that is added to the scores", mask)
    if mask.ndim < 2:
        raise InputError(
            f"a mask that is added to the scores must have the shape (*batch, {n}, {m}), got {tuple(mask.shape)}"
        )
    shape = tuple(mask.shape)
    if shape[-2] not in (1, n) or shape[-1] not in (1, m):
        raise InputError(
            f"a mask that is added to the scores of {n} queries and {m} keys must have the shape (*batch, {n}, {m}), "
            f"got {tuple(mask.shape)}"
        )


def require_groups(query: Tensor, x: Tensor, name: str) -> None:
    """Raise unless queries are (…, H, n, d) and x is (…, H/g, m, d), so that g query heads share each of its heads."""
    if min(query.ndim, x.ndim) < 3 or groups_of(query.shape[-3], x.shape[-3]) is None:
        raise InputError(
            f"enable_gqa expects (…, H, n, d) queries and {name} (…, H/g, m, d) with a whole number g; "
            f"got {tuple(query.shape)} and {tuple(x.shape)}"
        )


def heads_differ(
    similarity: Similarity, normalization: Normalization, mask: Mask | None, scale: float | Tensor | None, d: int
) -> bool:
    """True if a bias, scale, temperature or mask differs between the query heads of one key head."""
    scale = similarity.default_scale(d) if scale is None else scale
    shapes = [similarity.batch_shape, normalization.batch_shape]
    shapes += [batch_shape_of(scale), batch_shape_of(normalization.temperature)]
    heads_of_mask = () if mask is None else mask.batch_shape[-1:]
    return any(shapes) or heads_of_mask not in ((), (1,))


def _broadcast_to_scores(sinks: Tensor, query: Tensor) -> Float[Tensor, "*#B H #n 1"]:
    """Sinks (H,), one a head, or (B, H, n, 1), one a query, in a shape that broadcasts against scores (B, H, n, m)."""
    B, H, n = query.shape[:3]
    if sinks.shape == (H,):
        return sinks[:, None, None]
    if sinks.shape == (B, H, n, 1):
        return sinks
    raise InputError(
        f"attention sinks for these queries must have the shape ({H},) or {(B, H, n, 1)}, got {tuple(sinks.shape)}"
    )


def _with_sinks(normalization: Normalization, sinks: Float[Tensor, "*#batch #n 1"]) -> SoftmaxWithSink:
    if not isinstance(normalization, Softmax) or normalization.uses_column_sums:
        raise InputError(
            f"an attention sink needs a softmax over keys, which {normalization!r} is not; "
            "use Softmax() in a model with sinks"
        )
    return SoftmaxWithSink(sinks, normalization.temperature)
