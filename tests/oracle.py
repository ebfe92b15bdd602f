"""The truth to test against: attention in float64 with exp and divide, sharing nothing with the library."""

import math

import torch
from torch import Tensor


def scores(q: Tensor, k: Tensor, kind: str, scale: float, phi=None) -> Tensor:
    """scale · β for every pair, one pair at a time in spirit."""
    q, k = q.double(), k.double()
    if kind == "metric":
        q, k, kind = phi(q), phi(k), "euclidean"
    if kind == "dot":
        return scale * torch.einsum("...id,...jd->...ij", q, k)
    if kind == "cosine":
        unit_q, unit_k = (x / x.norm(dim=-1, keepdim=True) for x in (q, k))
        return scale * torch.einsum("...id,...jd->...ij", unit_q, unit_k)
    assert kind == "euclidean"
    return -scale / 2 * ((q.unsqueeze(-2) - k.unsqueeze(-3)) ** 2).sum(-1)


def weights(s: Tensor, normalisation: str, seen: Tensor | None = None, alpha: float = 0.0, steps: int = 0) -> Tensor:
    """P by exponentials and divisions; rows and columns that see nothing stay zero."""
    seen = torch.ones_like(s, dtype=torch.bool) if seen is None else seen.expand_as(s)
    kernel = torch.where(seen, (s - s.amax((-2, -1), keepdim=True)).exp(), 0.0)
    if normalisation == "softmax":
        kernel = _divide(kernel, kernel.sum(-2, keepdim=True) ** alpha)
        return _divide(kernel, kernel.sum(-1, keepdim=True))
    assert normalisation == "sinkhorn"
    for _ in range(steps):
        kernel = _divide(kernel, kernel.sum(-2, keepdim=True))
        kernel = _divide(kernel, kernel.sum(-1, keepdim=True))
    return kernel


def entropy(p: Tensor) -> Tensor:
    return -torch.where(p > 0, p * p.clamp(min=1e-300).log(), 0.0).sum(-1)


def band(n: int, m: int, before: float = math.inf, after: float = math.inf) -> Tensor:
    return torch.tensor([[-before <= j - i <= after for j in range(m)] for i in range(n)])


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)
