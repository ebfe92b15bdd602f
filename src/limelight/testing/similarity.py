"""The contract of a similarity."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from limelight import check
from limelight.attention import Attention
from limelight.errors import ContractError
from limelight.mask import Padding, causal
from limelight.normalization import Softmax
from limelight.similarity import Parts, Properties, Similarity, checked_dense
from limelight.testing.comparing import in_float64, require_equal, require_kernels_agree, tokens

_N, _M = 11, 14


def check_similarity(similarity: Similarity, d: int = 4, key_width: int | None = None) -> None:
    """Raise `ContractError` unless all methods of a similarity agree with `dense`, its definition.

    Checked for queries of width d and keys of width `key_width` (d unless given), on the CPU: the inner-product form;
    rectangles of β, exchanged ones too; what is computed for few queries and kept of keys; that padding keys have no
    influence; the declared properties; outputs, measures and gradients on every kernel, masked and not; float16 and
    bfloat16.

    >>> from limelight import StudentT
    >>> from limelight.testing import check_similarity
    >>> check_similarity(StudentT(nu=2.0), d=3)
    """
    check.instance("similarity", similarity, Similarity)
    name, own = type(similarity).__name__, in_float64(similarity)
    assert isinstance(own, Similarity)
    q, k = tokens(_N, d, own.batch_shape, 1), tokens(_M, key_width or d, own.batch_shape, 2)
    with torch.no_grad():
        dense = checked_dense(own, q, k)
        if not bool(dense.isfinite().all()):
            raise ContractError(f"{name}.dense returned NaN or infinity for normal tokens")
        _check_inner_product(name, own, q, k, dense)
        _check_rectangles(name, own, q, k, dense)
        _check_few(name, own, q, k, dense)
        _check_key_factors(name, own, q, k, dense)
        if own.properties != Properties():
            _check_properties(name, own, q)
    for mask in (None, causal, Padding(keys=torch.arange(_M) % 4 > 0)):
        require_kernels_agree(f"{name} under the mask {mask}", q, k, own, Softmax(), mask)
    _check_padding(name, own, q, k)
    _check_half_precision(name, similarity, q, k)


def _check_inner_product(name: str, own: Similarity, q: Tensor, k: Tensor, dense: Tensor) -> None:
    if not own.is_inner_product:
        return
    product = own.as_inner_product(q, k)
    beta = product.q @ product.k.mT
    beta = beta if product.query_bias is None else beta + product.query_bias[..., :, None]
    beta = beta if product.key_bias is None else beta + product.key_bias[..., None, :]
    beta = beta if product.pair_bias is None else beta + product.pair_bias
    require_equal(f"{name}.as_inner_product, put together,", beta.expand(dense.shape), dense)


def _check_rectangles(name: str, own: Similarity, q: Tensor, k: Tensor, dense: Tensor) -> None:
    parts = own.parts(q, k)
    for rows, cols in ((slice(0, _N), slice(0, _M)), (slice(3, 8), slice(9, 14)), (slice(7, 8), slice(0, 5))):
        some: Parts = parts.map(lambda x: x[..., rows, :], lambda x: x[..., cols, :], lambda x: x)  # noqa: B023
        i, j = (torch.arange(at.start, at.stop) for at in (rows, cols))
        block = own.block(some, i, j) * own.coefficient
        right = dense[..., rows, cols]
        require_equal(
            f"{name}.block for rows {rows.start} to {rows.stop} and columns {cols.start} to {cols.stop}",
            block.expand(right.shape),
            right,
        )


def _check_few(name: str, own: Similarity, q: Tensor, k: Tensor, dense: Tensor) -> None:
    few = own.of_few(q, k)
    if few is None:
        return
    require_equal(f"{name}.of_few", few.expand(dense.shape), dense)
    for value in (math.nan, math.inf, -math.inf):
        bad = k.clone()
        bad[..., 3, 0] = value
        scores = own.of_few(q, bad)
        if scores is not None and bool(scores[..., 3].isfinite().any()):
            raise ContractError(
                f"{name}.of_few gave finite scores for a key that holds {value}; finite scores must imply that all "
                "keys are finite. Do not define `of_few` if they cannot"
            )


def _check_key_factors(name: str, own: Similarity, q: Tensor, k: Tensor, dense: Tensor) -> None:
    """Raise `ContractError` unless ⟨q', k'⟩ + b(k) gives β up to a number for each query, from each key alone."""
    factors = own.key_factors(k)
    if factors is None:
        return
    beta = own.query_factors(q) @ factors.k.mT
    beta = own.of_product(beta if factors.bias is None else beta + factors.bias[..., None, :], q)
    require_equal(
        f"{name}.key_factors, query_factors and of_product, put together,",
        beta.expand(dense.shape).softmax(-1),
        dense.softmax(-1),
    )
    some = own.key_factors(k[..., 5:8, :])
    if some is None:
        raise ContractError(f"{name}.key_factors is None for some keys and not for others")
    require_equal(f"{name}.key_factors of some of the keys", some.k, factors.k[..., 5:8, :])


def _check_properties(name: str, own: Similarity, x: Tensor) -> None:
    beta, promised = own.dense(x, x), own.properties
    if promised.symmetric:
        require_equal(f"{name} declares itself symmetric, but β(x, y) and β(y, x) differ", beta, beta.mT)
    if promised.translation_invariant:
        moved = own.dense(x + 3, x + 3)
        require_equal(f"{name} declares itself translation invariant, but β changes with a common shift", moved, beta)
    if promised.metric:
        distance = (-beta).clamp(min=0).sqrt()
        detour = (distance[..., :, :, None] + distance[..., None, :, :]).amin(-2)
        require_equal(f"{name} declares √(−β) a distance, but β(x, x) is not 0", beta.diagonal(dim1=-2, dim2=-1),
                      torch.zeros_like(beta[..., 0]))  # fmt: skip
        if bool((distance > detour + 1e-6).any()):
            raise ContractError(f"{name} declares √(−β) a distance, but it violates the triangle inequality")
    if promised.positive_definite:
        least = torch.linalg.eigvalsh(beta.exp()).min().item()
        if least < -1e-8 * beta.exp().max().item():
            raise ContractError(f"{name} declares exp β positive definite, but it has the eigenvalue {least:.3g}")


def _check_padding(name: str, own: Similarity, q: Tensor, k: Tensor) -> None:
    """Raise `ContractError` if the entries of padding keys change an output, even through a mean over keys."""
    real = torch.arange(_M) < 9
    garbage = torch.where(real[:, None], k, 1e4 * tokens(_M, k.shape[-1], (), 6))
    v = tokens(_M, 3, (), 3)
    with torch.no_grad():
        before, after = (Attention(q, keys, own, mask=Padding(keys=real)) @ v for keys in (k, garbage))
    require_equal(f"{name}: what padding keys hold changed the output", after, before)


def _check_half_precision(name: str, similarity: Similarity, q: Tensor, k: Tensor) -> None:
    """Raise `ContractError` unless outputs in half precision equal those in float64, up to rounding."""
    similarity = copy.deepcopy(similarity).float()
    v = tokens(_M, 3, (), 3)
    with torch.no_grad():
        for dtype in (torch.bfloat16, torch.float16):
            low_q, low_k, low_v = (x.to(dtype) for x in (q, k, v))
            right = Attention(low_q.double(), low_k.double(), in_float64(similarity)) @ low_v.double()  # type: ignore[arg-type]
            mine = Attention(low_q, low_k, similarity) @ low_v
            if mine.dtype != dtype:
                raise ContractError(f"{name}: the output of {dtype} tokens is {mine.dtype}, expected {dtype}")
            require_equal(f"{name} in {dtype}", mine.double(), right, 16 * torch.finfo(dtype).eps)
