"""Attention with any pseudo-metric f(x, y), and its limit if f has one minimizer y*(x).

    P_ij ∝ exp(−f(x_i, y_j)/ε),   (P h(x) − h(y*))/(ε/2) → h''/c + (2 p'/(p c) − d/c²) h'   at y*, in one dimension,

with c and d the second and third derivatives of f in y at y*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.continuum.fields import Field
from limelight.errors import ConvergenceError, InputError
from limelight.similarity import Similarity

_MOST_STEPS = 60


class Pseudometric(Similarity):
    """β(x, y) = −f(x, y) for any f, scale 1; `scale=1/ε` is the kernel exp(−f/ε).

    f maps (*, n, 1, d) and (*, 1, m, d) to (*, n, m). Raises `InputError` if it does not.

    >>> import torch
    >>> from limelight import Attention
    >>> from limelight.continuum import Pseudometric
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> Attention(x, x, Pseudometric(lambda x, y: (x - y).square().sum(-1)), scale=1.0).dense().round(decimals=2)
    tensor([[0.7300, 0.2700],
            [0.2700, 0.7300]])
    """

    def __init__(self, f: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(f):
            raise InputError(f"Pseudometric(f) expects a function of two points, got {type(f).__name__}")
        self.f = f

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m d"]) -> Float[Tensor, "*#batch n m"]:
        # Broadcasting makes every pair: f gets queries (…, n, 1, d) and keys (…, 1, m, d). A general f is not an inner
        # product, so the kernels compute some rows of it at a time.
        found = self.f(q[..., :, None, :], k[..., None, :, :])
        if found.shape[-2:] != (q.shape[-2], k.shape[-2]):
            raise InputError(
                f"a pseudo-metric maps {q.shape[-2]} and {k.shape[-2]} points to a value for each pair, "
                f"got shape {tuple(found.shape)}"
            )
        return -found


@dataclass(frozen=True)
class Minimizer:
    """The minimizer y of f(x, ·) for each x, and the second and third derivatives c and d of f there.

    >>> import torch
    >>> from limelight.continuum import minimizer
    >>> x = torch.tensor([2.0], dtype=torch.float64)
    >>> minimizer(lambda x, y: (x - y).square().sum(-1), x, start=torch.zeros(1).double()).y
    tensor([2.], dtype=torch.float64)
    """

    y: Float[Tensor, " n"]
    c: Float[Tensor, " n"]
    d: Float[Tensor, " n"]


def minimizer(f: Callable[[Tensor, Tensor], Tensor], x: Float[Tensor, " n"], start: Float[Tensor, " n"]) -> Minimizer:
    """y*(x) of a smooth f on the line by Newton's method from `start`, and f_yy, f_yyy there by differentiation.

    f maps (n, 1) and (n, 1) to (n,). Raises `ConvergenceError` if no minimum is found.

    >>> import torch
    >>> from limelight.continuum import minimizer
    >>> x = torch.tensor([2.0], dtype=torch.float64)
    >>> minimizer(lambda x, y: (x - y).square().sum(-1), x, start=torch.zeros(1).double()).c
    tensor([2.], dtype=torch.float64)
    """
    # A minimum has f_y = 0 and f_yy > 0. Newton's method for the first, y ← y − f_y/f_yy, squares the error in each
    # step near a solution, but it finds maxima too, and it may not converge. So in the end both conditions are
    # checked: the curvature is positive, and one more step f_y/f_yy would be no longer than 1e-9.
    y = start.detach().clone()
    for _ in range(_MOST_STEPS):
        slope, c, d = _derivatives(f, x, y)
        step = slope / c
        y = y - step
        if bool((step.abs() <= 1e-13 * (1 + y.abs())).all()):
            break
    slope, c, d = _derivatives(f, x, y)
    if not bool((c > 0).all() and (slope.abs() <= 1e-9 * c).all()):
        raise ConvergenceError(
            f"no minimum of f(x, ·) was found near the start in {_MOST_STEPS} steps of Newton's method; its slope is "
            f"{float(slope.abs().max()):.2g} and its curvature {float(c.min()):.2g} at the least"
        )
    return Minimizer(y, c, d)


def first_order(h: Field, at: Minimizer, log_density: Field, *, skew: bool = True) -> Float[Tensor, " n"]:
    """h''/c + (2 p'/(p c) − d/c²) h' at y*: the limit of (P h − h(y*))/(ε/2); without `skew` d is taken as 0.

    >>> import torch
    >>> from limelight.continuum import Wave, first_order, minimizer
    >>> x = torch.zeros(1, dtype=torch.float64)
    >>> at = minimizer(lambda x, y: (x - y).square().sum(-1), x, start=x + 0.1)
    >>> uniform = Wave(k=torch.tensor([0.0]).double())
    >>> first_order(Wave(k=torch.tensor([1.0]).double()), at, uniform)  # h''/c
    tensor([-0.5000], dtype=torch.float64)
    """
    # Laplace's method. With y = y* + √ε z, the expansions of f to third and of p to first order make the weights
    #     exp(−f/ε) p ∝ exp(−c z²/2)(1 − √ε d z³/6)(1 + √ε z p'/p).
    # Under the normal density of variance 1/c the means of z² and z⁴ are 1/c and 3/c², so that E z² = 1/c and
    # E z = √ε (p'/(p c) − (d/6)(3/c²)) in the leading order. Then P h = h + √ε E z h' + ½ ε E z² h'' + O(ε²), and
    # (P h − h)/(ε/2) is what is returned. At a minimizer of a skew f (d ≠ 0) even a uniform density drifts.
    y = at.y[:, None]
    slope = 2 * log_density.gradient(y)[:, 0] / at.c - (at.d / at.c.square() if skew else 0.0)
    return h.laplacian(y) / at.c + slope * h.gradient(y)[:, 0]


def _derivatives(f: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f_y, f_yy and f_yyy at each pair."""
    # f of pair i depends on y_i alone, so the gradient of a sum over pairs is each pair's own derivative; it is
    # differentiated again as long as it depends on y.
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        now, found = f(x[:, None], y[:, None]), []
        for _ in range(3):
            (now,) = torch.autograd.grad(now.sum(), y, create_graph=True)
            found.append(now.detach())
            if not now.requires_grad:  # this derivative no longer depends on y: the higher ones are zero
                break
    found += [torch.zeros_like(y.detach())] * (3 - len(found))
    return found[0], found[1], found[2]
