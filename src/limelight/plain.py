"""The short way for the most ordinary call: dot products, softmax, no mask or a causal one, and no gradient.

    softmax(scale · q kᵀ) v

Such a call ends in torch's own operation, or for a few queries in two products, whichever way it takes. To build the
operator first costs as much time as attention among a few dozen tokens, so a call that needs nothing of it is
recognized by a few comparisons.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from limelight.kernels.backends.cpu import DTYPES
from limelight.kernels.few import are_few
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Dot, Similarity, are_finite, is_finite
from limelight.tracing import in_transform, is_autocast


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, similarity: Similarity, normalization: Normalization,
    is_causal: bool, scale: float | Tensor | None,
) -> Tensor | None:  # fmt: skip
    """The output for finite tensors (batch, heads, length, d) of one kind, or None if the operator is needed.

    None also stands for input that the operator refuses: it tells what is wrong with it.
    """
    if not _is_softmax_of_dot(similarity, normalization) or isinstance(scale, Tensor):
        return None
    if not (_fit(query, key, value, is_causal) and _need_no_gradient(query, key, value)):
        return None
    if not (
        scale is None or (type(scale) in (int, float) and 0 < scale < math.inf)
    ):  # torch's causal mask is −∞ times the scale
        return None
    if not is_causal and are_few(query):
        return _of_few(query, key, value, scale)
    if not are_finite(query, key):
        return None
    if is_causal and not is_finite(value):  # a value must not reach the queries before it, and 0 · NaN would
        return None
    return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=scale)


def _of_few(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor | None:
    """The output for a few queries, or None if not all is finite. Finite scores show that queries and keys are."""
    with torch.no_grad():
        scores = (query @ key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if not is_finite(scores):
            return None
        out = torch.softmax(scores, -1) @ value
        return out if is_finite(out) else None


def _is_softmax_of_dot(similarity: Similarity, normalization: Normalization) -> bool:
    """True for objects of exactly these classes whose parameters have their default values."""
    if type(similarity) is not Dot or type(normalization) is not Softmax:
        return False
    alpha, temperature = normalization.alpha, normalization.temperature
    return not isinstance(alpha, Tensor) and alpha == 0 and not isinstance(temperature, Tensor) and temperature == 1


def _fit(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> bool:
    """True for CPU tensors (batch, heads, length, d) of one dtype, without gaps between the numbers of a row."""
    if not type(query) is type(key) is type(value) is Tensor:
        return False
    if query.is_nested or key.is_nested or value.is_nested:
        return False
    shape, keys, dtype = query.shape, key.shape, query.dtype
    if len(shape) != 4 or value.shape != keys or 0 in shape or 0 in keys:
        return False
    if shape != keys and (is_causal or shape[:2] != keys[:2] or shape[3] != keys[3]):
        return False
    if dtype not in DTYPES or key.dtype != dtype or value.dtype != dtype:
        return False
    return all(x.device.type == "cpu" and x.stride(-1) == 1 for x in (query, key, value))


def _need_no_gradient(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """True if nothing is differentiated, compiled, transformed by torch.func, or cast by autocast."""
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        return False
    return not (torch.compiler.is_compiling() or in_transform() or is_autocast(query))
