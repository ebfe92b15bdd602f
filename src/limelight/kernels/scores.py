"""The interface of a kernel: scores s_ij that take a key bias, can be transposed, and are reduced over keys.

Everything else (normalizations, the transpose, column mass, free energy) uses only this interface, and so works
with every kernel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limelight.kernels.rows import gradients_by_rows, results_by_rows
from limelight.mask import Mask
from limelight.tracing import is_readable


class RowStatistics(NamedTuple):
    """The entropies and the column masses of a row softmax."""

    entropy: Float[Tensor, "*#batch n"]
    column_mass: Float[Tensor, "*#batch m"]


class Scores(ABC):
    """s_ij for queries i = 1..n and keys j = 1..m; a masked pair has s_ij = −∞."""

    @property
    @abstractmethod
    def T(self) -> Scores:
        """The same scores with queries and keys exchanged."""

    @abstractmethod
    def add_key_bias(self, bias: Float[Tensor, "*#batch m"]) -> Scores:
        """s_ij + b_j."""

    @abstractmethod
    def add_constant(self, constant: Float[Tensor, "*#batch"]) -> Scores:
        """s_ij + δ, one number for each matrix."""

    @abstractmethod
    def remove_shift(self) -> tuple[Scores, Float[Tensor, "*#batch"]]:
        """(s − δ, δ), where δ is about the mean of all scores: a common shift, which every normalization cancels.

        Left in, a large δ would round away what distinguishes the scores.
        """

    @abstractmethod
    def log_softmax(self) -> Scores:
        """log p_ij = s_ij − log Σ_j exp s_ij; −∞ in a row where every key is masked."""

    @abstractmethod
    def logsumexp(self) -> Float[Tensor, "*#batch n"]:
        """log Σ_j exp s_ij; −∞ where every key is masked."""

    @abstractmethod
    def reduce(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        """(Σ_j softmax_j(s_ij) v_j, log Σ_j exp s_ij) in one pass; (0, −∞) where every key is masked."""

    def softmax(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
        """Σ_j softmax_j(s_ij) v_j; zero where every key is masked."""
        return self.reduce(v)[0]

    def softmax_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*#batch n e"] | None:
        """Σ_j D_ij softmax_j(s_ij) v_j, D_ij = 0 with probability p and 1/(1 − p) otherwise.

        None if the kernel has no faster way than a few rows at a time.
        """
        return None

    @abstractmethod
    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        """The scores of these rows for every key, in at least float32, for computations that need single entries."""

    def reduce_by_rows(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        """`reduce` from the entries of some rows at a time: slower, and with only torch's own operations."""
        size = self.shape[-2], self.entries_per_row
        out, lse = results_by_rows(_reduce_block, (self, v), *size, dims=(-2, -1))
        return out, lse

    def gradients_by_rows(
        self, v: Float[Tensor, "*#batch m e"], dout: Tensor | None, dlse: Tensor | None
    ) -> list[Tensor | None]:
        """The gradients of `reduce`, in a differentiable form, for the tensors of the scores, v and the parameters."""
        size = self.shape[-2], self.entries_per_row
        if dlse is not None:  # the log-sum-exp of a block is not repeated for batch dimensions that v alone has
            dlse = dlse.sum_to_size(self.shape[:-1])
        return gradients_by_rows(_reduce_block, (self, v), (dout, dlse), *size, dims=(-2, -1))

    @property
    def entries_per_row(self) -> int:
        """The entries of a row of `block` over all matrices of the batch; 0 if the matrix is stored already."""
        *batch, _, m = self.shape
        return 0 if self.stored else math.prod(batch) * m * self.pair_size

    @property
    def pair_size(self) -> int:
        """Numbers held for each pair while a block is computed."""
        return 1

    @property
    def lse_is_free(self) -> bool:
        """True where the kernel returns the log-sum-exp at no extra cost: `reduce` costs no more than `softmax`."""
        return True

    @property
    def stored(self) -> bool:
        """True if the n×m matrix is in memory already, so that all its rows may be read at once."""
        return False

    def stabilized(self) -> Scores:
        """Scores with the same row softmax, without a number that a row's scores share: it costs precision."""
        return self

    def with_recompute(self) -> Scores:
        """The same scores, whose log-sum-exp computes part of its gradient again in the backward pass, and stores less.

        Saves one array of the size of q for each log-sum-exp, for one more forward pass: Sinkhorn makes many.
        """
        return self

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(*batch, n, m)."""

    def row_statistics(self, lse: Float[Tensor, "*#batch n"] | None) -> RowStatistics | None:
        """Entropy and column mass from one pass over tiles, without gradients; None if that would not be faster.

        `lse` is `logsumexp()` if it is known already, otherwise None.
        """
        return None

    @abstractmethod
    def entropy(self) -> Float[Tensor, "*#batch n"]:
        """−Σ_j p_ij log p_ij in nats, p = softmax_j(s); zero where every key is masked."""


def _reduce_block(own: tuple[Scores, Tensor], rows: slice) -> tuple[Tensor, Tensor]:
    """(Σ_j softmax_j(s_ij) v_j, log Σ_j exp s_ij) of these rows."""
    scores, v = own
    s = scores.block(rows)
    return (softmax_of(s) @ v.to(s.dtype)).to(v.dtype), logsumexp_of(s)


def zero_neg_inf(normalizer: Float[Tensor, "*#batch m"]) -> Float[Tensor, "*#batch m"]:
    """A log-normalizer with 0 instead of −∞ where everything is masked, so that it can be used as a bias."""
    # There s_ij = −∞ for every pair of the row or column, and s_ij − L = −∞ − (−∞) would be NaN. With any finite number
    # in its place the scores stay at −∞ and their weights at 0.
    return normalizer.masked_fill(normalizer == float("-inf"), 0)


def entropy_of(s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r"]:
    """−Σ_j p_ij log p_ij of p = softmax_j(s), from the scores; zero where every key is masked."""
    # With log p_ij = s_ij − L_i the surprise −log p_ij is L_i − s_ij, which needs no logarithm of a weight. A masked
    # key has p = 0 and a surprise of +∞; 0 · ∞ would be NaN, while p log p tends to 0 with p, so its surprise is set to
    # 0.
    empty = _empty_rows(s)
    s = s if empty is None else s.masked_fill(empty, 0)
    surprise = torch.logsumexp(s, -1, keepdim=True) - s
    surprise = surprise.masked_fill(s == -math.inf, 0)
    entropy = (torch.softmax(s, -1) * surprise).sum(-1)
    return entropy if empty is None else entropy.masked_fill(empty[..., 0], 0)


def logsumexp_of(s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r"]:
    """log Σ_j exp s_ij; −∞ where every key is masked, with no gradient there."""
    empty = _empty_rows(s)
    if empty is None:
        return torch.logsumexp(s, -1)
    return torch.logsumexp(s.masked_fill(empty, 0), -1).masked_fill(empty[..., 0], -math.inf)


def _empty_rows(s: Float[Tensor, "*batch r m"]) -> Bool[Tensor, "*batch r 1"] | None:
    """The rows whose keys are all masked, (*batch, r, 1); None if it was checked that there are none."""
    if s.shape[-1] == 0:
        return torch.ones_like(s[..., :1].sum(-1, keepdim=True), dtype=torch.bool)
    # The softmax of a row of −∞ is NaN, so such rows are set to 0 before it and after it, which takes two more arrays.
    # The largest score of each row shows whether there is such a row, in a tenth of the time of the softmax.
    empty = s.detach().amax(-1, keepdim=True) == -math.inf
    looks = s.device.type == "cpu" and is_readable(s)
    return None if looks and not bool(empty.any()) else empty


def with_terms(s: Tensor, rows: slice, row_bias: Tensor | None, col_bias: Tensor | None, mask: Mask | None) -> Tensor:
    """s (*#batch, r, m) of these rows plus the biases a_i and b_j, and −∞ where masked."""
    if row_bias is not None:
        s = s + row_bias[..., rows, None]
    if col_bias is not None:
        s = s + col_bias[..., None, :]
    if mask is not None:
        s = torch.where(mask.block(rows, slice(0, s.shape[-1]), s.device), s, -math.inf)
    return s


def softmax_of(s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r m"]:
    """softmax_j(s); a row whose keys are all masked is zero."""
    empty = _empty_rows(s)
    if empty is None:
        return torch.softmax(s, -1)
    return torch.softmax(s.masked_fill(empty, 0), -1).masked_fill(empty, 0)
