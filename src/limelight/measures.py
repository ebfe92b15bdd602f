"""What does the operator do? Measures of P that need its rows, a few at a time, and never the matrix.

Entropy, column mass and free energy are the operator's own; these stand on its weights.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.edge_weights import along_edges
from limelight.errors import ConvergenceError, InputError
from limelight.mask import Mask
from limelight.tracing import require_readable
from limelight.weights import TopKWeights, Weights

_MOST_STEPS = 1000
_TOLERANCE = 1e-5  # of the stationary distribution, in total variation


def mean_position(weights: Weights) -> Float[Tensor, "*#batch n"]:
    """Σ_j P_ij j, rows divided by their sums; 0 where every key is masked."""
    j = torch.arange(weights.scores.shape[-1])
    sums = along_edges(weights).apply_wide(torch.stack([j, torch.ones_like(j)], -1))
    return sums[..., 0] / sums[..., 1].masked_fill(sums[..., 1] == 0, 1)


def mean_distance(weights: Weights, offset: int) -> Float[Tensor, "*#batch n"]:
    """Σ_j P_ij |i + offset − j|, rows divided by their sums; 0 where every key is masked."""
    return along_edges(weights).mean_distance(offset)


def topk(weights: Weights, k: int) -> TopKWeights:
    """The k largest P_ij of each row i, and their j."""
    m = weights.scores.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= m:
        raise InputError(f"topk(k) expects a whole number from 1 to the {m} keys, got {k!r}")
    return along_edges(weights).topk(k)


@torch.no_grad()
def irreversibility(weights: Weights, mask: Mask | None, device: torch.device) -> Float[Tensor, "*#batch"]:
    """½ Σ_ij |π_i P_ij − π_j P_ji| in [0, 1], π stationary: 0 iff P is in detailed balance."""
    n, m = weights.scores.shape[-2:]
    if n != m:
        raise InputError(f"reversibility is of a walk on one set of tokens: expected n = m, got {n} queries, {m} keys")
    if mask is not None and not mask.is_symmetric(n, device):
        raise InputError(
            f"under the asymmetric mask {mask!r} there are steps that cannot be taken back, so no walk is reversible; "
            "ask without the mask, or with a symmetric one"
        )
    flow = _stationary(weights)

    def of(own: Weights, rows: slice) -> Tensor:
        there = flow[..., rows, None] * own.block(rows)
        back = flow[..., None, :] * weights.block_transposed(rows)
        return (there - back).abs().sum(-1)

    return 0.5 * weights.by_rows(of).sum(-1)


def _stationary(weights: Weights) -> Float[Tensor, "*#batch n"]:
    """π = Pᵀπ by powers of the lazy walk ½(1 + P), which has no periods."""
    row_sums = along_edges(weights).apply_wide(torch.ones(weights.scores.shape[-1], 1))[..., 0]
    require_readable(row_sums, "irreversibility()", "ask for it outside")
    if bool(((row_sums - 1).abs() > 1e-3).logical_and(row_sums != 0).any()):
        raise InputError("reversibility is of rows that sum to one; those of this normalization do not")
    flow = (row_sums > 0) / (row_sums > 0).sum(-1, keepdim=True).clamp(min=1)
    flow = flow.to(row_sums.dtype)
    for _ in range(_MOST_STEPS):
        after = 0.5 * (flow + weights.apply_transposed(flow[..., None])[..., 0])
        moved, flow = (after - flow).abs().sum(-1), after
        if bool((moved <= _TOLERANCE).all()):
            return flow
    raise ConvergenceError(
        f"the walk did not settle in {_MOST_STEPS} steps: it moved by {float(moved.max()):.1g}, not {_TOLERANCE:g}; "
        "its tokens fall into groups that hardly see each other"
    )
