"""Which arguments of a model reach an attention layer, and what becomes of each.

Models hand what they do not know on to their layers. An argument is *honored* where `Mechanism` takes it by name,
*harmless* where it did its work before the layer or only says what to return, and all others are refused: what is
not in these lists could change the result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limelight.errors import InputError

_RETURNED = "output_attentions output_hidden_states output_router_logits return_dict use_cache logits_to_keep"
_POSITIONS = "position_ids cache_position token_type_ids mm_token_type_ids"  # in queries, keys and mask by now
_INPUTS = (  # of the whole model, whose **kwargs hand them on
    "input_ids inputs_embeds encoder_hidden_states pixel_values pixel_values_videos input_features image_sizes "
    "grid_thw image_grid_thw video_grid_thw"
)
_MASKED = "sliding_window is_causal"  # honored by the mask
_OF_LOSSES = "num_items_in_batch deterministic"
_HARMLESS = frozenset(" ".join((_RETURNED, _POSITIONS, _INPUTS, _MASKED, _OF_LOSSES)).split())
_REFUSED = {
    "head_mask": "a mask on whole heads",
    "cu_seq_lens_q": "packed sequences by their lengths; position_ids mark them too",
    "cu_seq_lens_k": "packed sequences by their lengths; position_ids mark them too",
    "seq_idx": "packed sequences by their indices; position_ids mark them too",
}


def refuse_unknown(rest: dict[str, Any]) -> None:
    """Raise `InputError` for an argument that could change what the layer computes."""
    for name, value in rest.items():
        if value is None or name in _HARMLESS:
            continue
        why = f" ({_REFUSED[name]})" if name in _REFUSED else ""
        raise InputError(f"limelight's attention cannot honor {name}={_brief(value)}{why}; use 'eager' for this model")


def selected_keys(
    module: nn.Module, indices: Tensor | None, block_indices: Tensor | None, heads: int, m: int
) -> Tensor | None:
    """The keys that a sparse layer picked for each query (DeepSeek-V3.2's indexer and its kin), (B, 1 or H, n, m).

    Eager has them in its mask; under any other name the layer hands them on: `indices` (B, n, picked) of keys, or
    `block_indices` (B, groups, n, picked) of blocks of `module.indexer.block_size` keys. Negative ones pick nothing.
    """
    if indices is not None:
        return _one_hot(indices, m)[:, None]
    if block_indices is None:
        return None
    size = getattr(getattr(module, "indexer", None), "block_size", None)
    if not isinstance(size, int):
        raise InputError(
            f"block_indices name blocks of keys, whose size {type(module).__name__} does not tell; use 'eager'"
        )
    blocks = _one_hot(block_indices, -(-m // size))
    allowed = blocks.repeat_interleave(size, dim=-1)[..., :m]
    return allowed.repeat_interleave(heads // allowed.shape[1], dim=1)


def _one_hot(indices: Tensor, size: int) -> Tensor:
    """True at the indices; those outside 0 … size − 1 are left out."""
    inside = torch.where((indices >= 0) & (indices < size), indices, size).long()
    hot = torch.zeros(*indices.shape[:-1], size + 1, dtype=torch.bool, device=indices.device)
    return hot.scatter_(-1, inside, True)[..., :size]


def _brief(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
