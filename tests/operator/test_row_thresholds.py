"""Functions of a row: its largest scores, thresholds of long rows, and the values kept for the backward pass."""

import math

import pytest
import torch

from limelight import Attention, Entmax, Sigmoid, Sparsemax, TopK
from limelight.kernels.largest import topk

NORMALIZATIONS = {
    "sparsemax": Sparsemax(),
    "entmax 1.5": Entmax(1.5),
    "entmax 1.2": Entmax(1.2),
    "top-k": TopK(7),
    "sigmoid": Sigmoid(),
}
ROWS = {
    "normal": torch.randn(3, 5, 1024),
    "ties": torch.randint(0, 4, (3, 5, 1024)).float(),
    "all alike": torch.ones(3, 5, 1024),
    "mostly masked": torch.randn(3, 5, 1024).masked_fill(torch.rand(3, 5, 1024) < 0.99, -math.inf),
    "all masked": torch.full((3, 5, 1024), -math.inf),
    "short": torch.randn(3, 5, 24),
    "of no multiple": torch.randn(3, 5, 1021),
    "sorted": torch.randn(3, 5, 1024).sort(-1).values,
}


@pytest.mark.parametrize("k", [1, 8, 24])
@pytest.mark.parametrize("rows", ROWS)
def test_the_largest_are_torchs(rows, k):
    s = ROWS[rows]
    values, indices = topk(s, k)
    torch.testing.assert_close(values, s.topk(k, -1).values, rtol=0, atol=0)
    torch.testing.assert_close(s.gather(-1, indices), values, rtol=0, atol=0)
    assert all(len(set(row.tolist())) == k for row in indices.flatten(0, -2))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_the_thresholds_of_long_rows(name, rows):
    s, normalization = ROWS[rows].double(), NORMALIZATIONS[name]
    p = normalization.weights(s, normalization.thresholds(s))
    if name == "sigmoid":
        expected = torch.sigmoid(s - math.log(s.shape[-1]))
    elif name == "top-k":
        expected = s.masked_fill(s < s.topk(7, -1).values[..., -1:], -math.inf).softmax(-1).nan_to_num()
    else:
        expected = by_bisection(s, normalization.alpha)
    torch.testing.assert_close(p, expected, rtol=1e-9, atol=1e-11)


def by_bisection(s, alpha):
    x = (alpha - 1) * s
    low, high = (x.amax(-1, keepdim=True).nan_to_num(neginf=0.0) - one for one in (1, 0))
    for _ in range(100):
        middle = (low + high) / 2
        enough = (x - middle).relu().pow(1 / (alpha - 1)).sum(-1, keepdim=True) >= 1
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return (x - low).relu().pow(1 / (alpha - 1))


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_kept_thresholds_give_the_same_derivatives(monkeypatch, name):
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", 3000)  # ten rows at a time
    normalization = NORMALIZATIONS[name]
    q, k, v = (torch.randn(n, 5).double().requires_grad_() for n in (25, 300, 300))
    again, way = [], type(normalization).thresholds_at

    def thresholds_at(own, s, t):
        again.append(torch.is_grad_enabled())
        return way(own, s, t)

    monkeypatch.setattr(type(normalization), "thresholds_at", thresholds_at)

    def derivatives(kernel):
        out = Attention(q, k, normalization=normalization, kernel=kernel) @ v
        first = torch.autograd.grad(out.sin().sum(), (q, k, v), create_graph=True)
        return [out, *first, *torch.autograd.grad(sum(g.cos().sum() for g in first), (q, k, v))]

    mine = derivatives("chunked")
    assert name == "sigmoid" or any(again)
    for found, expected in zip(mine, derivatives("reference"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    out = Attention(q, k, normalization=normalization, kernel="chunked") @ v
    out.sum().backward(retain_graph=True)
    once = q.grad.clone()
    out.sum().backward()
    torch.testing.assert_close(q.grad, 2 * once)
