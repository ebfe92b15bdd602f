"""How do scores become weights?

Every normalisation here ends with a row softmax, so that P is row-stochastic, and differs in the
bias that it gives each key before: P = softmax_j(s_ij + b_j). Finding b takes log-sum-exps over
queries and over keys, and no matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from limelight.errors import InputError
from limelight.kernels.scores import Scores, finite


class Normalisation(ABC):
    """Scores s ↦ scores s + b whose row softmax is the attention matrix."""

    @property
    @abstractmethod
    def mixes_queries(self) -> bool:
        """Does one query's row depend on the other queries? Then a causal mask is refused."""

    @abstractmethod
    def __call__(self, scores: Scores) -> Scores:
        """The scores whose row softmax is P."""


class Softmax(Normalisation):
    """P_ij ∝_j exp(s_ij) / c_jᵅ with c_j = Σ_i exp(s_ij): the α family.

    α = 0 is softmax. α = 1 is doubly-normalised attention, under which no key is explained away:
    with n = m every key's total weight is at least 1/n (Ding et al., 2009.14308). For a symmetric
    kernel the family is the α-normalisation of diffusion maps (Coifman & Lafon 2006).

    Raises `InputError` for α outside [0, 1].
    """

    def __init__(self, alpha: float = 0.0) -> None:
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
            raise InputError(f"Softmax(alpha=…) expects a number in [0, 1], got {alpha!r}")
        self.alpha = float(alpha)

    @property
    def mixes_queries(self) -> bool:
        return self.alpha > 0

    def __call__(self, scores: Scores) -> Scores:
        if self.alpha == 0:
            return scores
        rest, common = scores.split()
        columns = finite(rest.T.logsumexp())
        return rest.biased(keys=-self.alpha * columns).shifted((1 - self.alpha) * common)

    def __repr__(self) -> str:
        return f"Softmax(alpha={self.alpha:g})"


class Sinkhorn(Normalisation):
    """`steps` times: divide every column by its sum, then every row by its sum.

    Rows always sum to one; column sums tend to n/m as steps grow (Sinkhorn 1967; Sander et al.,
    2110.11773). Sinkhorn(1) is Softmax(alpha=1).

    Raises `InputError` for fewer than one step.
    """

    def __init__(self, steps: int = 3) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise InputError(f"Sinkhorn(steps=…) expects a whole number ≥ 1, got {steps!r}")
        self.steps = steps

    @property
    def mixes_queries(self) -> bool:
        return True

    def __call__(self, scores: Scores) -> Scores:
        scores, _ = scores.split()
        by_key = scores.T
        columns = by_key.logsumexp()
        for _ in range(self.steps - 1):
            rows = scores.biased(keys=-finite(columns)).logsumexp()
            columns = by_key.biased(keys=-finite(rows)).logsumexp()
        return scores.biased(keys=-finite(columns))  # the last row step is the operator's own softmax

    def __repr__(self) -> str:
        return f"Sinkhorn(steps={self.steps})"
