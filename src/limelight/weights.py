"""The weights P that a normalization computes from scores. They are applied, transposed and measured.

`SoftmaxWeights` are a row softmax, and run on the kernel of the scores. `RowWeights` are any
other function of a row, a few rows at a time. `Mixture` is a convex combination of two operators.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError
from limelight.kept import keep, kept, kept_value
from limelight.kernels import largest
from limelight.kernels.last_product import last_product
from limelight.kernels.rows import by_rows, learned_of, results_by_rows, sum_over_rows, tensors_of
from limelight.kernels.scores import RowStatistics, Scores, softmax_of


class TopKWeights(NamedTuple):
    """The k largest weights of each query, largest first, and their keys; −1 if fewer than k keys have weight."""

    weights: Float[Tensor, "*batch n k"]
    keys: Int[Tensor, "*batch n k"]


class Weights(ABC):
    """P_ij for queries i and keys j, never stored."""

    @abstractmethod
    def apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
        """P v."""

    @abstractmethod
    def apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*#batch m e"]:
        """Pᵀ w."""

    @abstractmethod
    def column_mass(self) -> Float[Tensor, "*#batch m"]:
        """Σ_i P_ij."""

    @abstractmethod
    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        """These rows of P, in at least float32."""

    @abstractmethod
    def block_transposed(self, rows: slice) -> Float[Tensor, "*#batch r n"]:
        """These rows of Pᵀ."""

    def apply_wide(self, v: Tensor) -> Float[Tensor, "*#batch n e"]:
        """P v in at least float32, on the device of the scores; for values that half precision cannot hold."""

        def some(own: Weights, v: Tensor, rows: slice) -> Tensor:
            p = own.block(rows)
            return p @ v.to(p)

        return self.by_rows(some, v, dim=-2)

    def apply_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*#batch n e"]:
        """(D ∘ P) v, where D_ij = 0 with probability p and 1/(1 − p) otherwise."""
        return self.by_rows(lambda own, v, rows: _mix(F.dropout(own.block(rows), p), v), v, dim=-2)

    @property
    @abstractmethod
    def scores(self) -> Scores:
        """The scores s that define the energy E = −τ s."""

    def entropy(self) -> Float[Tensor, "*#batch n"]:
        """−Σ_j p log p, where p is the row divided by its sum; zero for a row of zeros."""
        return self.by_rows(lambda own, rows: _entropy(_normalized(own.block(rows))))

    def potential(self) -> Float[Tensor, "*#batch n"]:
        """Σ_j p_ij s_ij + H_i, which for a softmax is its log-normalizer; −∞ for a row of zeros."""

        def of(own: Weights, scores: Scores, rows: slice) -> Tensor:
            p, s = own.block(rows), scores.block(rows)
            empty = (p == 0).all(-1)
            p = _normalized(p)
            return ((p * s.masked_fill(p == 0, 0)).sum(-1) + _entropy(p)).masked_fill(empty, -math.inf)

        return self.by_rows(of, self.scores)

    def apply_with_logsumexp(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        """(P v, the log-normalizers) in one pass; raises as `logsumexp` does."""
        return self.apply(v), self.logsumexp()

    def logsumexp(self) -> Float[Tensor, "*#batch n"]:
        raise InputError("these weights are not a softmax of scores, so they have no log-normalizer; use free_energy()")

    def by_rows(self, measure: Callable[..., Tensor], *values: Tensor | Scores, dim: int = -1) -> Tensor:
        """measure(these weights, *values, rows), a few rows at a time, joined along `dim`.

        Gradients flow only to the weights and the values that `measure` is given.
        """

        def some(tree: tuple[Any, ...], rows: slice) -> Tensor:
            return measure(*tree, rows)

        return by_rows(some, (self.for_rows(), *values), self.scores.shape[-2], self.scores.entries_per_row, dim)

    def results_by_rows(
        self, measure: Callable[[Weights, slice], tuple[Tensor, ...]], dims: tuple[int, ...]
    ) -> tuple[Tensor, ...]:
        """The results of measure(these weights, rows), a few rows at a time, each joined along its own dimension."""
        return results_by_rows(measure, self.for_rows(), self.scores.shape[-2], self.scores.entries_per_row, dims)

    @property
    def learns(self) -> bool:
        """True if a gradient of the weights may be needed."""
        return torch.is_grad_enabled() and any(x.requires_grad for x in (*tensors_of(self), *learned_of(self)))

    def mean_position(self) -> Float[Tensor, "*#batch n"]:
        """Σ_j P_ij j, rows divided by their sums; 0 where every key is masked."""
        j = torch.arange(self.scores.shape[-1])
        sums = self.apply_wide(torch.stack([j, torch.ones_like(j)], -1))
        return sums[..., 0] / sums[..., 1].masked_fill(sums[..., 1] == 0, 1)

    def mean_distance(self, offset: int) -> Float[Tensor, "*#batch n"]:
        """Σ_j P_ij |i + offset − j|, rows divided by their sums; 0 where every key is masked."""

        def of(own: Weights, rows: slice) -> Tensor:
            p = own.block(rows)
            i, j = (torch.arange(at.start, at.stop, device=p.device) for at in (rows, slice(0, p.shape[-1])))
            total = p.sum(-1)
            return (p * (i[:, None] + offset - j).abs()).sum(-1) / total.masked_fill(total == 0, 1)

        return self.by_rows(of)

    def topk(self, k: int) -> TopKWeights:
        """The k largest P_ij of each row i, and their j."""
        with torch.no_grad():
            values, keys = self.results_by_rows(lambda own, rows: largest.topk(own.block(rows), k), dims=(-2, -2))
        if self.learns:
            values = self.by_rows(lambda own, rows: own.block(rows).gather(-1, keys[..., rows, :]), dim=-2)
        return TopKWeights(values, keys.masked_fill(values == 0, -1))

    def for_rows(self) -> Weights:
        """The same weights, with everything that rows share computed in advance."""
        return self


@dataclass(frozen=True)
class SoftmaxWeights(Weights):
    """P = softmax_j(s)."""

    _scores: Scores
    _is_stabilized: bool = False

    def for_rows(self) -> SoftmaxWeights:
        return SoftmaxWeights(self._stabilized, _is_stabilized=True)

    @property
    def scores(self) -> Scores:
        return self._scores

    def apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
        if torch.compiler.is_compiling() or not self._scores.lse_is_free or self.learns:
            return self._scores.softmax(v)
        out, lse = self._scores.reduce(v)
        if lse.shape == self._scores.shape[:-1]:  # values may have more batch dimensions than the scores
            keep(self, "_lse", lse.detach())  # v may learn, but the normalizers do not depend on it
        return out

    def apply_with_logsumexp(
        self, v: Float[Tensor, "*#batch m e"]
    ) -> tuple[Float[Tensor, "*#batch n e"], Float[Tensor, "*#batch n"]]:
        return self._scores.reduce(v)

    def apply_with_dropout(self, v: Float[Tensor, "*#batch m e"], p: float) -> Float[Tensor, "*#batch n e"]:
        out = self._scores.softmax_with_dropout(v, p)
        return super().apply_with_dropout(v, p) if out is None else out

    @kept
    def _row_statistics(self) -> RowStatistics | None:
        """Entropy and column mass from one pass, or None if gradients may be needed."""
        return None if self.learns else self._scores.row_statistics(kept_value(self, "_lse"))

    def apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*#batch m e"]:
        # Pᵀw is a softmax over queries times the column mass.
        mean, log_mass = self._by_key.reduce(w)
        return (log_mass.exp()[..., None] * mean).to(w.dtype)

    def column_mass(self) -> Float[Tensor, "*#batch m"]:
        return self._by_key.logsumexp().exp() if self._row_statistics is None else self._row_statistics.column_mass

    def apply_wide(self, v: Tensor) -> Float[Tensor, "*#batch n e"]:
        s = self._stabilized.block(slice(0, 1))  # for its dtype and device
        return self._stabilized.softmax(v.to(s))

    def entropy(self) -> Float[Tensor, "*#batch n"]:
        return self._scores.entropy() if self._row_statistics is None else self._row_statistics.entropy

    def potential(self) -> Float[Tensor, "*#batch n"]:
        return self.logsumexp()

    def logsumexp(self) -> Float[Tensor, "*#batch n"]:
        if self.learns or torch.compiler.is_compiling():
            return self._scores.logsumexp()
        return self._lse

    @kept
    def _lse(self) -> Tensor:
        """The log-normalizers without gradients. `apply` stores them if the kernel returns them anyway."""
        return self._scores.logsumexp()

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        return softmax_of(self._stabilized.block(rows))

    def block_transposed(self, rows: slice) -> Float[Tensor, "*#batch r n"]:
        return self._by_key.block(rows).exp()

    @kept
    def _by_key(self) -> Scores:
        """log P_ij with keys as rows: its log-sum-exp is the log of the column mass."""
        return self._scores.log_softmax().T

    @kept
    def _stabilized(self) -> Scores:
        return self._scores if self._is_stabilized else self._scores.stabilized()


class RowMap(Protocol):
    """A function from a row of scores to a row of weights: w(s_ij, t_i), with a few numbers t_i for each row."""

    def thresholds(self, s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r t"]:
        """t_i, from a whole row of scores; −∞ is a key that is masked."""

    def thresholds_at(self, s: Float[Tensor, "*batch r m"], t: Tensor) -> Float[Tensor, "*batch r t"]:
        """`thresholds(s)` as a differentiable function of s, given its values t from the forward pass."""

    def weights(self, s: Float[Tensor, "*batch r c"], t: Float[Tensor, "*batch r t"]) -> Float[Tensor, "*batch r c"]:
        """w, entry by entry; zero where s is −∞."""


@dataclass(frozen=True)
class RowWeights(Weights):
    """P_ij = w(s_ij, t_i), computed a few rows at a time, and again in the backward pass."""

    _scores: Scores
    _map: RowMap

    @property
    def scores(self) -> Scores:
        return self._scores

    def apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
        found: dict[int, Tensor] = {}  # thresholds of the forward pass, by the first row; the backward pass needs them

        def some(own: RowWeights, v: Tensor, rows: slice) -> Tensor:
            s, row_map = own._scores.block(rows), own._map
            if rows.start in found and torch.is_grad_enabled():
                t = row_map.thresholds_at(s, found[rows.start])
            else:
                t = row_map.thresholds(s)
                if not t.requires_grad:
                    found[rows.start] = t
            return _mix(row_map.weights(s, t), v)

        return self.by_rows(some, v, dim=-2)

    def apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*#batch m e"]:
        def some(own: tuple[RowWeights, Tensor], rows: slice) -> Tensor:
            return _mix(own[0].block(rows).mT, own[1][..., rows, :])

        return sum_over_rows(some, (self, w), self._scores.shape[-2], self._scores.entries_per_row)

    def column_mass(self) -> Float[Tensor, "*#batch m"]:
        n = self._scores.shape[-2]
        return sum_over_rows(lambda own, rows: own.block(rows).sum(-2), self, n, self.scores.entries_per_row)

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        s = self._scores.block(rows)
        return self._map.weights(s, self._map.thresholds(s))

    def block_transposed(self, rows: slice) -> Float[Tensor, "*#batch r n"]:
        return self._map.weights(self._scores.T.block(rows).mT, self._thresholds).mT

    @kept
    def _thresholds(self) -> Tensor:
        return self.by_rows(lambda own, rows: own._map.thresholds(own._scores.block(rows)), dim=-2)


@dataclass(frozen=True)
class Mixture(Weights):
    """P = λ P₁ + (1 − λ) P₂, where λ broadcasts against (*batch, 1, 1). Its energy uses the scores of P₁."""

    first: Weights
    second: Weights
    share: Float[Tensor, "*#batch 1 1"]

    def for_rows(self) -> Mixture:
        return Mixture(self.first.for_rows(), self.second.for_rows(), self.share)

    @property
    def scores(self) -> Scores:
        return self.first.scores

    def apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*#batch n e"]:
        return self._mixed(self.first.apply(v), self.second.apply(v)).to(v.dtype)

    def apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*#batch m e"]:
        return self._mixed(self.first.apply_transposed(w), self.second.apply_transposed(w)).to(w.dtype)

    def column_mass(self) -> Float[Tensor, "*#batch m"]:
        return self._mixed(self.first.column_mass()[..., None], self.second.column_mass()[..., None])[..., 0]

    def block(self, rows: slice) -> Float[Tensor, "*#batch r m"]:
        return self._mixed(self.first.block(rows), self.second.block(rows))

    def block_transposed(self, rows: slice) -> Float[Tensor, "*#batch r n"]:
        return self._mixed(self.first.block_transposed(rows), self.second.block_transposed(rows))

    def _mixed(self, first: Tensor, second: Tensor) -> Tensor:
        return self.share * first + (1 - self.share) * second


def _mix(p: Tensor, v: Tensor) -> Tensor:
    return last_product(p, v.to(p.dtype)).to(v.dtype)


def _normalized(p: Tensor) -> Tensor:
    total = p.sum(-1, keepdim=True)
    return p / total.masked_fill(total == 0, 1)


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.masked_fill(p == 0, 1).log()).sum(-1)
