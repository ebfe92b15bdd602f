"""The specification: attention as a dense matrix, in any dtype, differentiable any number of times.

    s_ij = scale · β(q_i, k_j),  −∞ where masked;  P = softmax_j(s + bias);  everything else from P.

Slow, and n×m in memory. Every other kernel is tested against this one in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.kernels.scores import Scores, entropy_of, logsumexp_of, softmax_of, zero_neg_inf
from limelight.mask import Mask
from limelight.similarity import Similarity, checked_dense, upcast_pair


@dataclass(frozen=True)
class DenseScores(Scores):
    """Scores held as an n×m array, −∞ where masked."""

    scores: Float[Tensor, "*#batch n m"]

    @property
    def T(self) -> DenseScores:
        return DenseScores(self.scores.mT)

    def add_key_bias(self, bias: Float[Tensor, "*#batch m"]) -> DenseScores:
        return DenseScores(self.scores + bias[..., None, :])

    def add_constant(self, constant: Float[Tensor, "*#batch"]) -> DenseScores:
        return DenseScores(self.scores + constant[..., None, None])

    def remove_shift(self) -> tuple[DenseScores, Float[Tensor, "*#batch"]]:
        return self, self.scores.new_zeros(())  # not needed: for more precision the reference is computed in float64

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        return self.scores[..., rows, :]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.scores.shape)

    @property
    def stored(self) -> bool:
        return True

    def weights(self) -> Float[Tensor, "*#batch n m"]:
        """P_ij = exp(s_ij) / Σ_j exp(s_ij); a row whose keys are all masked is zero."""
        return softmax_of(self.scores)

    def log_softmax(self) -> DenseScores:
        return DenseScores(self.scores - zero_neg_inf(self.logsumexp())[..., None])

    def logsumexp(self) -> Float[Tensor, "*#batch n"]:
        return logsumexp_of(self.scores)

    def reduce(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        weights = self.weights()
        return (weights @ v.to(weights.dtype)).to(v.dtype), self.logsumexp()

    def entropy(self) -> Float[Tensor, "*#batch n"]:
        return entropy_of(self.scores)


def dense_scores(
    q: Float[Tensor, "*#batch n d"],
    k: Float[Tensor, "*#batch m d"],
    similarity: Similarity,
    scale: float | Tensor,
    mask: Mask | None,
) -> DenseScores:
    """scale · β(q, k) by the similarity's definition, −∞ where masked, in at least float32."""
    # Only the definition is used: the tests compare every result of a faster kernel with what follows from these scores
    # in float64. Half precision is converted to float32, so that the only error is the rounding of the inputs.
    scores = scale * checked_dense(similarity, *upcast_pair(q, k))
    if mask is not None:
        n, m = scores.shape[-2:]
        allowed = mask.block(slice(0, n), slice(0, m), scores.device)
        scores = torch.where(allowed, scores, float("-inf"))
    return DenseScores(scores)
