"""A mechanism under a name that transformers knows."""

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

OURS: set[str] = set()
_READS_INTO_NAMES = ("flash", "flex_attention", "sdpa", "/", "|", ":")  # transformers acts on these


def register(name: str, similarity: Similarity = Dot(), normalization: Normalization = Softmax()) -> None:
    """Attention(query, key, similarity, normalization) @ value, under a name that transformers knows.

    Then `model.set_attn_implementation(name)` and `from_pretrained(…, attn_implementation=name)`
    use it in every layer that goes through transformers' AttentionInterface (`attention_layers`
    lists them), and so computes what "eager" does with this mechanism in its place. The masks come
    with it: boolean n × m where there is padding, a window or a cache; none, in memory linear in n,
    where a plain causal or open layer needs none.

    A cap on the scores (Gemma 2), a position bias (T5) and attention sinks (gpt-oss) are of the
    scores, whatever the similarity is; a sink needs one row softmax. A layer whose own attention
    does more than it tells is found when it is first called, and refused.
    Registering a name of one's own again replaces it.

    `output_attentions=True` gives the dense weights, without dropout; they are never built otherwise.
    A padded query that may see nothing gets zeros, where eager gives it the mean of all values. A
    boolean mask that a model makes itself hides what it says, as under sdpa; eager would add it.

    Raises `InputError` for a name that transformers knows already or would read a meaning into
    ("flash…", "…/…"). At use: `InputError` for an argument that cannot be honored, for a
    normalization that mixes queries in a layer that must not see the future, and for a similarity
    of positions where a cache hides at which position the queries stand.

    >>> from limelight import Euclidean
    >>> from limelight.huggingface import register
    >>> register('euclidean', Euclidean(4.0))  # then: model.set_attn_implementation('euclidean')
    """
    check.instance("similarity", similarity, Similarity)
    check.instance("normalization", normalization, Normalization)
    if not isinstance(name, str) or not name:
        raise InputError(f"name expects a non-empty string, got {name!r}")
    if name not in OURS and name in {"eager", *ALL_ATTENTION_FUNCTIONS}:
        raise InputError(f"{name!r} is an attention that transformers knows already; choose another name")
    if read := [part for part in _READS_INTO_NAMES if part in name]:
        raise InputError(f"transformers reads a meaning into {read[0]!r} in {name!r}; choose another name")
    add(name, Mechanism(similarity, normalization))
    OURS.add(name)


def add(name: str, attention: Callable[..., Any]) -> None:
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, additive_mask)  # else the layers get no mask at all, and see the future
