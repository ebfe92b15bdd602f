"""The contract of a normalization."""

from __future__ import annotations

import torch

from limelight import check
from limelight.attention import Attention
from limelight.errors import ContractError
from limelight.mask import Padding
from limelight.normalization import Normalization
from limelight.similarity import Euclidean, StudentT
from limelight.testing.comparing import in_float64, require_equal, require_kernels_agree, tokens

_N = 12


def check_normalization(normalization: Normalization) -> None:
    """Raise `ContractError` unless the weights of a normalization are the same linear operator on every kernel.

    Checked on the CPU in float64: outputs, transposes, entropies, column masses and the gradients of all against the
    reference kernel, for a similarity that is an inner product and one that is not, with and without padding; that the
    operator is linear and equals its dense matrix; that a query that sees no key has weights of zero; and that
    `uses_column_sums` says truly whether a query's row depends on the other queries.

    >>> from limelight import Softmax
    >>> from limelight.testing import check_normalization
    >>> check_normalization(Softmax(alpha=0.5))
    """
    check.instance("normalization", normalization, Normalization)
    name, own = type(normalization).__name__, in_float64(normalization)
    assert isinstance(own, Normalization)
    x = tokens(_N, 3, own.batch_shape, 1)
    k = x if own.needs_symmetry else tokens(_N, 3, own.batch_shape, 2)
    real = torch.arange(_N) % 5 > 0
    for similarity in (Euclidean(1.5), StudentT(2.0)):
        for mask in (None, Padding(keys=real, queries=real)):
            if own.needs_symmetry:
                continue  # with q = k there are no separate gradients for q and k
            require_kernels_agree(f"{name} of {type(similarity).__name__}, mask {mask}", x, k, similarity, own, mask)
    with torch.no_grad():
        A = Attention(x, k, Euclidean(1.5), own)
        v, w = tokens(_N, 3, (), 3), tokens(_N, 3, (), 4)
        require_equal(f"{name}: A @ (2v − 3w) beside 2 A @ v − 3 A @ w", A @ (2 * v - 3 * w), 2 * (A @ v) - 3 * (A @ w))
        require_equal(f"{name}: A @ v beside A.dense() @ v", A @ v, A.dense() @ v)
        if not own.needs_symmetry:
            _check_empty_rows(name, own, x, k)
            _check_rows(name, own, x, k)


def _check_empty_rows(name: str, own: Normalization, x: torch.Tensor, k: torch.Tensor) -> None:
    allowed = torch.ones(_N, _N, dtype=torch.bool)
    allowed[2] = False
    weights = Attention(x, k, Euclidean(1.5), own, allowed).dense()
    if bool((weights[..., 2, :] != 0).any()):
        raise ContractError(f"{name}: a query that sees no key must have weights of zero, and has others")


def _check_rows(name: str, own: Normalization, x: torch.Tensor, k: torch.Tensor) -> None:
    """Raise `ContractError` if the first query changes other rows although `uses_column_sums` is False."""
    moved = x.clone()
    moved[..., 0, :] += 1
    before, after = (Attention(q, k, Euclidean(1.5), own).dense()[..., 1:, :] for q in (x, moved))
    if bool((before - after).abs().max() > 1e-12) and not own.uses_column_sums:
        raise ContractError(
            f"{name}.uses_column_sums is False, but a query's weights depend on other queries. Under a causal mask "
            "that would let the future through: return True"
        )
