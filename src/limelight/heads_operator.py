"""One operator over all heads, made from the arguments of scaled dot-product attention.

`attend`, `nn.MultiheadAttention` and the Hugging Face functions all build their operator here: grouped key heads, masks
that are added to the scores, biases, a cap on the scores and attention sinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.errors import InputError
from limelight.heads import batch_shape_of, per_row
from limelight.kernels import Kernel
from limelight.mask import Mask, as_mask, split_additive
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Bias, Scaled, Similarity, SoftCap, Sum


@dataclass(frozen=True)
class HeadsOperator:
    """P of (…, H, n, d) queries and (…, H/g, m, d) keys, g query heads to a key head; with a sink, σ(L_i − s_h) P.

    `heads` is H, or None if heads are batch dimensions like others. If `groups` is a number, the attention is computed
    for (…, H/g, g, n, d) queries and (…, H/g, 1, m, d) keys, so that no key is repeated. If heads of one group differ
    in more than their queries, keys are repeated instead.

    An attention sink is a learned logit s_h that takes weight but has no value (gpt-oss, 2508.10925): the softmax has
    one more term e^s_h in its denominator, so each row is the usual one times Σ_j e^s_ij / (Σ_j e^s_ij + e^s_h) =
    σ(L_i − s_h), with the log-sum-exp L_i that the kernel returns.
    """

    attention: Attention
    heads: int | None
    groups: int | None
    sinks: Float[Tensor, "*#batch H #n"] | None = None

    def apply(self, value: Float[Tensor, "*#batch Hv m e"], dropout: float = 0.0) -> Float[Tensor, "*batch H n e"]:
        """P value, or (D ∘ P) value, where D_ij = 0 with probability `dropout` and 1/(1 − dropout) otherwise."""
        value, A = self._beside_keys(value), self.attention
        # Called as a method, because a compiled graph does not support `@` of this class.
        out = self._flat(A.__matmul__(value) if dropout == 0 else A.apply_with_dropout(value, dropout))
        return out if self.sinks is None else out * self._share_of_keys()[..., None].to(out.dtype)

    def dense(self) -> Float[Tensor, "*batch H n m"]:
        """The matrix of weights, for pictures."""
        weights = self._flat(self.attention.dense())
        return weights if self.sinks is None else weights * self._share_of_keys()[..., None].to(weights.dtype)

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

    def _share_of_keys(self) -> Float[Tensor, "*batch H n"]:
        """σ(L_i − s_h): the share of each query's weight that its sink leaves to the keys."""
        assert self.sinks is not None
        lse = self.attention.logsumexp()
        lse = lse if self.groups is None else lse.flatten(-3, -2)
        temperature = per_row(self.attention.normalization.temperature)  # it divides every logit, also that of the sink
        return (lse - self.sinks / temperature).sigmoid()

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
    if softcap is not None:
        similarity, scale = SoftCap(similarity, softcap, scale), None
    tables = [Bias(bias) for bias in biases if bias is not None]
    if tables:
        own = similarity.default_scale(query.shape[-1]) if scale is None else scale
        similarity, scale = Sum(Scaled(similarity, own), *tables), None
    if sinks is not None:
        _require_one_softmax(normalization)
        sinks = _per_query(sinks, query)
    heads, groups = query.shape[-3] if grouped else None, None
    if heads is not None and key.shape[-3] != heads:
        if _heads_differ(similarity, normalization, mask, scale, query.shape[-1]):
            key = key.repeat_interleave(heads // key.shape[-3], dim=-3)
        else:
            groups = key.shape[-3]
            query, key = query.unflatten(-3, (groups, -1)), key.unsqueeze(-3)
            mask = None if mask is None else mask.for_groups()
    return HeadsOperator(
        Attention(query, key, similarity, normalization, mask, scale, kernel=kernel), heads, groups, sinks
    )


def read_masks(n: int, m: int, *given: Mask | Tensor | None) -> tuple[Mask | None, list[Tensor]]:
    """(a mask of the pairs that all given masks allow, the arrays that float masks add to the scores of n × m pairs).

    A boolean mask is True where a query may see a key. In a float mask, −∞ and its dtype's least number hide a pair;
    they become part of the mask, and only finite numbers are added.
    """
    allowed: Mask | None = None
    biases: list[Tensor] = []
    for mask in given:
        own: Mask | Tensor | None = mask
        if isinstance(mask, Tensor) and mask.is_floating_point():
            _require_shape(mask, n, m)
            own, added = split_additive(mask, n)
            biases += [] if added is None else [added]
        if own is not None:
            allowed = as_mask(own) if allowed is None else allowed & own
    return allowed, biases


def _require_shape(mask: Tensor, n: int, m: int) -> None:
    """Raise `InputError` unless the float mask broadcasts to (*batch, n, m)."""
    shape = (1,) * (2 - mask.ndim) + tuple(mask.shape)
    if shape[-2] not in (1, n) or shape[-1] not in (1, m):
        raise InputError(
            f"a mask that is added to the scores of {n} queries and {m} keys must have the shape (*batch, {n}, {m}), "
            f"got {tuple(mask.shape)}"
        )


def _heads_differ(
    similarity: Similarity, normalization: Normalization, mask: Mask | None, scale: float | Tensor | None, d: int
) -> bool:
    """True if a bias, scale, temperature or mask differs between the query heads of one key head."""
    scale = similarity.default_scale(d) if scale is None else scale
    shapes = [similarity.batch_shape, normalization.batch_shape]
    shapes += [batch_shape_of(scale), batch_shape_of(normalization.temperature)]
    heads_of_mask = () if mask is None else mask.batch_shape[-1:]
    return any(shapes) or heads_of_mask not in ((), (1,))


def _per_query(sinks: Tensor, query: Tensor) -> Float[Tensor, "*#B H #n"]:
    """Sinks (H,), one a head, or (B, H, n, 1), one a query, in a shape that broadcasts against (B, H, n)."""
    B, H, n = query.shape[:3]
    if sinks.shape == (H,):
        return sinks[:, None]
    if sinks.shape == (B, H, n, 1):
        return sinks[..., 0]
    raise InputError(
        f"attention sinks for these queries must have the shape ({H},) or {(B, H, n, 1)}, got {tuple(sinks.shape)}"
    )


def _require_one_softmax(normalization: Normalization) -> None:
    if not isinstance(normalization, Softmax) or normalization.uses_column_sums:
        raise InputError(
            f"an attention sink needs a softmax over keys, which {normalization!r} is not; "
            "use Softmax() in a model with sinks"
        )
