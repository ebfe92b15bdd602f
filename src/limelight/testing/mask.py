"""The contract of a mask."""

from __future__ import annotations

import torch

from limelight import check
from limelight.attention import Attention
from limelight.errors import ContractError
from limelight.mask import Mask
from limelight.testing.comparing import require_equal, small_rectangles, tokens

_CPU = torch.device("cpu")


def check_mask(mask: Mask, n: int = 9, m: int = 9) -> None:
    """Raise `ContractError` unless all methods of a mask agree with its matrix, the `block` of all n×m pairs.

    Checked on the CPU: rectangles, the transpose, `span` (no allowed key outside), `batch_shape`, `pairs`, `is_causal`,
    `hides_ahead_of`, and attention under the mask on every kernel.

    >>> from limelight import window
    >>> from limelight.testing import check_mask
    >>> check_mask(window(before=2, after=1), n=7, m=8)
    """
    check.instance("mask", mask, Mask)
    name = type(mask).__name__
    mask.check(n, m, _CPU)
    whole = mask.block(slice(0, n), slice(0, m), _CPU)
    if whole.dtype != torch.bool or whole.shape[-2:] != (n, m):
        raise ContractError(
            f"{name}.block must return a boolean (…, {n}, {m}), True where a query may see a key; "
            f"it returned {tuple(whole.shape)} of {whole.dtype}"
        )
    if whole.shape[:-2] != mask.batch_shape:
        raise ContractError(f"{name}.batch_shape is {mask.batch_shape}, but its blocks have {tuple(whole.shape[:-2])}")
    _check_rectangles(name, mask, whole)
    transposed = mask.T.block(slice(0, m), slice(0, n), _CPU)
    if not torch.equal(transposed, whole.mT):
        raise ContractError(f"{name}.T does not have queries and keys exchanged")
    _check_pairs(name, mask, whole)
    _check_order(name, mask, whole)
    _check_attention(name, mask, whole)


def _check_rectangles(name: str, mask: Mask, whole: torch.Tensor) -> None:
    n, m = whole.shape[-2:]
    for top in range(n):
        for bottom in range(top + 1, n + 1):
            rows, span = slice(top, bottom), mask.span(slice(top, bottom), m)
            outside = whole[..., rows, :].clone()
            outside[..., span.start : span.stop] = False
            if bool(outside.any()):
                raise ContractError(
                    f"{name}.span of the queries {top} to {bottom} is {span.start} to {span.stop}, but one of them may "
                    "see a key outside of it, which would be ignored"
                )
            for cols in (slice(0, m), slice(m // 3, m), slice(0, max(1, m // 2))):
                if not torch.equal(mask.block(rows, cols, _CPU), whole[..., rows, cols]):
                    raise ContractError(
                        f"{name}.block for the queries {top} to {bottom} and the keys {cols.start} to {cols.stop} is "
                        "not that part of the whole matrix"
                    )


def _check_pairs(name: str, mask: Mask, whole: torch.Tensor) -> None:
    n, m = whole.shape[-2:]
    i, j = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
    allowed = mask.pairs(i, j)
    if allowed is not None and not torch.equal(allowed, whole[i, j]):
        raise ContractError(f"{name}.pairs gives single pairs other values than `block`")


def _check_order(name: str, mask: Mask, whole: torch.Tensor) -> None:
    n, m = whole.shape[-2:]
    if Mask.is_causal(mask, n, m, _CPU) and not mask.is_causal(n, m, _CPU):
        raise ContractError(
            f"{name}.is_causal is False, but the mask hides the future: a normalization over queries would leak it"
        )
    for offset in range(-n, m):
        if mask.hides_ahead_of(offset) and bool(whole.triu(offset + 1).any()):
            raise ContractError(f"{name}.hides_ahead_of({offset}) is True, but a key beyond i + {offset} may be seen")


def _check_attention(name: str, mask: Mask, whole: torch.Tensor) -> None:
    n, m = whole.shape[-2:]
    q, k, v = tokens(n, 3, (), 1), tokens(m, 3, (), 2), tokens(m, 2, (), 3)
    right = Attention(q, k, mask=whole, kernel="reference")
    with small_rectangles():
        for kernel in ("auto", "fused", "chunked", "reference"):
            A = Attention(q, k, mask=mask, kernel=kernel)
            require_equal(f"{name}: A @ v on the kernel {A.kernel}", A @ v, right @ v)
            require_equal(f"{name}: A.entropy() on the kernel {A.kernel}", A.entropy(), right.entropy())
