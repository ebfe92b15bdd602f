"""The symmetric form of Sinkhorn's normalization, for a symmetric kernel of one set of tokens."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from limelight.errors import ConvergenceError
from limelight.kernels.scores import Scores, zero_neg_inf
from limelight.normalization.base_normalization import KeyBiased, require_steps, require_tolerance
from limelight.tracing import require_readable


class SymmetricSinkhorn(KeyBiased):
    """P_ij = exp(u_i + s_ij + u_j), doubly stochastic and symmetric: its stationary distribution is uniform.

    One vector u scales rows and columns alike, by u ← ½ (u − log Σ_j exp(s_ij + u_j)), which needs a
    symmetric s: one set of tokens, q = k, a similarity that declares itself symmetric, a symmetric mask
    (Knight, Ruiz & Uçar 2014). `Sinkhorn` takes any scores, and with q ≠ k it gives a transport plan
    between two sets. Rows sum to one; column sums and the symmetry hold to `tolerance`, reached in at most `steps`.

    Raises `InputError` for fewer than one step, a tolerance ≤ 0 and scores that are not symmetric, and
    `ConvergenceError` where the tolerance is not reached: under some masks no such matrix exists.

    >>> import torch
    >>> from limelight import Attention, Euclidean, SymmetricSinkhorn
    >>> x = torch.tensor([[0.0], [1.0], [9.0]])
    >>> P = Attention(x, x, Euclidean(5.0), SymmetricSinkhorn(tolerance=1e-6)).dense()
    >>> torch.allclose(P, P.T, atol=1e-5)
    True
    """

    def __init__(self, tolerance: float = 1e-4, steps: int = 1000) -> None:
        super().__init__()
        require_steps(self, steps)
        require_tolerance(self, tolerance)
        self.tolerance, self.steps = tolerance, steps

    @property
    def needs_symmetry(self) -> bool:
        return True

    def key_bias(self, scores: Scores) -> Float[Tensor, "*#batch m"]:
        # We look for u with u_i = −log Σ_j exp(s_ij + u_j). Setting u to the right-hand side again and again is
        # Sinkhorn's iteration, one half step for rows and the next for columns. It tends to u* + c and u* − c in turn,
        # where c is a number: together they scale rows and columns rightly, but neither does it alone. The mean of u
        # and the right-hand side, which is u − ½ log(row sum), cancels c in one step (Knight, Ruiz & Uçar 2014). Rows
        # and columns have the same sums, so the row sums alone tell when to stop. The first u is such a step from 0.
        u, gap = -0.5 * zero_neg_inf(scores.logsumexp()), math.inf
        for _ in range(self.steps):
            row = u + scores.add_key_bias(u).logsumexp()  # the logarithm of a row's sum, which is to become 0
            row = zero_neg_inf(row)
            require_readable(row, "SymmetricSinkhorn", "use Sinkhorn(steps) there")
            gap = float(row.detach().expm1().abs().max()) if row.numel() else 0.0
            if gap <= self.tolerance:
                break
            u = u - 0.5 * row
        else:
            raise ConvergenceError(
                f"SymmetricSinkhorn's row sums differ by {gap:.2g} from one after {self.steps} steps, more than "
                f"{self.tolerance:g}; allow more steps, or a larger tolerance, or a mask under which such sums exist"
            )
        return u

    def extra_repr(self) -> str:
        return f"tolerance={self.tolerance:g}, steps={self.steps}"
