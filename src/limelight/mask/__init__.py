"""Masks, which say which query may see which key. Combine them, and boolean tensors, with `&`, `|` and `~`:

causal & padding(keys=lengths_to_keep)
window(before=128, after=0) | Boolean(global_tokens)
causal & documents(ids)
"""

from limelight.mask.additive import split_additive
from limelight.mask.band import Band, causal, window
from limelight.mask.base_mask import And, Boolean, Mask, Not, Or, as_mask, conjuncts
from limelight.mask.given import Documents, Padding, documents, padding, real_keys
from limelight.mask.graph import Graph, edges_of

__all__ = [
    "And",
    "Band",
    "Boolean",
    "Documents",
    "Graph",
    "Mask",
    "Not",
    "Or",
    "Padding",
    "as_mask",
    "causal",
    "conjuncts",
    "documents",
    "edges_of",
    "padding",
    "real_keys",
    "split_additive",
    "window",
]
