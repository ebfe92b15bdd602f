"""Normalizations that are a row softmax after a bias for each key: softmax, the α family, Sinkhorn, the hybrid.

Finding the bias takes log-sum-exps over queries and over keys, and no matrix.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limelight.edge_weights import along_edges
from limelight.errors import ConvergenceError, InputError
from limelight.heads import POSITIVE, SHARE, batch_shape_of, hold, per_head, require, require_count
from limelight.kernels.scores import Scores, zero_neg_inf
from limelight.normalization.base_normalization import KeyBiased, Normalization, require_steps, require_tolerance
from limelight.similarity import squeeze_head
from limelight.tracing import require_readable
from limelight.weights import Mixture, SoftmaxWeights, Weights


class Softmax(Normalization):
    """P_ij ∝_j exp(s_ij/T) / c_jᵅ with c_j = Σ_i exp(s_ij/T): the α family, at temperature T.

    α = 0 is softmax. α = 1 is doubly-normalized attention, in which no key loses all weight:
    with n = m every key's total weight is at least 1/n (Ding et al., 2009.14308). For a symmetric
    kernel the family is the α-normalization of diffusion maps (Coifman & Lafon 2006).

    α in [0, 1] and T > 0 are numbers, tensors (heads,) with one for each head, or parameters; `Softmax.learned` trains
    an α that stays in (0, 1). Raises `InputError` for α outside [0, 1] and for T ≤ 0.

    >>> import torch
    >>> from limelight import Attention, Euclidean, Softmax
    >>> x = torch.tensor([[0.0], [1.0], [9.0]])
    >>> Attention(x, x, Euclidean(5.0), Softmax(alpha=0)).column_mass().round(decimals=2)
    tensor([1.0300, 1.0800, 0.8900])
    >>> Attention(x, x, Euclidean(5.0), Softmax(alpha=1)).column_mass().round(decimals=2)
    tensor([0.9700, 0.9700, 1.0600])
    """

    def __init__(self, alpha: float | Tensor = 0.0, temperature: float | Tensor = 1.0) -> None:
        super().__init__()
        self.alpha: float | Tensor
        hold(self, "alpha", alpha, SHARE)
        hold(self, "temperature", temperature, POSITIVE)

    @staticmethod
    def learned(heads: int, alpha: float = 0.5) -> LearnedSoftmax:
        """The family with a learned α for each head, which starts at `alpha`."""
        return LearnedSoftmax(heads, alpha)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return batch_shape_of(self.alpha)

    @property
    def uses_column_sums(self) -> bool:
        return isinstance(self.alpha, Tensor) or self.alpha > 0

    def forward(self, scores: Scores) -> Weights:
        alpha = per_head(self.alpha)
        if isinstance(alpha, Tensor):
            require("Softmax(alpha=…)", alpha, SHARE)  # a learned one may have left the range
        elif alpha == 0:
            return SoftmaxWeights(scores)
        # Dividing exp s_ij by c_jᵅ is a bias −α log c_j of key j, and the row softmax does the rest. With s = s̄ + δ,
        # where δ is one number that all scores share, c_j = exp(δ) Σ_i exp s̄_ij = exp(δ) c̄_j, and so
        #     s_ij − α log c_j = s̄_ij − α log c̄_j + (1 − α) δ.
        # A large δ would cost precision in every score; here it is only one number that is added at the end. A key that
        # no query sees has log c̄_j = −∞, which counts as 0, since its scores are −∞ already.
        rest, common = scores.remove_shift()
        columns = zero_neg_inf(rest.T.logsumexp())
        if isinstance(alpha, Tensor):
            alpha = alpha.reshape(alpha.shape[:-1] or (1,))  # (*#batch, 1), beside (*#batch, m)
            shift = ((1 - alpha) * common[..., None])[..., 0]
        else:
            shift = (1 - alpha) * common
        return SoftmaxWeights(rest.add_key_bias(-alpha * columns).add_constant(shift))

    def extra_repr(self) -> str:
        parts = [f"alpha={_number_or_shape(self.alpha)}"]
        if isinstance(self.temperature, Tensor) or self.temperature != 1:
            parts.append(f"temperature={_number_or_shape(self.temperature)}")
        return ", ".join(parts)


class LearnedSoftmax(Softmax):
    """The α family with α_h = σ(logit_h), a parameter for each head; batch dimensions (…, heads).

    >>> import torch
    >>> from limelight import Attention
    >>> from limelight.normalization import LearnedSoftmax
    >>> x = torch.randn(8, 10, 4)  # 8 heads
    >>> Attention(x, x, normalization=LearnedSoftmax(heads=8)).shape
    (8, 10, 10)
    """

    def __init__(self, heads: int, alpha: float = 0.5, temperature: float | Tensor = 1.0) -> None:
        Normalization.__init__(self)  # not Softmax.__init__, which would set α; here α is computed from a parameter
        hold(self, "temperature", temperature, POSITIVE)
        require_count("LearnedSoftmax(heads=…)", heads)
        if not 0 < alpha < 1:
            raise InputError(f"LearnedSoftmax(alpha=…) expects a number strictly between 0 and 1, got {alpha!r}")
        self.logit = nn.Parameter(torch.full((heads, 1, 1), math.log(alpha / (1 - alpha))))

    @property
    def alpha(self) -> Tensor:  # type: ignore[override]
        return torch.sigmoid(squeeze_head(self.logit))


class Hybrid(Normalization):
    """P = λ_h softmax + (1 − λ_h) doubly-normalized, λ_h = σ(logit_h) learned for each head (Ding et al., 2009.14308).

    Batch dimensions (…, heads). Its free energy is computed from the scores of its softmax part.

    >>> import torch
    >>> from limelight import Attention, Hybrid
    >>> x = torch.randn(8, 10, 4)  # 8 heads
    >>> Attention(x, x, normalization=Hybrid(heads=8)).shape
    (8, 10, 10)
    """

    def __init__(self, heads: int = 1, share: float = 0.5) -> None:
        super().__init__()
        require_count("Hybrid(heads=…)", heads)
        if not 0 < share < 1:
            raise InputError(f"Hybrid(share=…) expects a number strictly between 0 and 1, got {share!r}")
        self.logit = nn.Parameter(torch.full((heads, 1, 1), math.log(share / (1 - share))))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(squeeze_head(self.logit).shape[:-2])

    @property
    def uses_column_sums(self) -> bool:
        return True

    def forward(self, scores: Scores) -> Weights:
        # P = λP₁ + (1 − λ)P₂ is never added up: each part is applied on its own, P v = λ(P₁v) + (1 − λ)(P₂v). Entropy
        # is not linear in P, so it needs the sum of both, a few rows at a time.
        mixture = Mixture(Softmax()(scores), Softmax(1.0)(scores), torch.sigmoid(squeeze_head(self.logit)))
        return along_edges(mixture)

    def extra_repr(self) -> str:
        return f"heads={len(self.logit)}"


class Sinkhorn(KeyBiased):
    """`steps` times: divide every column by its sum, then every row by its sum.

    Rows always sum to one; column sums tend to n/m as steps grow (Sinkhorn 1967; Sander et al.,
    2110.11773). Sinkhorn(1) is Softmax(alpha=1). By default there are 3 steps. With a `tolerance`
    it repeats until every column sum is within n/m · (1 ± tolerance), but at most `steps` times (by
    default 1000).

    Raises `InputError` for fewer than one step or a tolerance ≤ 0, and `ConvergenceError` where the
    tolerance is not reached: under some masks no matrix with these sums exists.

    >>> import torch
    >>> from limelight import Attention, Euclidean, Sinkhorn
    >>> x = torch.tensor([[0.0], [1.0], [9.0]])
    >>> Attention(x, x, Euclidean(5.0), Sinkhorn(tolerance=1e-6)).column_mass().round(decimals=2)
    tensor([1., 1., 1.])
    """

    def __init__(self, steps: int | None = None, tolerance: float | None = None) -> None:
        super().__init__()
        if steps is not None:
            require_steps(self, steps)
        if tolerance is not None:
            require_tolerance(self, tolerance)
        self.steps = steps if steps is not None else 3 if tolerance is None else 1000
        self.tolerance = tolerance

    def key_bias(self, scores: Scores) -> Float[Tensor, "*#batch m"]:
        # Sinkhorn's iteration in logarithms (Sinkhorn 1967). The matrix is exp(s_ij + f_i + b_j) with a number f_i for
        # each row and b_j for each column. Dividing columns by their sums sets b_j = −log Σ_i exp(s_ij + f_i), dividing
        # rows sets f_i = −log Σ_j exp(s_ij + b_j). Each is a log-sum-exp that the kernel returns, the first with
        # queries and keys exchanged, so that no matrix is stored. `columns` is −b and `rows` is −f.
        by_key = scores.T
        columns, gap = by_key.logsumexp(), math.inf
        for _ in range(self.steps - 1):
            rows = scores.add_key_bias(-zero_neg_inf(columns)).logsumexp()
            before, columns = columns, by_key.add_key_bias(-zero_neg_inf(rows)).logsumexp()
            if self.tolerance is not None:
                require_readable(columns, "Sinkhorn(tolerance=…)", "use Sinkhorn(steps) there")
                gap = _gap(before, columns)
                if gap <= self.tolerance:
                    break
        if self.tolerance is not None and not gap <= self.tolerance:
            raise ConvergenceError(
                f"Sinkhorn's column sums differ by {gap:.2g} from their mean after {self.steps} steps, more than "
                f"{self.tolerance:g}; allow more steps, or a larger tolerance, or a mask under which equal sums exist"
            )
        return -columns  # the softmax of the operator is the last row step

    def extra_repr(self) -> str:
        return f"steps={self.steps}" + ("" if self.tolerance is None else f", tolerance={self.tolerance:g}")


def _gap(before: Float[Tensor, "*#batch m"], after: Float[Tensor, "*#batch m"]) -> float:
    """The largest |column sum / mean column sum − 1| after the row step between these two column steps."""
    # After that row step column j sums to e^{b_j} Σ_i exp(s_ij + f_i), with b_j = −before_j, and `after_j` is the
    # logarithm of this last sum. So the column sum, which tells when to stop, costs no further pass over the scores:
    # it is exp(after_j − before_j). Rows sum to one, so the mean is n/m, or what takes its place where the mask leaves
    # out whole rows or columns.
    mass = (zero_neg_inf(after) - zero_neg_inf(before)).detach().exp()
    nonempty = (after > -math.inf).expand(mass.shape)
    mean = (mass * nonempty).sum(-1, keepdim=True) / nonempty.sum(-1, keepdim=True).clamp(min=1)
    return float((mass / mean - 1).abs().masked_fill(~nonempty, 0).max()) if mass.numel() else 0.0


def _number_or_shape(value: float | Tensor) -> str:
    """The number as text, or the shape of a tensor that has one for each head."""
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else f"{value:g}"
