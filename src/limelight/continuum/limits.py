"""Attention on points of a manifold, and the differential operator that it tends to.

P = softmax_α(−|x_i − x_j|²/2ε),   (P h − h)/(ε/2) → Δh + 2(1 − α)⟨∇log p, ∇h⟩
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.attention import Attention
from limelight.continuum.fields import Field
from limelight.errors import InputError
from limelight.normalization import Normalization, Softmax
from limelight.similarity import Euclidean


def diffusion(
    x: Float[Tensor, "*#batch n e"],
    epsilon: float,
    normalization: Normalization = Softmax(),
    keys: Float[Tensor, "*#batch m e"] | None = None,
) -> Attention:
    """Attention with scores −|x_i − y_j|²/2ε on embedded points; y = x unless other `keys` are given.

    >>> import torch
    >>> from limelight.continuum import diffusion
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> diffusion(x, epsilon=0.5).dense().round(decimals=2)
    tensor([[0.7300, 0.2700],
            [0.2700, 0.7300]])
    """
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 < epsilon < math.inf:
        raise InputError(f"epsilon expects a positive number, the squared bandwidth, got {epsilon!r}")
    # exp(−|x − y|²/2ε) is, up to a factor that the normalization cancels, the kernel of heat that has spread for a time
    # ε/2 in flat space: it moves h by (ε/2) Δh + O(ε²). That is why the limits divide P h − h by ε/2.
    return Attention(x, x if keys is None else keys, Euclidean(math.sqrt(epsilon)), normalization)


def drift_diffusion(
    h: Field, x: Float[Tensor, "n c"], log_density: Field | None = None, alpha: float = 0.0
) -> Float[Tensor, " n"]:
    """Δh + 2(1 − α)⟨∇log p, ∇h⟩ at the points x: the limit of the generator of `diffusion` (Coifman & Lafon 2006).

    >>> import torch
    >>> from limelight.continuum import Wave, drift_diffusion
    >>> h = Wave(k=torch.tensor([1.0]))
    >>> drift_diffusion(h, torch.zeros(1, 1).double())  # for a uniform density: Δh = −h
    tensor([-1.], dtype=torch.float64)
    """
    # A sum over points of density p tends to an integral with the weight p. The column sums tend to a multiple of p, so
    # that dividing by their power α leaves the weight w = p^{1−α}. The sum with h and the normalizer are then both
    # heat flows on the manifold, and
    #     P h = (w h + (ε/2) Δ(w h) + …)/(w + (ε/2) Δw + …) = h + (ε/2)(Δh + 2⟨∇log w, ∇h⟩) + O(ε²).
    # Corrections by curvature multiply both w h and w, and cancel in this order. ∇log w = (1 − α) ∇log p.
    if log_density is None:
        return h.laplacian(x)
    return h.laplacian(x) + 2 * (1 - alpha) * (log_density.gradient(x) * h.gradient(x)).sum(-1)


def laplace_beltrami(
    metric: Callable[[Tensor], Tensor], h: Callable[[Tensor], Tensor], x: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """Δ_g h = |g|^{−½} Σ_ij ∂_i (|g|^{½} g^{ij} ∂_j h) at the points x, by automatic differentiation.

    metric maps coordinates (n, d) to g (n, d, d), h maps them to (n,), row by row. It is computed from the
    definition, without any assumption about the metric. Raises `InputError` for a metric of another shape.

    >>> import torch
    >>> from limelight.continuum import laplace_beltrami
    >>> def flat(x):
    ...     return torch.eye(2).expand(len(x), 2, 2)
    >>> laplace_beltrami(flat, lambda x: x.square().sum(1), torch.ones(1, 2))
    tensor([4.])
    """
    x = x.detach().requires_grad_()
    g = metric(x)
    n, d = x.shape
    if g.shape != (n, d, d):
        raise InputError(f"the metric must map points {(n, d)} to matrices {(n, d, d)}, got {tuple(g.shape)}")
    # Row i of g and of h depends on row i of x alone. The gradient of a sum over rows is therefore each row's own
    # gradient, and one backward pass serves all points. The divergence needs ∂_i of the i-th component of the flux
    # |g|^½ g⁻¹ ∇h only: d more passes, each of which gives d derivatives, of which one is used.
    (slope,) = torch.autograd.grad(h(x).sum(), x, create_graph=True)
    volume = torch.linalg.det(g).sqrt()
    flux = volume[:, None] * torch.linalg.solve(g, slope)
    divergence = torch.zeros_like(volume)
    for i in range(d):
        divergence = divergence + torch.autograd.grad(flux[:, i].sum(), x, retain_graph=True)[0][:, i]
    return (divergence / volume).detach()
