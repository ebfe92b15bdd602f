"""Measures of P that need its rows, a few at a time, but never the whole matrix.

Entropy, column mass and free energy are methods of the operator; the measures here are computed from its weights.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.edge_weights import along_edges
from limelight.errors import ConvergenceError, InputError
from limelight.heads import require_offset
from limelight.mask import Mask
from limelight.tracing import require_readable
from limelight.weights import TopKWeights, Weights

_MOST_STEPS = 1000
_TOLERANCE = 1e-5  # of the stationary distribution, in total variation


def mean_position(weights: Weights) -> Float[Tensor, "*#batch n"]:
    """Σ_j P_ij j, rows divided by their sums; 0 where every key is masked."""
    return along_edges(weights).mean_position()


def mean_distance(weights: Weights, offset: int) -> Float[Tensor, "*#batch n"]:
    """Σ_j P_ij |i + offset − j|, rows divided by their sums; 0 where every key is masked."""
    require_offset("mean_distance(offset)", offset)
    return along_edges(weights).mean_distance(offset)


def topk(weights: Weights, k: int) -> TopKWeights:
    """The k largest P_ij of each row i, and the keys j that have them."""
    m = weights.scores.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= m:
        raise InputError(f"topk(k) expects a whole number from 1 to the {m} keys, got {k!r}")
    return along_edges(weights).topk(k)


@torch.no_grad()
def irreversibility(weights: Weights, mask: Mask | None, device: torch.device) -> Float[Tensor, "*#batch"]:
    """½ Σ_ij |π_i P_ij − π_j P_ji| in [0, 1], where π is stationary: 0 iff P satisfies detailed balance."""
    n, m = weights.scores.shape[-2:]
    if n != m:
        raise InputError(f"irreversibility() expects a walk on one set of tokens, n = m, got {n} queries and {m} keys")
    if mask is not None and not mask.is_symmetric(n, device):
        raise InputError(
            f"irreversibility() expects a symmetric mask, since with {mask!r} no walk is reversible; "
            "use it without the mask, or with a symmetric one"
        )
    flow = _stationary(weights)

    def of(own: Weights, rows: slice) -> Tensor:
        there = flow[..., rows, None] * own.block(rows)
        back = flow[..., None, :] * weights.block_transposed(rows)
        return (there - back).abs().sum(-1)

    return 0.5 * weights.by_rows(of).sum(-1)


def _stationary(weights: Weights) -> Float[Tensor, "*#batch n"]:
    """The stationary π = Pᵀπ, by powers of the lazy walk ½(1 + P), which is aperiodic."""
    row_sums = along_edges(weights).apply_wide(torch.ones(weights.scores.shape[-1], 1))[..., 0]
    require_readable(row_sums, "irreversibility()", "call it outside")
    if bool(((row_sums - 1).abs() > 1e-3).logical_and(row_sums != 0).any()):
        raise InputError(
            "irreversibility() expects rows that sum to one; those of this normalization do not, so use a softmax"
        )
    flow = (row_sums > 0) / (row_sums > 0).sum(-1, keepdim=True).clamp(min=1)
    flow = flow.to(row_sums.dtype)
    for _ in range(_MOST_STEPS):
        after = 0.5 * (flow + weights.apply_transposed(flow[..., None])[..., 0])
        moved, flow = (after - flow).abs().sum(-1), after
        if bool((moved <= _TOLERANCE).all()):
            return flow
    raise ConvergenceError(
        f"the walk did not converge in {_MOST_STEPS} steps: the last one moved it by {float(moved.max()):.1g}, more "
        f"than {_TOLERANCE:g}; its tokens form groups that give each other hardly any weight, so use a larger bandwidth"
    )
