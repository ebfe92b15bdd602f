"""The function that every attention layer of a transformers model calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.utils import output_capturing

from limelight.attend import attend
from limelight.errors import InputError
from limelight.mask import Mask, as_mask, padding
from limelight.normalisation import Normalisation
from limelight.similarity import Dot, Positional, Similarity

# Arguments that reach an attention layer and have done their work before, or never change what it returns.
_HARMLESS = (
    "cache_position deterministic encoder_hidden_states is_causal logits_to_keep num_items_in_batch output_attentions "
    "output_hidden_states output_router_logits position_ids return_dict sliding_window token_type_ids use_cache"
)
_REFUSED = {
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "softcap": "a cap on the scores",
    "head_mask": "a mask on whole heads",
    "cu_seq_lens_q": "packed sequences by their lengths; position_ids mark them too",
    "cu_seq_lens_k": "packed sequences by their lengths; position_ids mark them too",
    "seq_idx": "packed sequences by their indices; position_ids mark them too",
}


@dataclass(frozen=True)
class Mechanism:
    """A similarity and a normalisation, called as transformers calls its attention functions.

    Not a module, so that a layer which holds it does not come to own the similarity's parameters.
    """

    similarity: Similarity
    normalisation: Normalisation

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
        **rest: Any,
    ) -> tuple[Float[Tensor, "B n H e"], Float[Tensor, "B H n m"] | None]:
        _refuse_what_is_not_known(rest)
        _refuse_positions_unknown(self.similarity, query, key)
        is_causal = _is_causal(module, query, key, attention_mask, rest)
        bias, mask = _terms(attention_mask, position_bias)
        if self.normalisation.mixes_queries:
            _refuse_a_decoder(module, self.normalisation)
            mask = _without_padded_queries(mask, attention_mask)
        given: dict[str, Any] = {
            "attn_mask": bias,
            "mask": mask,
            "is_causal": is_causal,
            "scale": scaling if isinstance(self.similarity, Dot) else None,
            "enable_gqa": query.shape[1] != key.shape[1],
            "similarity": self.similarity,
            "normalisation": self.normalisation,
        }
        out = attend(query, key, value, dropout_p=dropout if module.training else 0.0, **given)
        weights = None
        if _weights_are_asked_for(rest):  # P is P times the identity
            weights = attend(query, key, torch.eye(key.shape[-2]).to(key).expand(*key.shape[:-1], -1), **given)
        return out.transpose(1, 2).contiguous(), weights


def _refuse_what_is_not_known(rest: dict[str, Any]) -> None:
    for name, value in rest.items():
        if value is None or name in _HARMLESS.split():
            continue
        why = f" ({_REFUSED[name]})" if name in _REFUSED else ""
        raise InputError(f"limelight's attention cannot honour {name}={_brief(value)}{why}; use 'eager' for this model")


def _refuse_positions_unknown(similarity: Similarity, query: Tensor, key: Tensor) -> None:
    """A similarity of positions counts queries from its own offset; under a cache they move on."""
    n, m = query.shape[-2], key.shape[-2]
    if n != m and any(isinstance(part, Positional) for part in similarity.modules()):
        raise InputError(
            f"{n} queries and {m} keys do not tell {similarity.__class__.__name__} where the queries stand: "
            "pass use_cache=False, and leave out cross-attention layers"
        )


def _brief(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _is_causal(
    module: nn.Module, query: Tensor, key: Tensor, attention_mask: Tensor | None, rest: dict[str, Any]
) -> bool:
    """Is the past alone to be seen? Asked only where no mask says so, which sdpa's masks leave open.

    They are left out where queries and keys both start at 0 (and for one query, which sees all),
    so that counting from the starts is right; with sliding_window only where no key is too far.
    """
    if attention_mask is not None:
        return False
    window = rest.get("sliding_window")
    if window is not None and key.shape[-2] > window:
        raise InputError(f"sliding_window={window} for {key.shape[-2]} keys came without a mask that carries it")
    given = rest.get("is_causal")
    return query.shape[-2] > 1 and bool(getattr(module, "is_causal", True) if given is None else given)


def _terms(attention_mask: Tensor | None, position_bias: Tensor | None) -> tuple[Tensor | None, Mask | None]:
    """What is added to the scores, and who may see whom. A float mask is added, as eager does."""
    if attention_mask is None:
        return position_bias, None
    if not isinstance(attention_mask, Tensor) or not attention_mask.is_floating_point():
        return position_bias, as_mask(attention_mask)
    return attention_mask if position_bias is None else attention_mask + position_bias, None


def _refuse_a_decoder(module: nn.Module, normalisation: Normalisation) -> None:
    """No mask tells that a decoder's cross-attention, or its one query at a time, must not mix."""
    config = getattr(module, "config", None)
    causal = getattr(module, "is_causal", False) and getattr(config, "is_causal", True)
    decoder = getattr(module, "is_decoder", getattr(config, "is_decoder", False))
    if causal or decoder or getattr(config, "add_cross_attention", False):
        raise InputError(
            f"{normalisation!r} mixes queries and would let the future through {type(module).__name__} of a decoder; "
            "use it in encoders, or Softmax() here"
        )


def _without_padded_queries(mask: Mask | None, attention_mask: Tensor | None) -> Mask | None:
    """transformers masks padded keys only; where queries are mixed, padded ones must not take part either.

    With as many queries as keys the layer is taken for self-attention: a key that none sees is padding.
    """
    if attention_mask is None or attention_mask.shape[-2] != attention_mask.shape[-1]:
        return mask
    seen = attention_mask
    if seen.is_floating_point():
        seen = seen > torch.finfo(seen.dtype).min
    real = padding(queries=seen.any(-2))
    return real if mask is None else mask & real


def _weights_are_asked_for(rest: dict[str, Any]) -> bool:
    """By an argument, or (GPT-2 passes none on) by what transformers is about to collect."""
    collector = getattr(output_capturing, "_active_collector", None)
    collected = (collector.get() if collector is not None else None) or {}
    return bool(rest.get("output_attentions")) or any(key.endswith("attentions") for key in collected)
