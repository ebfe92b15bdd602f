"""All heads of a layer as one operator: grouped keys, biases, a cap on the scores and attention sinks included."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from limelight.attend import _each_head_its_own
from limelight.attention import Attention
from limelight.errors import InputError
from limelight.heads import per_row
from limelight.mask import Boolean, Mask, as_mask, causal, split_additive
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Bias, Scaled, Similarity, SoftCap


@dataclass(frozen=True)
class Operator:
    """P of (B, H, n, d) queries beside (B, H/g, m, d) keys; with a sink, σ(L_i − s_h) P.

    Keys are repeated only where heads of one group have something of their own beside the query. An attention sink is
    a learned logit s_h that takes weight and gives nothing (gpt-oss, 2508.10925): the softmax has one more
    denominator, e^s_h, so each row is the usual one times Σ_j e^s_ij / (Σ_j e^s_ij + e^s_h) = σ(L_i − s_h), with L_i
    the log-sum-exp that the kernel knows.
    """

    attention: Attention
    grouped: bool
    repeats: int
    sinks: Float[Tensor, "*#B H #n"] | None = None

    def apply(self, value: Float[Tensor, "B Hkv m e"], dropout: float = 0.0) -> Float[Tensor, "B H n e"]:
        if self.grouped:
            value = value.unsqueeze(-3)
        elif self.repeats > 1:
            value = value.repeat_interleave(self.repeats, dim=-3)
        A = self.attention
        # as a method: a compiled graph takes no operator of a class of ours
        out = self._together(A.__matmul__(value) if dropout == 0 else A.apply_with_dropout(value, dropout))
        return out if self.sinks is None else out * self._kept()[..., None].to(out.dtype)

    def dense(self) -> Float[Tensor, "B H n m"]:
        weights = self._together(self.attention.dense())
        return weights if self.sinks is None else weights * self._kept()[..., None].to(weights.dtype)

    def _kept(self) -> Float[Tensor, "B H n"]:
        """The share of each query's weight that the sink leaves to the keys."""
        assert self.sinks is not None
        lse = self.attention.logsumexp()
        lse = lse.flatten(-3, -2) if self.grouped else lse
        temperature = per_row(self.attention.normalization.temperature)  # it divides every logit, the sink's too
        return (lse - self.sinks / temperature).sigmoid()

    def _together(self, x: Tensor) -> Tensor:
        return x.flatten(-4, -3) if self.grouped else x


def operator(
    query: Float[Tensor, "B H n d"],
    key: Float[Tensor, "B Hkv m d"],
    similarity: Similarity,
    normalization: Normalization,
    mask: Mask | None,
    *,
    bias: Float[Tensor, "#B #H #n #m"] | None = None,
    scale: float | Tensor | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Operator:
    """The operator with scores cap(scale · β(q, k)) + bias; bias, cap and sinks are of the scores, whatever β is."""
    if softcap is not None:
        similarity, scale = SoftCap(similarity, softcap, scale), None
    if bias is not None:
        own = similarity.default_scale(query.shape[-1]) if scale is None else scale
        similarity, scale = Scaled(similarity, own) + Bias(bias), None
    if sinks is not None:
        _require_one_softmax(normalization)
        sinks = _beside_rows(sinks, query)
    H, groups = query.shape[-3], key.shape[-3]
    grouped = groups != H and not _each_head_its_own(similarity, normalization, mask, scale, query.shape[-1])
    if grouped:
        query, key = query.unflatten(-3, (groups, -1)), key.unsqueeze(-3)
        mask = None if mask is None else mask.for_groups()
    elif groups != H:
        key = key.repeat_interleave(H // groups, dim=-3)
    attention = Attention(query, key, similarity, normalization, mask, scale)
    return Operator(attention, grouped, H // groups, sinks)


def read_mask(
    attention_mask: Tensor | None, is_causal: bool, position_bias: Tensor | None
) -> tuple[Mask | None, Tensor | None]:
    """(who may see whom, what is added to the scores) of a boolean mask, True = may see, or one that is added.

    Of a float mask, −∞ and its dtype's least number hide a pair; they are taken out before anything is added to them.
    """
    if attention_mask is None:
        return causal if is_causal else None, position_bias
    if not isinstance(attention_mask, Tensor) or not attention_mask.is_floating_point():
        return as_mask(attention_mask), position_bias
    allowed, added = split_additive(attention_mask)
    if added is None:
        return allowed, position_bias
    return allowed, added if position_bias is None else added + position_bias


def _beside_rows(sinks: Tensor, query: Tensor) -> Float[Tensor, "*#B H #n"]:
    """Sinks (H,), one for each head, or (B, H, n, 1), one for each query, as they stand beside rows (B, H, n)."""
    B, H, n = query.shape[:3]
    if sinks.shape == (H,):
        return sinks[:, None]
    if sinks.shape == (B, H, n, 1):
        return sinks[..., 0]
    raise InputError(f"attention sinks of shape ({H},) or {(B, H, n, 1)} fit these queries, got {tuple(sinks.shape)}")


def _require_one_softmax(normalization: Normalization) -> None:
    if not isinstance(normalization, Softmax) or normalization.uses_column_sums:
        raise InputError(
            f"an attention sink takes its share of a softmax over keys, which {normalization!r} is not; "
            "use Softmax() in a model with sinks"
        )


def mask_and(mask: Mask | None, allowed: Bool[Tensor, "#B #H n m"] | None) -> Mask | None:
    if allowed is None:
        return mask
    return Boolean(allowed) if mask is None else mask & allowed
