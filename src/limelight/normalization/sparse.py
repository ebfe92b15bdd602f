"""Normalizations that are functions of a row other than softmax: sparsemax, entmax, top-k, sigmoid."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError
from limelight.heads import require_count
from limelight.kernels.largest import topk
from limelight.kernels.scores import Scores, logsumexp_of, zero_neg_inf
from limelight.normalization.base_normalization import RowWise
from limelight.tracing import in_transform, is_readable
from limelight.weights import Weights

_MOST_STEPS = 60  # Newton's method, from below, usually takes 5 to 15
_GROUPS = 128  # scores of a row in each group; the method first runs on the maxima of groups
_STEPS_UNSEEN = 20  # the number of steps if values cannot be read to check for convergence, as in a compiled graph


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

    counts_masked_keys = False

    def __init__(self, alpha: float = 1.5) -> None:
        super().__init__()
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 1 < alpha <= 2:
            raise InputError(f"Entmax(alpha=…) expects a number in (1, 2], got {alpha!r}; for alpha = 1 use Softmax()")
        self.alpha = float(alpha)

    def thresholds(self, s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r 2"]:
        # A row has two numbers: its largest score, and t. The largest is subtracted from all scores, which changes no
        # weight, so that t lies between −1 and 0 and is not rounded to the digits that large scores have.
        # t solves f(t) = Σ_j [(α − 1) s_j − t]₊^(1/(α − 1)) − 1 = 0. The exponent is at least 1, so f is convex, and it
        # falls; Newton's method from a t below the root therefore climbs to it without passing it. We start from −1,
        # where the largest weight alone is one already, so that the root is no smaller. For α = 2 f is piecewise
        # linear, and the method ends at the exact root after finitely many steps.
        # The root for some of a row's scores lies below that for all, since f then has fewer terms, and the nearer the
        # larger they are. Hence the method first runs on a few large scores, where a step costs little.
        with torch.no_grad():
            some = _some_large(s)
            top = some.amax(-1, keepdim=True) if s.shape[-1] else s.new_zeros((*s.shape[:-1], 1))
            top = zero_neg_inf(top)
            t = torch.full_like(top, -1.0)
            if some is not s:
                t = self._root(some - top, t)
            t = torch.cat([top, self._root(s - top, t)], -1)
        return self.thresholds_at(s, t)

    def thresholds_at(self, s: Float[Tensor, "*batch r m"], t: Tensor) -> Float[Tensor, "*batch r 2"]:
        if not (torch.is_grad_enabled() and s.requires_grad):
            return t
        if torch.compiler.is_compiling() or in_transform():
            # The search is not differentiated. One Newton step N(s, t) = t − f/f′ from the root, with t held fixed, has
            # the root's derivative dt = −(∂f/∂s)/(∂f/∂t) ds, because f = 0 there. Its error is of second order in a
            # change of s; a second step squares that error, so that second derivatives are exact too.
            top, root = t[..., :1], t[..., 1:]
            return torch.cat([top, self._newton(s - top, self._newton(s - top, root))], -1)
        return _Found.apply(s, t, self._gradient)  # type: ignore[no-untyped-call]

    def _root(self, s: Tensor, t: Tensor) -> Tensor:
        """The root, found by Newton's method from a t that is not above it."""
        for _ in range(_MOST_STEPS if is_readable(s) else _STEPS_UNSEEN):
            after = self._newton(s, t)
            near = after - t <= 4 * torch.finfo(s.dtype).eps
            t = after
            if is_readable(near) and bool(near.all()):
                break
        return t

    def weights(self, s: Float[Tensor, "*batch r c"], t: Float[Tensor, "*batch r 2"]) -> Float[Tensor, "*batch r c"]:
        above = self._above(s - t[..., :1], t[..., 1:])
        return above if self.alpha == 2 else above.square() if self.alpha == 1.5 else above ** (1 / (self.alpha - 1))

    def _above(self, s: Tensor, t: Tensor) -> Tensor:
        scaled = s if self.alpha == 2 else (self.alpha - 1) * s
        return (scaled - t).relu_()  # in place, since a new array is not in the cache and takes as long again

    def _gradient(self, s: Tensor, t: Tensor, dt: Tensor) -> Tensor:
        """dt · ∂t/∂s, where the root t is an implicit function of s; the score that is subtracted is held fixed."""
        # With w(s_j, t) = u((α − 1) s_j − t) the sum Σ_j w stays one where Σ_j u′_j ((α − 1) ds_j − dt) = 0, so that
        # ∂t/∂s_j = (α − 1) u′_j / Σ_l u′_l. A factor that all u′ share cancels.
        slope = self._above(s - t[..., :1], t[..., 1:])
        if self.alpha != 1.5:  # for α = 2, the sign is 1 where a key has weight; a comparison takes six times as long
            slope = slope.sign() if self.alpha == 2 else slope ** (1 / (self.alpha - 1) - 1)
        total = slope.sum(-1, keepdim=True)
        return (self.alpha - 1) * dt[..., 1:] / total.masked_fill(total == 0, 1) * slope

    def _newton(self, s: Tensor, t: Tensor) -> Tensor:
        """t − f/f′ for f(t) = Σ_j w(s_ij, t) − 1: a step of Newton's method, which never passes the root from below."""
        power = 1 / (self.alpha - 1)
        above = self._above(s, t)
        if self.alpha == 1.5:
            total, slope = above.square().sum(-1, keepdim=True), 2 * above.sum(-1, keepdim=True)
        elif self.alpha == 2:
            total, slope = above.sum(-1, keepdim=True), above.sign().sum(-1, keepdim=True)
        else:
            root = above ** (power - 1)
            total, slope = (root * above).sum(-1, keepdim=True), power * root.sum(-1, keepdim=True)
        return t + (total - 1) / slope.masked_fill(slope == 0, math.inf)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"


def _some_large(s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r c"]:
    """The maxima of groups of each row, its largest score among them. A short row is returned as it is."""
    groups = s.shape[-1] // _GROUPS
    if groups < 4 or torch.compiler.is_compiling():
        return s
    in_groups, rest = s.split([groups * _GROUPS, s.shape[-1] % _GROUPS], -1)
    return torch.cat([in_groups.unflatten(-1, (groups, _GROUPS)).amax(-2), rest], -1)


class _Found(torch.autograd.Function):
    """s ↦ t, a function whose values t were found without autograd, and whose gradient is `gradient(s, t, dt)`.

    The gradient is a function of s and t. With t a function of s again, it is differentiable in turn.
    """

    @staticmethod
    def forward(ctx, s, t, gradient):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(s, t)
        ctx.gradient = gradient
        return t.clone()

    @staticmethod
    def backward(ctx, dt):  # type: ignore[no-untyped-def]
        s, t = ctx.saved_tensors
        if torch.is_grad_enabled():
            t = _Found.apply(s, t, ctx.gradient)  # type: ignore[no-untyped-call]
        return ctx.gradient(s, t, dt), None, None


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

    If several scores are equal to the k-th largest, all of them are kept. Raises `InputError` for k < 1.

    >>> import torch
    >>> from limelight import Attention, TopK
    >>> scores = torch.tensor([[2.0, 1.5, -1.0]])
    >>> q, k = torch.ones(1, 1), scores.T
    >>> Attention(q, k, normalization=TopK(2)).dense().round(decimals=2)
    tensor([[0.6200, 0.3800, 0.0000]])
    """

    counts_masked_keys = False

    def __init__(self, k: int) -> None:
        super().__init__()
        require_count("TopK(k)", k)
        self.k = k

    def thresholds(self, s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r 3"]:
        m = s.shape[-1]
        if m == 0:
            return s.new_zeros((*s.shape[:-1], 3))
        # A row has three numbers: its k-th largest score, at or above which a key is kept; its largest score, which is
        # subtracted from all; and the log-sum-exp of the differences of the keys that are kept, which would be lost in
        # the rounding of a large score. The first only selects and the second cancels, so they have no gradient. The
        # third is over the k largest scores alone, unless others are equal to the last of them, which one more score
        # shows. In a row whose keys are all masked the numbers are made finite, since the gradient through a
        # log-sum-exp of nothing but −∞ would be NaN.
        with torch.no_grad():
            looks = is_readable(s)
            largest, _ = topk(s, min(self.k + looks, m))
            least = largest[..., min(self.k, m) - 1, None]
            tie = not looks or (self.k < m and not bool((largest[..., -1:] < least).all()))
            kept = s.masked_fill(s < least, -math.inf) if tie else largest[..., : self.k]
            top = zero_neg_inf(largest[..., :1])
            t = torch.cat([least, top, _log_total(kept, top)], -1)
        return self.thresholds_at(s, t)

    def thresholds_at(self, s: Float[Tensor, "*batch r m"], t: Tensor) -> Float[Tensor, "*batch r 3"]:
        if not (torch.is_grad_enabled() and s.requires_grad):
            return t
        if torch.compiler.is_compiling() or in_transform():
            least, top, _ = t.split(1, -1)
            return torch.cat([least, top, _log_total(s.masked_fill(s < least, -math.inf), top)], -1)
        return _Found.apply(s, t, self._gradient)  # type: ignore[no-untyped-call]

    def _gradient(self, s: Tensor, t: Tensor, dt: Tensor) -> Tensor:
        return dt[..., 2:] * self.weights(s, t)  # ∂L/∂s_j = P_j for the log-sum-exp L of those that are kept

    def weights(self, s: Float[Tensor, "*batch r c"], t: Float[Tensor, "*batch r 3"]) -> Float[Tensor, "*batch r c"]:
        least, top, log_total = t.split(1, -1)
        return torch.where(s < least, 0, (s - top - log_total).exp_())  # not exp(−∞), which takes five times as long

    def extra_repr(self) -> str:
        return f"k={self.k}"


def _log_total(s: Float[Tensor, "*batch r m"], top: Float[Tensor, "*batch r 1"]) -> Float[Tensor, "*batch r 1"]:
    """log Σ_j exp(s_j − top); 0 in a row of −∞."""
    return zero_neg_inf(logsumexp_of(s - top))[..., None]


class Sigmoid(RowWise):
    """P_ij = σ(s_ij + b), independent of the other keys; b = −log m by default (Ramapuram et al., 2409.04431).

    Rows do not sum to one. Entropy and free energy are computed from the rows divided by their sums.

    >>> import torch
    >>> from limelight import Attention, Sigmoid
    >>> scores = torch.tensor([[2.0, 1.5, -1.0]])
    >>> q, k = torch.ones(1, 1), scores.T
    >>> Attention(q, k, normalization=Sigmoid(bias=0.0)).dense().round(decimals=2)  # rows do not sum to one
    tensor([[0.8800, 0.8200, 0.2700]])
    """

    def __init__(self, bias: float | None = None) -> None:
        super().__init__()
        if bias is not None and (
            isinstance(bias, bool) or not isinstance(bias, (int, float)) or not math.isfinite(bias)
        ):
            raise InputError(f"Sigmoid(bias=…) expects a finite number, got {bias!r}")
        self.bias = bias

    @property
    def counts_masked_keys(self) -> bool:  # type: ignore[override]
        return self.bias is None

    def forward(self, scores: Scores) -> Weights:
        m = scores.shape[-1]
        if self.bias is None and m:  # with the bias set, rows of a graph may be given without their masked keys
            return Sigmoid(-math.log(m)).forward(scores)
        return super().forward(scores)

    def thresholds(self, s: Float[Tensor, "*batch r m"]) -> Float[Tensor, "*batch r 1"]:
        # With b = −log m a row of m scores of 0 sums to m σ(−log m) = m/(m + 1): about one, as a row of a softmax does,
        # however many keys there are. With b = 0 it would sum to m/2.
        bias = -math.log(max(s.shape[-1], 1)) if self.bias is None else self.bias
        return s.new_full((*s.shape[:-1], 1), -bias)

    def weights(self, s: Float[Tensor, "*batch r c"], t: Float[Tensor, "*batch r 1"]) -> Float[Tensor, "*batch r c"]:
        return (s - t).sigmoid_()

    def extra_repr(self) -> str:
        return "" if self.bias is None else f"bias={self.bias:g}"
