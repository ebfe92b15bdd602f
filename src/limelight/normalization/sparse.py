"""Normalizations that are some other function of a row: sparsemax, entmax, top-k, sigmoid. A few rows at a time."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError
from limelight.normalization.base import RowWise
from limelight.tracing import is_readable

_MOST_STEPS = 60  # Newton's method, from below, takes 5 to 15
_STEPS_UNSEEN = 20  # where values cannot be read to see whether the root is reached, as in a compiled graph


class Entmax(RowWise):
    """P_ij = [(α − 1) s_ij − t_i]₊^{1/(α−1)} with t_i such that rows sum to one (Peters et al. 2019).

    1 < α ≤ 2: the nearer to 1 the nearer to softmax; α = 2 is sparsemax (Martins & Astudillo 2016).
    Keys with low scores get exactly zero weight. t is found to the dtype's accuracy, and its first and
    second derivatives are exact.

    >>> import torch
    >>> from limelight import Attention, Entmax
    >>> scores = torch.tensor([[2.0, 1.5, -1.0]])
    >>> q, k = torch.ones(1, 1), scores.T
    >>> Attention(q, k, normalization=Entmax(1.5)).dense().round(decimals=2)
    tensor([[0.6700, 0.3300, 0.0000]])
    """

    def __init__(self, alpha: float = 1.5) -> None:
        super().__init__()
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 1 < alpha <= 2:
            raise InputError(f"Entmax(alpha=…) expects a number in (1, 2], got {alpha!r}; for alpha = 1 use Softmax()")
        self.alpha = float(alpha)

    def thresholds(self, s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r 1"]:
        # t solves f(t) = Σ_j [(α − 1) s_j − t]₊^(1/(α − 1)) − 1 = 0. The exponent is at least 1, so f is convex, and it
        # falls; Newton's method from a t below the root therefore climbs to it without passing it. We start from
        # max_j (α − 1) s_j − 1, where the largest weight alone is one already, so that the root is no smaller. For
        # α = 2 f is piecewise linear, and the method ends at the exact root after finitely many steps.
        with torch.no_grad():
            x = (self.alpha - 1) * s
            top = x.amax(-1, keepdim=True) if x.shape[-1] else x.new_full((*x.shape[:-1], 1), -math.inf)
            t = torch.where(top == -math.inf, 0, top - 1)  # a row whose keys are all masked has no root: any t will do
            for _ in range(_MOST_STEPS if is_readable(s) else _STEPS_UNSEEN):
                after = self._newton(s, t)
                near = after - t <= 4 * torch.finfo(s.dtype).eps * after.abs().clamp(min=1)
                t = after
                if is_readable(near) and bool(near.all()):
                    break
        # The search is not differentiated. By the implicit function theorem the root moves with the scores as
        # dt = −(∂f/∂s)/(∂f/∂t) ds, and one Newton step N(s, t) = t − f/f′ from the root, with t held fixed, has exactly
        # this derivative, because f = 0 there. Its error is of second order in a change of s; a second step squares
        # that error, so that second derivatives are exact too.
        if torch.is_grad_enabled() and s.requires_grad:
            t = self._newton(s, self._newton(s, t))
        return t

    def weights(self, s: Float[Tensor, "*batch r c"], t: Float[Tensor, "*batch r 1"]) -> Float[Tensor, "*batch r c"]:
        above = self._above(s, t)
        return above if self.alpha == 2 else above.square() if self.alpha == 1.5 else above ** (1 / (self.alpha - 1))

    def _above(self, s: Tensor, t: Tensor) -> Tensor:
        return torch.relu((self.alpha - 1) * s - t)

    def _newton(self, s: Tensor, t: Tensor) -> Tensor:
        """t − f/f′ for f(t) = Σ_j w(s_ij, t) − 1: a step of Newton's method, which from below never passes the root."""
        power = 1 / (self.alpha - 1)
        above = self._above(s, t)
        if self.alpha == 1.5:
            total, slope = above.square().sum(-1, keepdim=True), 2 * above.sum(-1, keepdim=True)
        elif self.alpha == 2:
            total, slope = above.sum(-1, keepdim=True), (above > 0).sum(-1, keepdim=True).to(s.dtype)
        else:
            root = above ** (power - 1)
            total, slope = (root * above).sum(-1, keepdim=True), power * root.sum(-1, keepdim=True)
        return t + (total - 1) / slope.masked_fill(slope == 0, math.inf)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"


class Sparsemax(Entmax):
    """P_i = the nearest point of the simplex to s_i: argmin_p |p − s_i|² (Martins & Astudillo 2016).

    >>> import torch
    >>> from limelight import Attention, Sparsemax
    >>> scores = torch.tensor([[2.0, 1.5, -1.0]])
    >>> q, k = torch.ones(1, 1), scores.T
    >>> Attention(q, k, normalization=Sparsemax()).dense().round(decimals=2)
    tensor([[0.7500, 0.2500, 0.0000]])
    """

    def __init__(self) -> None:
        super().__init__(2.0)

    def extra_repr(self) -> str:
        return ""


class TopK(RowWise):
    """P_ij ∝ exp(s_ij) over the k largest scores of row i, zero elsewhere (Gupta et al. 2021).

    Where several scores tie for the last place, all of them are kept. Raises `InputError` for k < 1.

    >>> import torch
    >>> from limelight import Attention, TopK
    >>> scores = torch.tensor([[2.0, 1.5, -1.0]])
    >>> q, k = torch.ones(1, 1), scores.T
    >>> Attention(q, k, normalization=TopK(2)).dense().round(decimals=2)
    tensor([[0.6200, 0.3800, 0.0000]])
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"TopK(k) expects a whole number ≥ 1, got {k!r}")
        self.k = k

    def thresholds(self, s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r 2"]:
        # A row has two numbers: its k-th largest score, at or above which a key is kept, and the log-sum-exp over the
        # keys that are kept. The first only selects, so it has no gradient. In a row whose keys are all masked the
        # second is made finite, since the gradient through a log-sum-exp of nothing but −∞ would be NaN.
        least = s.detach().topk(min(self.k, s.shape[-1]), -1).values[..., -1:]
        kept = s.masked_fill(s < least, -math.inf)
        empty = (s == -math.inf).all(-1, keepdim=True)
        lse = torch.logsumexp(kept.masked_fill(empty, 0), -1, keepdim=True)
        return torch.cat([least, lse], -1)

    def weights(self, s: Float[Tensor, "*batch r c"], t: Float[Tensor, "*batch r 2"]) -> Float[Tensor, "*batch r c"]:
        least, lse = t[..., :1], t[..., 1:]
        return torch.exp(s - lse).masked_fill((s < least) | (s == -math.inf), 0)

    def extra_repr(self) -> str:
        return f"k={self.k}"


class Sigmoid(RowWise):
    """P_ij = σ(s_ij + b), each pair by itself; b = −log m by default (Ramapuram et al., 2409.04431).

    Rows do not sum to one. Entropy and free energy are computed from the rows divided by their sums.

    >>> import torch
    >>> from limelight import Attention, Sigmoid
    >>> scores = torch.tensor([[2.0, 1.5, -1.0]])
    >>> q, k = torch.ones(1, 1), scores.T
    >>> Attention(q, k, normalization=Sigmoid(bias=0.0)).dense().round(decimals=2)  # rows need not sum to one
    tensor([[0.8800, 0.8200, 0.2700]])
    """

    def __init__(self, bias: float | None = None) -> None:
        super().__init__()
        if bias is not None and not math.isfinite(bias):
            raise InputError(f"Sigmoid(bias=…) expects a finite number, got {bias!r}")
        self.bias = bias

    def thresholds(self, s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r 1"]:
        # With b = −log m a row of m scores of 0 sums to m σ(−log m) = m/(m + 1): about one, as a row of a softmax does,
        # however many keys there are. With b = 0 it would sum to m/2.
        bias = -math.log(max(s.shape[-1], 1)) if self.bias is None else self.bias
        return s.new_full((*s.shape[:-1], 1), -bias)

    def weights(self, s: Float[Tensor, "*batch r c"], t: Float[Tensor, "*batch r 1"]) -> Float[Tensor, "*batch r c"]:
        return torch.sigmoid(s - t)

    def extra_repr(self) -> str:
        return "" if self.bias is None else f"bias={self.bias:g}"
