"""The short way for the most ordinary call: dot products, softmax, no mask or a causal one, and no gradient.

    softmax(scale · q kᵀ) v

Such a call ends in torch's own operation, whichever way it takes. To build the operator first costs as much time as
attention among a few dozen tokens, so a call that needs nothing of it is recognized by a few comparisons.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from limelight.kernels.backends.cpu import DTYPES
from limelight.kernels.few import MOST_QUERIES
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Dot, Similarity, are_finite, is_finite
from limelight.tracing import in_transform, is_autocast


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, similarity: Similarity, normalization: Normalization,
    is_causal: bool, scale: float | Tensor | None,
) -> Tensor | None:  # fmt: skip
    """torch's own output for finite queries, keys and values of one shape, or None if the operator is needed.

    None also stands for input that the operator refuses: it tells what is wrong with it.
    """
    if not (_is_softmax_of_dot(similarity, normalization) and (scale is None or type(scale) is float)):
        return None
    if not (_have_one_shape(query, key, value) and _need_no_gradient(query, key, value)):
        return None
    if not (scale is None or 0 < scale < math.inf):  # torch's causal mask is −∞ times the scale
        return None
    if not are_finite(query, key):
        return None
    if is_causal and not is_finite(value):  # a value must not reach the queries before it, and 0 · NaN would
        return None
    return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=scale)


def _is_softmax_of_dot(similarity: Similarity, normalization: Normalization) -> bool:
    """True for objects of exactly these classes whose parameters have their default values."""
    if type(similarity) is not Dot or type(normalization) is not Softmax:
        return False
    alpha, temperature = normalization.alpha, normalization.temperature
    return not isinstance(alpha, Tensor) and alpha == 0 and not isinstance(temperature, Tensor) and temperature == 1


def _have_one_shape(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """True for three CPU tensors of the same 4-dimensional shape and dtype, without gaps between a row's numbers."""
    if not type(query) is type(key) is type(value) is Tensor:
        return False
    shape, dtype = query.shape, query.dtype
    if len(shape) != 4 or key.shape != shape or value.shape != shape or 0 in shape or shape[-2] <= MOST_QUERIES:
        return False
    if dtype not in DTYPES or key.dtype != dtype or value.dtype != dtype:
        return False
    return all(x.device.type == "cpu" and x.stride(-1) == 1 for x in (query, key, value))


def _need_no_gradient(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """True if nothing is differentiated, compiled, transformed by torch.func, or cast by autocast."""
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        return False
    return not (torch.compiler.is_compiling() or in_transform() or is_autocast(query))
