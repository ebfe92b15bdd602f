"""An independent reference for the tests: attention in float64 with exp and divide, without code of the library."""

import math
from collections.abc import Callable

import torch
from scipy import optimize
from torch import Tensor


def scores(q: Tensor, k: Tensor, kind: str, scale: float, phi=None) -> Tensor:
    """scale · β for every pair."""
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


def _pairs(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return q.double().unsqueeze(-2), k.double().unsqueeze(-3)


def _ahead(q: Tensor, k: Tensor) -> Tensor:
    return torch.tensor([[j - i for j in range(k.shape[-2])] for i in range(q.shape[-2])])


def _relative(sim, q: Tensor, k: Tensor) -> Tensor:
    at = (_ahead(q, k).clamp(-sim.reach, sim.reach) + sim.reach).tolist()
    rows = [torch.stack([torch.stack([head[a] for a in row]) for row in at]) for head in sim.table.double()]
    return torch.stack(rows)


BETA = {  # β(q, k) with the parameters of the similarity, for each pair
    "dot": lambda sim, q, k: (torch.mul(*_pairs(q, k))).sum(-1),
    "alignment": lambda sim, q, k: (1 + torch.cosine_similarity(*_pairs(q, k), dim=-1)) / 2,
    "bilinear": lambda sim, q, k: torch.einsum("...ic,cd,...jd->...ij", q.double(), sim.weight.double(), k.double()),
    "laplacian": lambda sim, q, k: -torch.sub(*_pairs(q, k)).abs().sum(-1),
    "student": lambda sim, q, k: -(1 + torch.sub(*_pairs(q, k)).square().sum(-1) / sim.nu).log(),
    "additive": lambda sim, q, k: torch.einsum(
        "...ijh,h->...ij",
        torch.add(*_pairs(q @ sim.query.weight.T + sim.query.bias, k @ sim.key.weight.T)).tanh(),
        sim.out,
    ),
    "gat": lambda sim, q, k: torch.nn.functional.leaky_relu(
        torch.add(*_pairs(q @ sim.query.weight.T, k @ sim.key.weight.T)).squeeze(-1), sim.slope
    ),
    "softcap": lambda sim, q, k: sim.cap * (torch.mul(*_pairs(q, k)).sum(-1) / q.shape[-1] ** 0.5 / sim.cap).tanh(),
    "alibi": lambda sim, q, k: -sim.slopes.double()[:, None, None] * _ahead(q, k).abs(),
    "relative": _relative,
    "convolution": lambda sim, q, k: -((_ahead(q, k) - sim.shifts.double()[:, None, None]) ** 2) / 2,
    "bias": lambda sim, q, k: sim.table,
}


def weights(s: Tensor, normalization: str, seen: Tensor | None = None, alpha: float = 0.0, steps: int = 0) -> Tensor:
    """P by exponentials and divisions; rows and columns without visible pairs stay zero."""
    seen = torch.ones_like(s, dtype=torch.bool) if seen is None else seen.expand_as(s)
    kernel = torch.where(seen, (s - s.amax((-2, -1), keepdim=True)).exp(), 0.0)
    if normalization == "softmax":
        kernel = _divide(kernel, kernel.sum(-2, keepdim=True) ** alpha)
        return _divide(kernel, kernel.sum(-1, keepdim=True))
    if normalization in ROWS:
        rows = [
            ROWS[normalization](row[keep]) if keep.any() else row[keep]
            for row, keep in zip(s.reshape(-1, s.shape[-1]), seen.reshape(-1, s.shape[-1]), strict=True)
        ]
        return torch.zeros_like(s).masked_scatter(seen, torch.cat(rows))
    if normalization == "hybrid":
        return 0.3 * weights(s, "softmax", seen) + 0.7 * weights(s, "softmax", seen, alpha=1.0)
    assert normalization == "sinkhorn"
    for _ in range(steps):
        kernel = _divide(kernel, kernel.sum(-2, keepdim=True))
        kernel = _divide(kernel, kernel.sum(-1, keepdim=True))
    return kernel


def _root(total: Callable[[float], float], low: float, high: float) -> float:
    return optimize.brentq(lambda t: total(t) - 1, low, high, xtol=1e-15, rtol=1e-15)


def _entmax(row: Tensor, alpha: float) -> Tensor:
    x, power = (alpha - 1) * row, 1 / (alpha - 1)
    t = _root(lambda t: float(((x - t).clamp(min=0) ** power).sum()), float(x.max()) - 1.000001, float(x.max()))
    return (x - t).clamp(min=0) ** power


def _topk(row: Tensor, k: int) -> Tensor:
    kept = row >= row.sort(descending=True).values[min(k, len(row)) - 1]
    return torch.where(kept, row.exp(), 0) / row.exp()[kept].sum()


ROWS = {  # the weights of a row, from its visible scores
    "sink": lambda row: row.exp() / (math.exp(0.3) + row.exp().sum()),
    "scalable": lambda row: (0.7 * math.log(len(row)) * row).softmax(-1),
    "entmax": lambda row: _entmax(row, 1.5),
    "entmax=1.2": lambda row: _entmax(row, 1.2),
    "sparsemax": lambda row: _entmax(row, 2.0),
    "topk": lambda row: _topk(row, 3),
    "sigmoid": lambda row: 1 / (1 + (2.0 - row).exp()),
}


def entropy(p: Tensor) -> Tensor:
    p = _divide(p, p.sum(-1, keepdim=True))
    return -torch.where(p > 0, p * p.clamp(min=1e-300).log(), 0.0).sum(-1)


def band(n: int, m: int, before: float = math.inf, after: float = math.inf) -> Tensor:
    return torch.tensor([[-before <= j - i <= after for j in range(m)] for i in range(n)])


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)
