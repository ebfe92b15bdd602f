"""One query at a time, as in decoding: the result from stored scores equals the definition."""

import math

import pytest
import torch

from limelight import (
    ALiBi,
    Alignment,
    Attention,
    Bias,
    Bilinear,
    Cosine,
    Dot,
    Euclidean,
    Graph,
    InputError,
    Laplacian,
    Scaled,
    Softmax,
    StudentT,
    attend,
    causal,
    padding,
    window,
)
from limelight.kernels import few

M, D = 70, 6
SIMILARITIES = {
    "dot": Dot(),
    "cosine": Cosine(),
    "alignment": Alignment(),
    "bilinear": Bilinear(D),
    "euclidean": Euclidean(2.0),
    "euclidean, by head": Euclidean(torch.tensor([1.0, 3.0])),
    "laplacian": Laplacian(3.0),
    "student": StudentT(torch.tensor([1.0, 4.0])),
    "scaled": Scaled(Dot(), -0.3),
    "with positions": Dot() + ALiBi(2, offset=M - 1),
    "with a table": Euclidean(2.0) + Bias(torch.linspace(-1, 1, M).expand(1, M)),
}
MASKS = {
    "none": None,
    "padding": padding(keys=torch.arange(M) % 3 > 0),
    "causal": causal.at(M - 5),
    "window": window(4, 60),
    "boolean": (torch.arange(M) % 5 > 1).expand(2, 1, 1, M),
    "hides all": torch.zeros(2, 1, 1, M, dtype=torch.bool),
}


@pytest.fixture
def computed(monkeypatch):
    """The scores that were stored because they are few."""
    found, way = [], few.scores_of_few

    def scores_of_few(*given):
        scores = way(*given)
        found.extend([] if scores is None else [scores])
        return scores

    monkeypatch.setattr(few, "scores_of_few", scores_of_few)
    return found


def tokens(n, dtype=torch.float32):
    return [torch.randn(2, 2, length, D).to(dtype) for length in (n, M, M)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", SIMILARITIES)
@torch.no_grad()
def test_it_is_what_the_definition_gives(computed, name, mask):
    similarity = SIMILARITIES[name]
    for n in (1, 4):
        q, k, v = tokens(n)
        out = Attention(q, k, similarity, mask=MASKS[mask]) @ v
        exact = Attention(q.double(), k.double(), similarity, mask=MASKS[mask], kernel="reference") @ v.double()
        torch.testing.assert_close(out.double(), exact, rtol=2e-6, atol=2e-6)
    assert len(computed) == 2


@torch.no_grad()
def test_keys_far_from_zero_lose_no_precision():
    q, k, v = (x + 1e4 for x in tokens(1))
    exact = Attention(q.double(), k.double(), Euclidean(), kernel="reference") @ v.double()
    torch.testing.assert_close((Attention(q, k, Euclidean()) @ v).double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [*SIMILARITIES])
@torch.no_grad()
def test_a_nan_key_is_refused_and_has_no_effect_under_padding(name, value):
    q, k, v = tokens(1)
    expected = Attention(q, k, SIMILARITIES[name], mask=MASKS["padding"]) @ v
    k[1, 0, 33, 2] = v[0, 1, 33, 3] = value  # a key that padding hides
    with pytest.raises(InputError, match="k has 1 NaN or infinite"):
        Attention(q, k, SIMILARITIES[name])
    torch.testing.assert_close(Attention(q, k, SIMILARITIES[name], mask=MASKS["padding"]) @ v, expected)


@torch.no_grad()
def test_large_finite_numbers_whose_scores_overflow_are_not_refused():
    q, k, v = tokens(1)
    assert not (Attention(q * 1e30, k * 1e30) @ v).isinf().any()


def test_a_required_gradient_is_computed(computed):
    q, k, v = (x.double().requires_grad_() for x in tokens(1))
    assert torch.autograd.gradgradcheck(lambda q, k, v: attend(q, k, v), (q, k, v), fast_mode=True)
    bandwidth = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    (attend(q.detach(), k.detach(), v.detach(), similarity=Euclidean(bandwidth)).sum()).backward()
    assert bandwidth.grad.abs() > 0
    assert computed == []
    for similarity, counted in ((Dot(), 0), (Euclidean(2.0), 1)):  # dot products have a shorter way
        v.grad = None
        out = attend(q.detach(), k.detach(), v, similarity=similarity)  # the values alone need a gradient
        out.sum().backward()
        assert len(computed) == counted
        torch.testing.assert_close((v.grad * v).sum(), out.sum())


def test_one_operator_in_both_modes():
    q, k, v = (x.double().requires_grad_() for x in tokens(1))
    with torch.no_grad():
        A = Attention(q, k)
        without = A @ v
    (A @ v).sum().backward()
    assert q.grad.abs().sum() > 0
    torch.testing.assert_close(without, A @ v)


@torch.no_grad()
def test_calls_for_another_kernel_do_not_use_this_one(computed):
    q, k, v = tokens(1)
    Attention(q, k, kernel="fused") @ v
    Attention(*tokens(5)[:2]) @ v
    Attention(q.bfloat16(), k.bfloat16()) @ v.bfloat16()
    Attention(q[0, 0], k[0, 0], mask=Graph(torch.zeros(2, 3, dtype=torch.long), (1, M))) @ v[0, 0]
    assert computed == []
    exact = Attention(q, k, normalization=Softmax(1.0), kernel="reference") @ v
    torch.testing.assert_close(Attention(q, k, normalization=Softmax(1.0)) @ v, exact)
