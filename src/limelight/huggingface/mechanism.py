"""The function that every attention layer of a transformers model calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.heads_operator import heads_operator, read_masks
from limelight.huggingface import arguments
from limelight.huggingface.agreement import require_agreement
from limelight.huggingface.masks import AdditiveMask
from limelight.mask import Mask, causal, padding
from limelight.normalization import Normalization
from limelight.similarity import Dot, Positional, Similarity

try:
    from transformers.utils.output_capturing import _active_collector
except ImportError:  # earlier versions tell every layer what is to be returned
    _active_collector = None  # type: ignore[assignment]

NoMask = Literal["everything", "the layer's is_causal"]  # what a layer that is given no mask may see


@dataclass(frozen=True)
class Mechanism:
    """A similarity and a normalization, called as transformers calls its attention functions.

    Not a module, so that a layer which holds it does not come to own the similarity's parameters.
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
        _refuse_positions_unknown(self.similarity, query, key)
        attention_mask, is_causal = self._who_is_seen(module, query, key, attention_mask, rest)
        told = {"position_bias": position_bias, "softcap": softcap, "s_aux": s_aux, "sinks": sinks, **rest}
        how = "causal" if is_causal else "none" if attention_mask is None else "given"
        require_agreement(module, query, key, value, how, scaling, told)
        selected = arguments.selected_keys(module, indices, block_indices, query.shape[1], key.shape[2])
        mask, biases = read_masks(query.shape[-2], key.shape[-2], causal if is_causal else attention_mask, selected)
        if self.normalization.uses_column_sums:
            _refuse_a_decoder(module, self.normalization)
            mask = _without_padded_queries(mask, attention_mask)
        P = heads_operator(
            query,
            key,
            self.similarity,
            self.normalization,
            mask,
            biases=[*biases, position_bias],
            scale=scaling if isinstance(self.similarity, Dot) else None,
            softcap=softcap,
            sinks=s_aux if s_aux is not None else sinks,
        )
        out = P.apply(value, dropout if module.training else 0.0)
        weights = P.dense() if _weights_are_asked_for(rest) else None
        return out.transpose(1, 2).contiguous(), weights

    def _who_is_seen(
        self, module: nn.Module, query: Tensor, key: Tensor, attention_mask: Tensor | None, rest: dict[str, Any]
    ) -> tuple[Tensor | None, bool]:
        """(a mask that is given, whether the past alone is to be seen), both counted from the starts of n and m.

        `is_causal=True` is honored where there is no mask; where there is one, it says everything.
        """
        n, m = query.shape[-2], key.shape[-2]
        if isinstance(attention_mask, AdditiveMask):
            if attention_mask.shape[-2:] != (n, m):  # of other tokens than these
                return attention_mask.numbers(), False
            return attention_mask.allowed, attention_mask.allowed is None and n > 1
        if attention_mask is not None:
            return attention_mask, False
        given = rest.get("is_causal")
        if given is None:
            given = self.no_mask == "the layer's is_causal" and getattr(module, "is_causal", True)
        return None, n > 1 and bool(given)


def _refuse_positions_unknown(similarity: Similarity, query: Tensor, key: Tensor) -> None:
    """A similarity of positions counts queries from its own offset; under a cache they move on."""
    n, m = query.shape[-2], key.shape[-2]
    if n != m and any(isinstance(part, Positional) for part in similarity.modules()):
        raise InputError(
            f"{n} queries and {m} keys do not tell {similarity.__class__.__name__} where the queries stand: "
            "pass use_cache=False, and leave out cross-attention layers"
        )


def _refuse_a_decoder(module: nn.Module, normalization: Normalization) -> None:
    """No mask tells that a decoder's cross-attention, or its one query at a time, must not mix."""
    config = getattr(module, "config", None)
    causal = getattr(module, "is_causal", False) and getattr(config, "is_causal", True)
    decoder = getattr(module, "is_decoder", getattr(config, "is_decoder", False))
    if causal or decoder or getattr(config, "add_cross_attention", False):
        raise InputError(
            f"{normalization!r} mixes queries and would let the future through {type(module).__name__} of a decoder; "
            "use it in encoders, or Softmax() here"
        )


def _without_padded_queries(mask: Mask | None, attention_mask: Tensor | None) -> Mask | None:
    """transformers masks padded keys only; where queries are mixed, padded ones must not take part either.

    With as many queries as keys the layer is taken for self-attention: a key that none sees is padding.
    """
    if attention_mask is None or attention_mask.shape[-2] != attention_mask.shape[-1]:
        return mask
    allowed = attention_mask
    if allowed.is_floating_point():
        allowed = allowed > torch.finfo(allowed.dtype).min
    real = padding(queries=allowed.any(-2))
    return real if mask is None else mask & real


def _weights_are_asked_for(rest: dict[str, Any]) -> bool:
    """By an argument, or (GPT-2 passes none on) by what transformers is about to collect."""
    collected = (None if _active_collector is None else _active_collector.get()) or {}  # type: ignore[no-untyped-call]
    return bool(rest.get("output_attentions")) or any(key.endswith("attentions") for key in collected)
