"""Local linear attention: a line fitted by weighted least squares, in place of the weighted mean."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import check
from limelight.attention import Attention
from limelight.errors import InputError
from limelight.heads import per_head
from limelight.kept import kept
from limelight.mask import real_keys
from limelight.signed import SignedOperator
from limelight.similarity import center, is_wide, upcast
from limelight.tracing import is_autocast, is_readable

_WIDEST = 16  # coordinates of a key; the columns that are averaged grow with their square
_ROUNDING = 64  # rounding units by which a variance may be wrong


class LocalLinear(SignedOperator):
    """(L v)_i = a_i, where a_i + B_i (k_j − q_i) is the line nearest to the values v_j under the weights P_ij.

    a_i, B_i minimize Σ_j P_ij |v_j − a_i − B_i (k_j − q_i)|² + r |B_i|² (local linear regression: Stone 1977,
    Cleveland 1979, Fan 1993). Attention alone, the weighted mean, is the same without B. The mean is drawn toward
    where keys are dense, and at the edge of the data toward its inside; a line is not: on points of density p, in one
    dimension and with a bandwidth h, P f − f is ½h²(f″ + 2 f′p′/p) + O(h⁴), and L f − f is ½h² f″ + O(h⁴).

    `attention` is of queries and keys of d ≤ 16 coordinates, usually with `Euclidean(h)`; queries and keys must be
    points of one space. `ridge` is r ≥ 0, in squared units of the keys: the larger, the nearer to the mean. Rows sum to
    one, and weights may be negative. L v takes one call of the attention's kernel, with (d + 1) columns for each column
    of v, and one d×d system for each query. A query that sees no key gets zero.

    The variance of the keys about their weighted mean, of which B is a quotient, is a difference of second moments. It
    loses digits where the bandwidth is far below the spread of all keys, so use float64 below a hundredth of it.
    Half precision is computed in float32.

    Raises `InputError` for d > 16, for queries and keys of different widths, and for r < 0; and, when it is applied,
    where a query's keys do not determine a line up to rounding: fewer than d + 1 keys with weight, or keys in a
    subspace. A ridge determines it.

    >>> import torch
    >>> from limelight import Attention, Euclidean, LocalLinear
    >>> x = torch.tensor([[0.0], [1.0], [3.0], [4.0]])
    >>> A = Attention(x, x, Euclidean(2.0))
    >>> (A @ (2 * x + 1)).flatten().round(decimals=1)  # a mean bends a line
    tensor([3.0000, 3.9000, 6.1000, 7.0000])
    >>> (LocalLinear(A) @ (2 * x + 1)).flatten().round(decimals=1)  # a fitted line does not
    tensor([1., 3., 7., 9.])
    """

    def __init__(self, attention: Attention, ridge: float = 0.0) -> None:
        check.instance("attention", attention, Attention)
        if isinstance(ridge, bool) or not isinstance(ridge, (int, float)) or not 0 <= ridge < math.inf:
            raise InputError(f"LocalLinear(ridge=…) expects a finite number ≥ 0, got {ridge!r}")
        d, keys = attention.q.shape[-1], attention.k.shape[-1]
        if d != keys or d > _WIDEST:
            raise InputError(
                f"LocalLinear expects queries and keys of the same 1 to {_WIDEST} coordinates, got {d} and {keys}: it "
                "averages some d²/2 columns and solves a d×d system for each query; give the attention fewer features"
            )
        self.attention, self.ridge, self.shape = attention, float(ridge), attention.shape
        self._wide = attention if is_wide(attention.q) else _in_float32(attention)

    @property
    def dtype(self) -> torch.dtype:
        return self.attention.dtype

    @property
    def device(self) -> torch.device:
        return self.attention.device

    def _cast(self, v: Tensor) -> Tensor:
        return self.attention._cast(v)

    # With X_j = (1, k_j) and Y_i = (1, q_i) the line's value at q_i is ⟨Y_i, c⟩, where the coefficients c solve the
    # normal equations S_i c = Σ_j P_ij X_j v_j with S_i = Σ_j P_ij X_j X_jᵀ, plus r times the row's sum on the diagonal
    # of the slope. So L_ij = P_ij ⟨X_j, G_i⟩ with G_i = S_i⁻¹ Y_i: a sum of d + 1 attentions with the same weights,
    # whose values are multiplied by a feature of the key before, and by a number of the query after. S_i is an average
    # over keys too, of the products of two features, and does not depend on v.
    def _apply(self, v: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "*batch n e"]:
        with _without_autocast(v):
            columns = self._features[..., None] * upcast(v)[..., None, :]  # (*#batch, m, d + 1, e)
            means = (self._wide @ columns.flatten(-2)).unflatten(-1, columns.shape[-2:])
            return (self._gains[..., None] * means).sum(-2).to(v.dtype)

    def _apply_transposed(self, w: Float[Tensor, "*#batch n e"]) -> Float[Tensor, "*batch m e"]:
        with _without_autocast(w):
            columns = self._gains[..., None] * upcast(w)[..., None, :]
            sums = (self._wide.T @ columns.flatten(-2)).unflatten(-1, columns.shape[-2:])
            return (self._features[..., None] * sums).sum(-2).to(w.dtype)

    def dense(self) -> Float[Tensor, "*batch n m"]:
        """The matrix L, n×m: for pictures, or for small n and m."""
        with _without_autocast(self._wide.q):
            return (self._wide.dense() * (self._gains @ self._features.mT)).to(self.dtype)

    @property
    def _features(self) -> Float[Tensor, "*#batch m d+1"]:
        return self._with_one(self._wide.k)

    def _with_one(self, x: Float[Tensor, "*#batch l d"]) -> Float[Tensor, "*#batch l d+1"]:
        """(1, x) with the mean of all keys subtracted from x, which changes no line and keeps digits."""
        x = x - center(self._wide.k, real_keys(self._wide.mask)) if self.shape[-1] else x
        return torch.cat([torch.ones_like(x[..., :1]), x], -1)

    @kept
    def _gains(self) -> Float[Tensor, "*batch n d+1"]:
        """G_i = S_i⁻¹ Y_i, zero for a query without keys."""
        X, Y = self._features, self._with_one(self._wide.q)
        a, b = torch.triu_indices(X.shape[-1], X.shape[-1], device=X.device)
        place = torch.empty(X.shape[-1], X.shape[-1], dtype=torch.long, device=X.device)
        place[a, b] = place[b, a] = torch.arange(len(a), device=X.device)
        S = (self._wide @ (X[..., a] * X[..., b]))[..., place]
        total = S[..., 0, 0]
        slopes = torch.ones(X.shape[-1], dtype=X.dtype, device=X.device)
        slopes[0] = 0
        empty = (total == 0)[..., None, None]
        system = torch.where(empty, torch.eye(X.shape[-1], dtype=X.dtype, device=X.device),
                             S + self.ridge * total[..., None, None] * slopes.diag())  # fmt: skip
        factor, failed = torch.linalg.cholesky_ex(system)
        self._require_lines(S, factor, failed)
        return torch.cholesky_solve(torch.where(empty, 0, Y[..., None]), factor)[..., 0]

    def _require_lines(self, S: Tensor, factor: Tensor, failed: Tensor) -> None:
        """Raise `InputError` if rounding decides a slope: the keys' variance is below the error of their squares."""
        # The squared diagonal of the factor has the variance of each coordinate about its mean, given those before it.
        # It was computed from the second moments on the diagonal of S, with a rounding error in proportion to these.
        if not is_readable(failed):
            return
        pivots, moments = (x.detach().diagonal(dim1=-2, dim2=-1) for x in (factor, S))
        rough = (pivots.square() <= _ROUNDING * torch.finfo(S.dtype).eps * moments).any(-1) | (failed > 0)
        if bool(rough.any()):
            dtype = str(S.dtype).removeprefix("torch.")
            raise InputError(
                f"LocalLinear: the keys that {int(rough.sum())} of {rough.numel()} queries give weight do not "
                f"determine a line in {dtype}: they are fewer than {S.shape[-1]}, or lie in a subspace, "
                "or are too near each other beside all keys; use a larger bandwidth, float64, or a ridge > 0 (in "
                "squared units of the keys)"
            )


def _in_float32(attention: Attention) -> Attention:
    """The same attention of queries and keys in float32."""
    scale = attention.scale * per_head(attention.normalization.temperature)
    with _without_autocast(attention.q):
        return Attention(
            attention.q.float(), attention.k.float(), attention.similarity, attention.normalization, attention.mask,
            scale, kernel=attention.kernel,
        )  # fmt: skip


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    return torch.autocast(x.device.type, enabled=False) if is_autocast(x) else nullcontext()
