"""The function that every attention layer of a transformers model calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.heads_operator import heads_operator, read_masks
from limelight.huggingface import arguments
from limelight.huggingface.agreement import require_agreement
from limelight.huggingface.cache import GrowingLayer, cache_layer_of
from limelight.huggingface.masks import AdditiveMask
from limelight.kept_keys import are_few, average, is_row_softmax
from limelight.mask import Mask, causal, padding
from limelight.normalization import Normalization
from limelight.plain import plain_attention
from limelight.similarity import Dot, Positional, Similarity, is_finite

try:
    from transformers.utils.output_capturing import _active_collector
except ImportError:  # in earlier versions every layer gets the argument output_attentions
    _active_collector = None  # type: ignore[assignment]

NoMask = Literal["everything", "the layer's is_causal"]  # which keys may be seen in a layer that gets no mask


@dataclass(frozen=True)
class Mechanism:
    """A similarity and a normalization, called as transformers calls its attention functions.

    It is not a torch module: otherwise a layer that stores it would register the similarity's parameters as its own.
    """

    similarity: Similarity
    normalization: Normalization
    no_mask: NoMask = "everything"

    def __call__(
        self,
        module: nn.Module,
        query: Float[Tensor, "B H n d"],
        key: Float[Tensor, "B Hkv m d"],
        value: Float[Tensor, "B Hkv m e"],
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        position_bias: Float[Tensor, "#B #H n m"] | None = None,
        softcap: float | None = None,
        s_aux: Float[Tensor, " H"] | None = None,
        sinks: Float[Tensor, "B H n 1"] | None = None,
        indices: Tensor | None = None,
        block_indices: Tensor | None = None,
        **rest: Any,
    ) -> tuple[Float[Tensor, "B n H e"], Float[Tensor, "B H n m"] | None]:
        arguments.refuse_unknown(rest)
        cached = cache_layer_of(key)
        offset = _offset_of_queries(self.similarity, query, key, None if cached is None else cached.appended)
        attention_mask, is_causal = self._given_mask(module, query, key, attention_mask, rest)
        layer_arguments = {"position_bias": position_bias, "softcap": softcap, "s_aux": s_aux, "sinks": sinks, **rest}
        mask_kind = "causal" if is_causal else "none" if attention_mask is None else "given"
        require_agreement(module, query, key, value, mask_kind, scaling, layer_arguments)
        selected = arguments.selected_keys(module, indices, block_indices, query.shape[1], key.shape[2])
        mask, biases = read_masks(query, key, causal if is_causal else attention_mask, selected)
        biases += [] if position_bias is None else [position_bias]
        scale = scaling if isinstance(self.similarity, Dot) else None
        if self.normalization.uses_column_sums:
            _require_encoder(module, self.normalization)
            mask = _without_padded_queries(mask, attention_mask)
        sinks = s_aux if s_aux is not None else sinks
        dropout = dropout if module.training else 0.0
        returns_weights = _must_return_weights(rest)
        is_plain = softcap is None and sinks is None and dropout == 0 and not returns_weights
        if is_plain and cached is not None:
            out = self._from_kept(cached.layer, query, value, offset, mask, biases, scale)
            if out is not None:
                return out.transpose(1, 2).contiguous(), None
        similarity = self.similarity.at(offset) if offset else self.similarity
        if is_plain and not biases and (mask is None or mask is causal):
            out = plain_attention(query, key, value, similarity, self.normalization, mask is causal, scale, True)
            if out is not None:
                return out.transpose(1, 2).contiguous(), None
        P = heads_operator(
            query,
            key,
            similarity,
            self.normalization,
            mask,
            biases=biases,
            scale=scale,
            softcap=softcap,
            sinks=sinks,
        )
        out = P.apply(value, dropout)
        return out.transpose(1, 2).contiguous(), P.dense() if returns_weights else None

    def _from_kept(
        self,
        layer: GrowingLayer,
        query: Float[Tensor, "B H n d"],
        value: Float[Tensor, "B Hkv m e"],
        offset: int | None,
        mask: Mask | None,
        biases: Sequence[Tensor],
        scale: float | None,
    ) -> Float[Tensor, "B H n e"] | None:
        """The outputs of a few queries from what the layer of the cache keeps, or None if they must be computed anew.

        None also where an output is not finite: the operator then leaves out padded keys, or raises the error.
        """
        groups = query.shape[-3] // value.shape[-3]
        if torch.is_grad_enabled() or not is_row_softmax(self.normalization) or not are_few(query, groups):
            return None
        scores = layer.scores(self.similarity, query, offset or 0, groups, scale)
        if scores is None:
            return None
        out = average(sum(biases, scores), self.normalization, mask, value, groups)
        return out if is_finite(out) else None

    def _given_mask(
        self, module: nn.Module, query: Tensor, key: Tensor, attention_mask: Tensor | None, rest: dict[str, Any]
    ) -> tuple[Tensor | None, bool]:
        """(the given mask or None, True if the mask is causal). A causal mask is j ≤ i, with both counted from 0.

        The argument or attribute `is_causal` counts only where there is no mask.
        """
        n, m = query.shape[-2], key.shape[-2]
        if isinstance(attention_mask, AdditiveMask):
            if attention_mask.shape[-2:] != (n, m):  # the mask was made for other tokens
                return attention_mask.numbers(), False
            return attention_mask.allowed, attention_mask.allowed is None and n > 1
        if attention_mask is not None:
            return attention_mask, False
        given = rest.get("is_causal")
        if given is None:
            given = self.no_mask == "the layer's is_causal" and getattr(module, "is_causal", True)
        return None, n > 1 and bool(given)


def _offset_of_queries(similarity: Similarity, query: Tensor, key: Tensor, appended: int | None) -> int | None:
    """The position of the first query, or None if it is unknown: with a cache, other than an `AttentionCache`.

    `appended` is the number of keys that this call has appended to such a cache. If they are as many as the queries,
    they belong to the same tokens, which are the last ones. Raises `InputError` for a similarity of positions if the
    position is unknown.
    """
    n, m = query.shape[-2], key.shape[-2]
    if n in (m, appended):
        return m - n
    if any(isinstance(part, Positional) for part in similarity.modules()):
        raise InputError(
            f"{similarity.__class__.__name__} needs the positions of the queries, and {n} queries and {m} keys do "
            "not determine them: generate with an AttentionCache or with use_cache=False, and leave out "
            "cross-attention layers and layers with a sliding window"
        )
    return None


def _require_encoder(module: nn.Module, normalization: Normalization) -> None:
    """Raise `InputError` for a layer of a decoder, in which a normalization that mixes queries would show the future.

    Masks alone do not determine this: cross-attention, and decoding of one query at a time, have no causal mask.
    """
    config = getattr(module, "config", None)
    causal = getattr(module, "is_causal", False) and getattr(config, "is_causal", True)
    decoder = getattr(module, "is_decoder", getattr(config, "is_decoder", False))
    if causal or decoder or getattr(config, "add_cross_attention", False):
        raise InputError(
            f"{normalization!r} mixes queries, so that {type(module).__name__}, a layer of a decoder, would see future "
            "tokens; use it in encoders, or Softmax() here"
        )


def _without_padded_queries(mask: Mask | None, attention_mask: Tensor | None) -> Mask | None:
    """The mask that also hides padded queries, for a normalization that mixes queries.

    The masks of transformers hide padded keys only. A layer with as many queries as keys is taken for self-attention,
    where a key that no query may see is padding.
    """
    if attention_mask is None or attention_mask.shape[-2] != attention_mask.shape[-1]:
        return mask
    allowed = attention_mask
    if allowed.is_floating_point():
        allowed = allowed > torch.finfo(allowed.dtype).min
    real = padding(queries=allowed.any(-2))
    return real if mask is None else mask & real


def _must_return_weights(rest: dict[str, Any]) -> bool:
    """True if the weights are asked for by an argument, or, in models that do not pass it on, are being collected."""
    if rest.get("output_attentions"):
        return True
    collected = None if _active_collector is None else _active_collector.get()  # type: ignore[no-untyped-call]
    return bool(collected) and any(key.endswith("attentions") for key in collected)
