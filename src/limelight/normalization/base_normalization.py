"""The base classes of normalizations, which turn scores into weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from limelight.edge_weights import weights_on_edges
from limelight.errors import InputError
from limelight.kernels.scores import Scores
from limelight.kernels.sparse import EdgeScores
from limelight.weights import RowWeights, SoftmaxWeights, Weights


class Normalization(nn.Module, ABC):
    """Scores s ↦ the operator P. It is a module, so that its parameters are trained with the model that contains it.

    >>> import torch
    >>> from limelight import Attention, Normalization, Sparsemax
    >>> isinstance(Sparsemax(), Normalization)
    True
    """

    temperature: float | Tensor  # scores are divided by it

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0

    @property
    @abstractmethod
    def uses_column_sums(self) -> bool:
        """True if a query's row depends on the other queries. Then a causal mask is refused."""

    @property
    def needs_symmetry(self) -> bool:
        """True if it needs symmetric scores, s_ij = s_ji. Then other scores are refused."""
        return False

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The batch dimensions (…, heads) of parameters that differ from head to head; () if there are none."""
        return ()

    @property
    def fused(self) -> bool:
        """True if P is a row softmax that the scores' kernel applies; False if it is computed from rows of scores."""
        return True

    @abstractmethod
    def forward(self, scores: Scores) -> Weights:
        """The operator P of these scores."""


class RowWise(Normalization):
    """P_ij = w(s_ij, t_i): any function of a score and of a few numbers t_i of its row. A base class for your own.

    Define `thresholds`, which computes t_i (*batch, r, t) from whole rows of scores (*batch, r, m), where −∞ is a
    masked key; and `weights`, which computes w entry by entry, zero where s is −∞. Both get some rows at a time, in at
    least float32, and are differentiated by autograd, so that no n×m array is stored. `Entmax`, `TopK` and `Sigmoid`
    are built on it.

    >>> import torch
    >>> from limelight import Attention, RowWise
    >>> class SoftmaxPlusOne(RowWise):  # with a one added to the denominator, so that a row may sum to less
    ...     def thresholds(self, s):
    ...         one = torch.zeros_like(s[..., :1])
    ...         return torch.cat([s, one], -1).logsumexp(-1, keepdim=True)
    ...     def weights(self, s, t):
    ...         return (s - t).exp()
    >>> x = torch.zeros(3, 1)
    >>> Attention(x, x, normalization=SoftmaxPlusOne()).dense()[0]
    tensor([0.2500, 0.2500, 0.2500])
    """

    # False if the weights of a row are the same when its masked keys are left out. Then a row of a graph is its edges.
    counts_masked_keys = True

    @property
    def uses_column_sums(self) -> bool:
        return False

    @property
    def fused(self) -> bool:
        return False

    @abstractmethod
    def thresholds(self, s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r t"]:
        """t_i, from a whole row of scores; −∞ is a key that is masked."""

    def thresholds_at(self, s: Float[Tensor, "*batch r m"], t: Tensor) -> Float[Tensor, "*batch r t"]:
        """`thresholds(s)` as a differentiable function of s, given its values t from the forward pass.

        Override this if it costs less than computing the thresholds again.
        """
        return self.thresholds(s)

    @abstractmethod
    def weights(self, s: Float[Tensor, "*batch r c"], t: Float[Tensor, "*batch r t"]) -> Float[Tensor, "*batch r c"]:
        """w(s_ij, t_i), entry by entry; zero where s is −∞."""

    def forward(self, scores: Scores) -> Weights:
        if isinstance(scores, EdgeScores) and not self.counts_masked_keys:
            return weights_on_edges(scores, self)
        return RowWeights(scores, self)


class KeyBiased(Normalization):
    """P_ij = softmax_j(s_ij + b_j), where each key has a bias computed from all scores. A base class for your own.

    Define `key_bias`, which computes b (*#batch, m) from the `Scores`. It needs only their `logsumexp()` over keys,
    that of their transpose `scores.T` over queries, and `scores.add_key_bias(b)`. A log-sum-exp is −∞ if every pair is
    masked, and an infinite bias counts as 0, since the mask hides the key already. No kernel but the reference stores
    an n×m array. A number that all scores share is subtracted first, since it cancels. `Sinkhorn` and
    `SymmetricSinkhorn` are built on it.

    >>> import torch
    >>> from limelight import Attention, KeyBiased
    >>> class HalfNormalized(KeyBiased):  # divides by the square root of the column sums
    ...     def key_bias(self, scores):
    ...         return -0.5 * scores.T.logsumexp()
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> Attention(x, x, normalization=HalfNormalized(), scale=1.0).dense().round(decimals=3)
    tensor([[0.5770, 0.4230],
            [0.3340, 0.6660]])
    """

    @property
    def uses_column_sums(self) -> bool:
        return True

    @abstractmethod
    def key_bias(self, scores: Scores) -> Float[Tensor, "*#batch m"]:
        """b_j, a number for each key."""

    def forward(self, scores: Scores) -> Weights:
        # P = diag(e^f) e^s diag(e^b). Only b is needed: the row softmax at the end finds the row factors e^f by itself,
        # so that rows sum to one even if b is not exact. A number that all scores share would change b by one number
        # for all keys, which the softmax cancels too; it is subtracted first, because a large one costs precision.
        scores = scores.remove_shift()[0].with_recompute()
        bias = self.key_bias(scores)
        return SoftmaxWeights(scores.add_key_bias(bias.masked_fill(bias.isinf(), 0)))


def require_steps(owner: Normalization, steps: int) -> None:
    """Raise `InputError` unless an iteration is given a whole number of steps ≥ 1."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"{type(owner).__name__}(steps=…) expects a whole number ≥ 1, got {steps!r}")


def require_tolerance(owner: Normalization, tolerance: float) -> None:
    """Raise `InputError` unless an iteration is given a positive finite tolerance."""
    if not 0 < tolerance < math.inf:
        raise InputError(f"{type(owner).__name__}(tolerance=…) expects a positive number, got {tolerance!r}")
