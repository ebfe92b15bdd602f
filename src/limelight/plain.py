"""The short way for ordinary calls: softmax(scale · β(q, k)) v with no mask or a causal one, and nothing to learn in β.

Building the operator takes as long as attention among a few dozen tokens. A call that needs nothing of it is recognized
by a few comparisons and goes to the computation in which the operator would end: torch's own attention for dot
products, or for a few queries the stored scores of any similarity.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from limelight.heads import groups_of
from limelight.kernels import few
from limelight.kernels.backends.cpu import DTYPES
from limelight.kernels.fused import InnerProductScores
from limelight.mask import causal
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Dot, Similarity, are_finite, is_finite
from limelight.tracing import in_transform, is_autocast


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, similarity: Similarity, normalization: Normalization,
    is_causal: bool, scale: float | Tensor | None, grouped: bool,
) -> Tensor | None:  # fmt: skip
    """The output for finite tensors (batch, heads, length, d) of one kind, or None if the operator is needed.

    The batch, or the batch and the heads, may be missing. With `grouped`, keys and values may have fewer heads than
    queries, if H is a multiple of their number. None also stands for input that the operator refuses: it tells what is
    wrong with it.
    """
    if not (_is_softmax(normalization) and isinstance(similarity, Similarity) and _fit(query, key, value)):
        return None
    if grouped and query.ndim == 2:  # there are no heads that could be in groups
        return None
    if query.ndim < 4:
        query, key, value = query[None], key[None], value[None]
        out = plain_attention(query, key, value, similarity, normalization, is_causal, scale, grouped)
        return None if out is None else out[0]
    shares = query.shape[:2] != key.shape[:2]
    if (shares and not (grouped and _is_shared_out(query, key))) or (is_causal and query.shape != key.shape):
        return None
    if torch.compiler.is_compiling() or in_transform() or is_autocast(query):
        return None
    is_few, is_dot = not is_causal and few.are_few(query), type(similarity) is Dot
    if not (is_few or is_dot):
        return None
    scale = similarity.default_scale(query.shape[-1]) if scale is None else scale
    if not isinstance(scale, (float, int)) or isinstance(scale, bool):
        return None
    if not 0 < scale < math.inf:  # torch's causal mask is −∞ times the scale
        return None
    if is_few:
        if is_dot:
            out = _of_few_products(query, key, value, float(scale))
        else:
            out = _of_few(query, key, value, similarity, float(scale), shares)
        if out is not None:
            return out
    return _of_products(query, key, value, is_causal, float(scale)) if is_dot and not shares else None


def _of_few_products(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor | None:
    """The output for a few queries, or None if queries or keys learn or not all is finite.

    Among a thousand keys each operation and each view can be measured, so that there are no more than needed.
    """
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        return None
    # Query heads that share a key head are more queries of it, so that its keys are read once.
    key, value = key.flatten(0, 1), value.flatten(0, 1)
    scores = torch.bmm(query.reshape(len(key), -1, query.shape[3]), key.mT).mul_(scale)
    if not math.isfinite(scores.sum().item()):
        return None
    return torch.bmm(torch.softmax(scores, -1), value).view(query.shape)


def _of_few(
    query: Tensor, key: Tensor, value: Tensor, similarity: Similarity, scale: float, shares: bool
) -> Tensor | None:
    """The output for a few queries, or None if the operator would not store their scores, or the heads do not fit."""
    heads = similarity.batch_shape
    if heads and (shares or heads != query.shape[1:2]):
        return None
    if shares and few.depends_on_positions(similarity):
        return None
    # Query heads that share a key head are more queries of it, so that its keys are read once.
    rows = query.reshape(*key.shape[:2], -1, query.shape[-1]) if shares else query
    scores = few.scores_of_few(rows, key, similarity, scale)
    if scores is None:
        return None
    out = few.product(few.weights_of_few(scores, None), value)
    return out.reshape(query.shape) if shares else out


def _of_products(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float) -> Tensor | None:
    """The output of torch's attention for dot products, or None if not all is finite."""
    if not are_finite(query, key):
        return None
    if is_causal and not is_finite(value):  # a value must not reach the queries before it, and 0 · NaN would
        return None
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        scores = InnerProductScores(query, key, None, None, scale, causal if is_causal else None)
        return scores.softmax(value)  # torch's own operation too, with second derivatives
    return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=scale)


def _is_softmax(normalization: Normalization) -> bool:
    """True for an object of exactly this class whose parameters have their default values."""
    if type(normalization) is not Softmax:
        return False
    alpha, temperature = normalization.alpha, normalization.temperature
    return not isinstance(alpha, Tensor) and alpha == 0 and not isinstance(temperature, Tensor) and temperature == 1


def _fit(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """True for CPU tensors (…, length, d) of one dtype, without gaps between the numbers of a row."""
    if not type(query) is type(key) is type(value) is Tensor:
        return False
    if query.is_nested or key.is_nested or value.is_nested:
        return False
    shape, keys, dtype = query.shape, key.shape, query.dtype
    if len(shape) not in (2, 3, 4) or len(keys) != len(shape) or value.shape != keys or shape[-1] != keys[-1]:
        return False
    if 0 in shape or 0 in keys:
        return False
    if dtype not in DTYPES or key.dtype != dtype or value.dtype != dtype:
        return False
    if not (query.is_cpu and key.is_cpu and value.is_cpu):
        return False
    return query.stride(-1) == key.stride(-1) == value.stride(-1) == 1


def _is_shared_out(query: Tensor, key: Tensor) -> bool:
    """True if the same number of query heads shares each key head."""
    return query.shape[0] == key.shape[0] and groups_of(query.shape[1], key.shape[1]) is not None
