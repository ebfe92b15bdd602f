"""How each argument is treated that a model passes to its attention layers.

Models pass arguments that they do not know on to their layers. An argument is *honored* if `Mechanism` has a parameter
of its name, and *harmless* if it took effect before the layer or only selects what is returned. All others are refused,
since an argument that is not in these lists could change the result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limelight.errors import InputError

_RETURNED = "output_attentions output_hidden_states output_router_logits return_dict use_cache logits_to_keep"
_POSITIONS = "position_ids cache_position token_type_ids mm_token_type_ids"  # queries, keys and mask depend on them
_INPUTS = (  # inputs of the whole model, which its **kwargs pass on
    "input_ids inputs_embeds encoder_hidden_states pixel_values pixel_values_videos input_features image_sizes "
    "grid_thw image_grid_thw video_grid_thw"
)
_MASKED = "sliding_window is_causal"  # the mask depends on them
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
        raise InputError(f"Limelight's attention cannot honor {name}={_brief(value)}{why}; use 'eager' for this model")


def selected_keys(
    module: nn.Module, indices: Tensor | None, block_indices: Tensor | None, heads: int, m: int
) -> Tensor | None:
    """The keys that a sparse layer (such as DeepSeek-V3.2's) selected for each query, as booleans (B, 1 or H, n, m).

    For eager, the layer puts them into the mask; for any other name it passes them on: `indices` (B, n, selected) of
    keys, or `block_indices` (B, groups, n, selected) of blocks of `module.indexer.block_size` keys. Negative indices
    select nothing. Returns None if the layer passes neither.
    """
    if indices is not None:
        return _one_hot(indices, m)[:, None]
    if block_indices is None:
        return None
    size = getattr(getattr(module, "indexer", None), "block_size", None)
    if not isinstance(size, int):
        raise InputError(
            f"block_indices select blocks of keys, and {type(module).__name__} has no indexer.block_size that gives "
            "their size; use 'eager' for this model"
        )
    blocks = _one_hot(block_indices, -(-m // size))
    allowed = blocks.repeat_interleave(size, dim=-1)[..., :m]
    return allowed.repeat_interleave(heads // allowed.shape[1], dim=1)


def _one_hot(indices: Tensor, size: int) -> Tensor:
    """A boolean tensor (…, size) that is True at the indices; indices outside 0 … size − 1 are ignored."""
    inside = torch.where((indices >= 0) & (indices < size), indices, size).long()
    hot = torch.zeros(*indices.shape[:-1], size + 1, dtype=torch.bool, device=indices.device)
    return hot.scatter_(-1, inside, True)[..., :size]


def _brief(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
