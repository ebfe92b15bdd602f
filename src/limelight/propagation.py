"""Repeated application of a square operator P: steps, heat, the resolvent and the generator.

    Pⁿ h,   exp(t (P − 1)) h,   (1 − s)(1 − s P)⁻¹ h,   (P h − h)/(ε/2)

Each is a few applications of P, in memory linear in n. P must have rows of non-negative weights that
sum to at most one. Then P does not increase the largest |h|, from which the error bounds below follow,
so they do not need a symmetric P.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from limelight import check
from limelight.attention import Attention
from limelight.errors import ConvergenceError, InputError
from limelight.kernels.rows import gradients_by_rows, learned_of, tensors_of
from limelight.linear_operator import LinearOperator
from limelight.shapes import broadcast_shapes
from limelight.signed import SignedOperator
from limelight.similarity import is_finite
from limelight.tracing import holds, in_transform, is_readable
from limelight.twice import twice_differentiable
from limelight.weights import Weights

_ROW_SUM = {torch.float64: 1e-9, torch.float32: 1e-4}  # by so much rounding may raise the sum of a row above one
_HALF = 2e-2  # the same in half precision


def steps(A: LinearOperator, h: Float[Tensor, "*#batch n e"], n: int) -> Float[Tensor, "*batch n e"]:
    """Pⁿ h: the output of n layers of the same attention, without residual connections.

    Raises `InputError` for an A that is not square and for n < 0.

    >>> import torch
    >>> from limelight import Attention, Euclidean
    >>> from limelight.propagation import steps
    >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    >>> h = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    >>> A = Attention(x, x, Euclidean(1.0))
    >>> steps(A, h, 50).round(decimals=2)
    tensor([[0.5000],
            [0.5000],
            [0.5000],
            [0.5000]])
    """
    *_, last = trajectory(A, h, n)
    return last


def trajectory(A: LinearOperator, h: Float[Tensor, "*#batch n e"], n: int) -> Iterator[Float[Tensor, "*batch n e"]]:
    """An iterator of the n + 1 tensors h, P h, …, Pⁿ h. Raises as `steps` does, at the call.

    >>> import torch
    >>> from limelight import Attention, Euclidean
    >>> from limelight.propagation import trajectory
    >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    >>> h = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    >>> A = Attention(x, x, Euclidean(1.0))
    >>> [round(float(each[0]), 2) for each in trajectory(A, h, 3)]
    [0.0, 0.38, 0.47, 0.49]
    """
    h = _state(A, h)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise InputError(f"the number of steps must be a whole number ≥ 0, got {n!r}")

    def walk(h: Tensor) -> Iterator[Tensor]:
        yield h
        for _ in range(n):
            h = A @ h
            yield h

    return walk(h)


def heat(
    A: LinearOperator, h: Float[Tensor, "*#batch n e"], t: float, tolerance: float | None = None
) -> Float[Tensor, "*batch n e"]:
    """exp(t (P − 1)) h = Σ_k e^{−t} t^k/k! · P^k h: the solution at time t of ∂H/∂t = (P − 1) H, H(0) = h.

    The weights are those of a Poisson distribution, all positive, so nothing cancels. The sum stops after K ≈ t + 6√t
    steps, when the remaining weights sum to less than `tolerance` (by default the rounding unit of the dtype). The
    error is at most that times the largest |h|, since no P^k h is larger. The result is differentiable in h and in
    everything that A depends on; the backward pass keeps K steps. With ε the squared bandwidth, t = 2T/ε corresponds
    to the time T of the continuum. (Uniformization: Jensen 1953; Fox & Glynn 1988.)

    Raises `InputError` for t < 0, a tolerance outside (0, 1), an A that is not square and rows whose
    sum exceeds one.

    >>> import torch
    >>> from limelight import Attention, Euclidean
    >>> from limelight.propagation import heat
    >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    >>> h = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    >>> A = Attention(x, x, Euclidean(1.0))
    >>> heat(A, h, t=1.0).round(decimals=2)
    tensor([[0.2700],
            [0.7300],
            [0.2700],
            [0.7300]])
    """
    h = _state(A, h)
    if not _is_number(t) or not 0 <= t < math.inf:
        raise InputError(f"heat(t) expects a finite time ≥ 0, got {t!r}")
    tolerance = _tolerance(tolerance, h)
    _require_rows_of_at_most_one(A)
    weights = _poisson(t, tolerance)
    upcast = torch.promote_types(h.dtype, torch.float32)
    total = torch.zeros_like(h, dtype=upcast)
    for weight, power in zip(weights, trajectory(A, h, len(weights) - 1), strict=True):
        total = total + weight * power.to(upcast)
    return total.to(h.dtype)


def resolvent(
    A: LinearOperator, h: Float[Tensor, "*#batch n e"], s: float, tolerance: float | None = None, most: int = 100_000
) -> Float[Tensor, "*batch n e"]:
    """(1 − s)(1 − s P)⁻¹ h = (1 − s) Σ_k s^k P^k h: P^k h after a geometric number of steps, s/(1 − s) on average.

    It is the fixed point of x = s P x + (1 − s) h (label spreading, personalized PageRank), found by
    iteration: each step multiplies the largest error by at most s, so about log(tolerance)/log(s) steps
    are enough. The last change gives a bound on the error, and the iteration ends when the bound is at most
    `tolerance` times the largest |h| of each column (by default 16 rounding units divided by 1 − s). The gradient,
    for h and everything that A depends on, solves one more such equation, with Pᵀ, and keeps no step. Second
    derivatives, and calls inside torch.func, take as many steps as any A may need, and keep them.

    Raises `InputError` for s outside [0, 1) and as `heat` does, and `ConvergenceError` if `most` steps do not
    reach the tolerance: it is then below the rounding errors, or more steps are needed.

    >>> import torch
    >>> from limelight import Attention, Euclidean
    >>> from limelight.propagation import resolvent
    >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    >>> h = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    >>> A = Attention(x, x, Euclidean(1.0))
    >>> resolvent(A, h, s=0.5).round(decimals=2)
    tensor([[0.2200],
            [0.7800],
            [0.2200],
            [0.7800]])
    """
    h = _state(A, h)
    if not _is_number(s) or not 0 <= s < 1:
        raise InputError(f"resolvent(s) expects a number in [0, 1), got {s!r}")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InputError(f"resolvent(most=…) expects a whole number ≥ 1, got {most!r}")
    close = _tolerance(tolerance, h, 16 / (1 - s))
    _require_rows_of_at_most_one(A)
    if in_transform() or not is_readable(h) or not isinstance(A, Attention):
        return _enough_steps(A.__matmul__, h, s, close, most)
    with torch.no_grad():
        x = _fixed_point(A, (1 - s) * h, s, close, most, _largest)
    if not torch.is_grad_enabled():
        return x
    # The gradient of one step at the solution x is that of the solution but for the factor (1 − s P)⁻¹, which the hook
    # adds.
    x = s * (A @ x) + (1 - s) * h
    if not x.requires_grad:
        return x
    x.register_hook(lambda grad: None if grad is None else _fixed_point(A.T, grad, s, close, most, _total))
    tree = A.weights(), h

    def gradients(*inputs: Tensor) -> list[Tensor | None]:
        def solve(own: tuple[Weights, Tensor], rows: slice) -> tuple[Tensor]:
            return (_enough_steps(own[0].apply, own[1], s, close, most),)

        return gradients_by_rows(solve, tree, inputs[-1:], h.shape[-2], 0, dims=(-2,))

    return twice_differentiable(x, [*tensors_of(tree), *learned_of(tree)], gradients)


def generator(A: LinearOperator, h: Float[Tensor, "*#batch n e"], epsilon: float) -> Float[Tensor, "*batch n e"]:
    """(P h − h)/(ε/2): the rate at which one layer changes h, in units of the continuum's time.

    With `Euclidean(√ε)` on points of density p on a manifold and `Softmax(α)` it tends to
    Δh + 2(1 − α)⟨∇log p, ∇h⟩ as ε → 0 (Coifman & Lafon 2006). Use float64, since the rounding error of
    P h is divided by ε/2.

    Raises `InputError` for an A that is not square and an ε that is not positive and finite.

    >>> import torch
    >>> from limelight import Attention, Euclidean
    >>> from limelight.propagation import generator
    >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    >>> h = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    >>> A = Attention(x, x, Euclidean(1.0))
    >>> generator(A, h, epsilon=1.0).round(decimals=2)
    tensor([[ 0.7600],
            [-0.7600],
            [ 0.7600],
            [-0.7600]])
    """
    h = _state(A, h)
    if not _is_number(epsilon) or not 0 < epsilon < math.inf:
        raise InputError(f"generator(epsilon) expects a positive number, the squared bandwidth, got {epsilon!r}")
    return (A @ h - h) / (epsilon / 2)


def _fixed_point(
    P: LinearOperator,
    b: Float[Tensor, "*batch n e"],
    s: float,
    close: float,
    most: int,
    norm: Callable[[Tensor], Tensor],
) -> Float[Tensor, "*batch n e"]:
    """The solution of x = s P x + b. P must not increase the norm: then ‖x − x_k‖ ≤ s/(1 − s) ‖x_k − x_{k−1}‖."""
    # The solution is at most ‖b‖/(1 − s), so these bounds are relative to it.
    x, bound, enough = b / (1 - s), b.new_tensor(math.inf), close / (1 - s) * norm(b)
    for _ in range(most):
        before, x = x, s * (P @ x) + b
        bound = s / (1 - s) * norm(x - before)
        if bool((bound <= enough).all()):
            return x
    short = float((bound / enough.clamp(min=torch.finfo(b.dtype).tiny)).max()) * close
    raise ConvergenceError(
        f"the resolvent at s = {s:g} reached an error of {short:.2g} in {most} steps, not {close:.2g}; "
        "allow more steps, or a larger tolerance, or use float64"
    )


def _enough_steps(
    apply: Callable[[Tensor], Tensor], h: Float[Tensor, "*batch n e"], s: float, close: float, most: int
) -> Float[Tensor, "*batch n e"]:
    """x_K of x ← s P x + (1 − s) h from x_0 = h: its error is at most 2 s^K times the largest |h|."""
    enough = 1 if s == 0 else math.ceil(math.log(close / 2) / math.log(s))
    if enough > most:
        raise ConvergenceError(
            f"the resolvent at s = {s:g} may need {enough} steps for an error of {close:.2g}, and {most} are allowed; "
            "allow more steps, or a larger tolerance"
        )
    x = h
    for _ in range(enough):
        x = s * apply(x) + (1 - s) * h
    return x


def _largest(x: Tensor) -> Tensor:
    return x.abs().amax(-2)


def _total(x: Tensor) -> Tensor:
    return x.abs().sum(-2)


def _state(A: LinearOperator, h: Tensor) -> Float[Tensor, "*batch n e"]:
    """h with all batch dimensions. Raises unless A is square and h fits."""
    check.instance("A", A, LinearOperator)
    *batch, n, m = A.shape
    if n != m:
        raise InputError(f"propagation expects a square operator, n = m, got {n} queries and {m} keys")
    h = A.require_values(h)
    if not is_finite(h):
        raise InputError("h has NaN or infinite entries; expected finite numbers")
    return h.expand(*broadcast_shapes(tuple(batch), h.shape[:-2]), *h.shape[-2:])


def _require_rows_of_at_most_one(A: LinearOperator) -> None:
    if isinstance(A, SignedOperator):
        raise InputError(
            f"the weights of {type(A).__name__} may be negative, and then the error is not bounded; use steps()"
        )
    with torch.no_grad():
        sums = A @ torch.ones(A.shape[-1], 1, dtype=A.dtype, device=A.device)
    if not holds((sums <= 1 + _ROW_SUM.get(A.dtype, _HALF)).all()):
        made_by = f"with {A.normalization}" if isinstance(A, Attention) else f"of {type(A).__name__}"
        raise InputError(
            f"expected rows that sum to at most one, since only then is the error bounded; {made_by} a row sums to "
            f"{sums.max().item():.3g}; use a normalization of rows (Softmax, Sinkhorn, Entmax, …)"
        )


def _tolerance(given: float | None, h: Tensor, units: float = 1.0) -> float:
    if given is None:
        close = units * torch.finfo(h.dtype).eps
        if close < 1:
            return close
        raise InputError(
            f"rounding errors in {h.dtype} may reach {close:.2g}, which is too much; use a more precise dtype"
        )
    if not _is_number(given) or not 0 < given < 1:
        raise InputError(f"tolerance expects a number between 0 and 1, got {given!r}")
    return given


def _poisson(t: float, tolerance: float) -> list[float]:
    """e^{−t} t^k/k! for k = 0 … K, with the least K beyond which all weights sum to at most the tolerance."""
    k = torch.arange(math.ceil(t + 12 * math.sqrt(t)) + 60, dtype=torch.float64)
    time = torch.tensor(t, dtype=torch.float64)
    weights = (torch.special.xlogy(k, time) - time - torch.lgamma(k + 1)).exp()
    beyond = torch.special.gammainc(k + 1, time)
    enough = int((beyond > tolerance).sum()) + 1
    return weights[:enough].tolist()


def _is_number(x: object) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)
