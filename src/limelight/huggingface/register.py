"""Registering a mechanism under a name for `attn_implementation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from limelight import check
from limelight.errors import InputError
from limelight.huggingface.masks import additive_mask
from limelight.huggingface.mechanism import Mechanism
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Dot, Similarity

OURS: set[str] = set()  # the names that were registered here
_RESERVED = ("flash", "flex_attention", "sdpa", "/", "|", ":")  # parts of names that have a meaning for transformers


def register(name: str, similarity: Similarity = Dot(), normalization: Normalization = Softmax()) -> None:
    """Register Attention(query, key, similarity, normalization) @ value as an attention of transformers.

    Then `model.set_attn_implementation(name)` and `from_pretrained(…, attn_implementation=name)`
    use it in every layer that goes through transformers' AttentionInterface (`attention_layers`
    lists them). The model computes what it does under "eager", with this mechanism in place of its
    attention. Masks are made as needed: boolean n × m where there is padding, a window or a cache;
    none, so that memory is linear in n, for a layer that is only causal or sees everything.

    A cap on the scores (Gemma 2), a position bias (T5) and attention sinks (gpt-oss) are applied to the
    scores of any similarity; a sink needs a normalization that is one softmax of each row. A layer whose
    own attention does more than its arguments say is detected when it is first called, and refused.
    A name that was registered here can be registered again, which replaces its mechanism.

    `output_attentions=True` returns the dense weights, without dropout; they are not computed otherwise.
    A padded query that may see no key gets zeros, where eager gives it the mean of all values. A
    boolean mask that a model makes itself hides keys, as under sdpa; eager would add it to the scores.

    Raises `InputError` for a name that transformers has already, or one with a part that has a meaning
    for transformers ("flash…", "…/…"). When the model is called: `InputError` for an argument that cannot
    be honored, for a normalization that mixes queries in a layer that must not see the future, and for a
    similarity of positions if, because of a cache, the positions of the queries are not known.

    >>> from limelight import Euclidean
    >>> from limelight.huggingface import register
    >>> register('euclidean', Euclidean(4.0))  # then: model.set_attn_implementation('euclidean')
    """
    check.instance("similarity", similarity, Similarity)
    check.instance("normalization", normalization, Normalization)
    if not isinstance(name, str) or not name:
        raise InputError(f"name expects a non-empty string, got {name!r}")
    if name not in OURS and name in {"eager", *ALL_ATTENTION_FUNCTIONS}:
        raise InputError(f"transformers has an attention named {name!r} already; choose another name")
    if read := [part for part in _RESERVED if part in name]:
        raise InputError(f"the part {read[0]!r} of {name!r} has a meaning for transformers; choose another name")
    add(name, Mechanism(similarity, normalization))
    OURS.add(name)


def add(name: str, attention: Callable[..., Any]) -> None:
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, additive_mask)  # without it the layers get no mask, and see the future
