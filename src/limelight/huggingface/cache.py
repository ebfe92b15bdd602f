"""A cache of keys and values for generation, in memory that is doubled when it is full.

transformers' own cache concatenates: each step copies all keys and values of all layers into new tensors, and an
attention function that gets such a tensor cannot know that all but its last row are those of the step before. Here each
layer writes new rows behind the earlier ones and returns a view of them. The view has a tag (`CacheTag`) by which the
attention function finds the layer, and with it what the similarity has computed from these keys before: norms,
directions, a learned φ of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from limelight.errors import InputError
from limelight.growing import Growing, version_of
from limelight.kept_keys import KeptKeys
from limelight.similarity import Similarity
from limelight.tracing import in_transform

_TAG = "limelight_cache_tag"  # the attribute of a view of cached keys


class AttentionCache(DynamicCache):
    """Keys and values of earlier tokens, for `generate` with a registered or transplanted mechanism.

    `model.generate(**tokens, cache=AttentionCache(model.config))` gives the tokens that the model generates
    without it. With it a step of m earlier tokens copies no keys, and what a similarity needs from the keys alone (the
    norms of `Euclidean` and `StudentT`, the φ of `Metric`) is computed once for each key instead of once for each step.
    Similarities of positions (`Dot() + ALiBi(8)`) can be used with it, since it knows the positions of the queries.
    Without a mechanism of Limelight it serves as transformers' `DynamicCache` does, of which it is a subclass.

    Where transformers is older and has no argument `cache`, its name is `past_key_values`.

    An encoder-decoder gets two, `EncoderDecoderCache(AttentionCache(model.config), AttentionCache(model.config))`.
    Layers with a sliding window or with a state instead of keys have the layers of transformers' own cache. While
    gradients are enabled, keys are concatenated as there, and nothing is kept. Parameters of a similarity may be
    changed by in-place operations, as optimizers do; what was kept is then computed again.

    Raises `InputError` for a config that is not one, and for keys of another shape, dtype or device than those before.

    >>> import torch, transformers
    >>> from limelight import Euclidean
    >>> from limelight.huggingface import AttentionCache, transplant
    >>> small = dict(n_layer=2, n_head=2, n_embd=8, vocab_size=10, bos_token_id=0, eos_token_id=0)
    >>> model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**small)).eval()
    >>> cache = AttentionCache(model.config)
    >>> with transplant(model, Euclidean(4.0)):
    ...     out = model.generate(torch.tensor([[1, 2]]), cache=cache, max_new_tokens=3, pad_token_id=0)
    >>> cache.get_seq_length() == out.shape[1] - 1  # the last token was not read
    True
    """

    def __init__(self, config: PreTrainedConfig | None = None) -> None:
        given: object = config
        if given is not None and not isinstance(given, PreTrainedConfig):
            hint = "; write model.config" if hasattr(given, "config") else ""
            raise InputError(f"AttentionCache(config) expects a model's config, got {type(given).__name__}{hint}")
        super().__init__(config=config)
        self.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in self.layers]
        if self.layer_class_to_replicate is DynamicLayer:
            self.layer_class_to_replicate = GrowingLayer


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """The keys and values of one layer, and what a similarity has computed from the keys.

    The methods of transformers' layer that set `keys` and `values` work here too: a view of their first tokens shortens
    them (`crop`), any other tensor replaces them.
    """

    def __init__(self, **given: Any) -> None:
        self._keys, self._values = Growing("key"), Growing("value")
        self._kept: KeptKeys | None = None
        self._kept_state: tuple[int | None, ...] | None = None
        super().__init__(**given)  # type: ignore[no-untyped-call]

    @property
    def keys(self) -> Tensor | None:
        """All keys so far, or None."""
        return self._tagged_view(None) if self._keys.length else None

    @keys.setter
    def keys(self, keys: Tensor | None) -> None:
        self._keys.replace(keys)
        if self._kept is not None:
            self._kept.crop(self._keys.length)

    @property
    def values(self) -> Tensor | None:
        """All values so far, or None."""
        return self._values.all() if self._values.length else None

    @values.setter
    def values(self, values: Tensor | None) -> None:
        self._values.replace(values)

    def lazy_initialization(self, key_states: Tensor, *_: Any) -> None:
        self.device, self.is_initialized = key_states.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values of some tokens; return those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states)
        self._keys.require_fits(key_states)
        self._values.require_fits(value_states)
        # Rows are not written into memory that a gradient may need later.
        in_place = not (torch.is_grad_enabled() or torch.compiler.is_compiling() or in_transform())
        for held, rows in ((self._keys, key_states), (self._values, value_states)):
            held.append(rows) if in_place else held.concatenate(rows)
        return self._tagged_view(key_states.shape[-2]), self._values.all()

    def get_seq_length(self) -> int:
        return self._keys.length

    def crop(self, *tokens: int, **given: int) -> None:
        """As transformers' own, of which the argument has changed from a length to a number of tokens to remove."""
        if self._keys.length:
            super().crop(*tokens, **given)

    def reset(self) -> None:
        self.keys = self.values = None
        self.is_initialized = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._select(self._batch()[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._select(self._batch().repeat_interleave(repeats))

    def _batch(self) -> Tensor:
        return torch.arange(self._keys.all().shape[0] if self._keys.length else 0)

    def _select(self, index: Tensor) -> None:
        if not self._keys.length:
            return
        self._keys.select(index)
        self._values.select(index)
        if self._kept is not None:
            self._kept.select(index)

    def scores(
        self,
        similarity: Similarity,
        query: Float[Tensor, "B H n d"],
        position: int,
        groups: int,
        scale: float | None,
    ) -> Float[Tensor, "B H n m"] | None:
        """`KeptKeys.scores` of these queries and all keys."""
        keys, state = self._keys.all(), _state_of(similarity)
        if (
            self._kept is None
            or self._kept.similarity is not similarity
            or self._kept_state != state
            or self._keys.was_changed()
        ):
            self._kept, self._kept_state = KeptKeys(similarity), state
            self._keys.accept_changes()
        self._kept.update(keys)
        return self._kept.scores(query, keys, position, groups, scale)

    def are_own(self, keys: Tensor) -> bool:
        """True if the tensor is a view of all keys that the layer has now."""
        return keys.shape[-2] == self._keys.length and self._keys.begins_with(keys)

    def _tagged_view(self, appended: int | None) -> Tensor:
        view = self._keys.all()
        if not torch.compiler.is_compiling():
            setattr(view, _TAG, CacheTag(ref(self), appended))
        return view

    def __getstate__(self) -> dict[str, Any]:
        """For copies: what was kept is computed again, since it holds the similarity, which must not be copied."""
        return {**self.__dict__, "_kept": None}


class CacheTag(NamedTuple):
    """The tag on a view of cached keys: their layer, and how many were just appended; None if none were."""

    # An operation on the view returns a tensor without the tag, so a model that changes its keys after the cache has
    # returned them (repeats heads, say) is served in the ordinary way. The reference is weak: otherwise view and layer
    # would keep each other's memory until Python looks for cycles.
    layer: ReferenceType[GrowingLayer]
    appended: int | None


class KeysOfLayer(NamedTuple):
    layer: GrowingLayer
    appended: int | None


def cache_layer_of(keys: Tensor) -> KeysOfLayer | None:
    """The layer of an `AttentionCache` whose present keys these are, and how many of them were just appended."""
    tag: CacheTag | None = None if torch.compiler.is_compiling() else getattr(keys, _TAG, None)
    if tag is None:
        return None
    layer = tag.layer()
    return None if layer is None or not layer.are_own(keys) else KeysOfLayer(layer, tag.appended)


def _state_of(similarity: Similarity) -> tuple[int | None, ...]:
    """Numbers that change if a parameter of the similarity is replaced, or changed by an in-place operation."""
    tensors = (*similarity.parameters(), *similarity.buffers())
    return tuple(number for x in tensors for number in (id(x), version_of(x)))
