"""The product that a backward pass by rows leaves out."""

import pytest
import torch

from limelight import Attention, Sigmoid
from limelight.kernels import rows
from limelight.kernels.last_product import last_product, only_derivative
from tests.dispatch import Counting

P, V = torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.rand(2, 3, 5, 6, dtype=torch.float64)


@pytest.mark.parametrize(("p", "v"), [(P, V), (P[0], V), (P, V[0, 0]), (P[:, :1], V), (P[0, 0], V[0, 0])])
def test_its_derivative_is_that_of_the_product(p, v):
    p, v = p.clone().requires_grad_(), v.clone().requires_grad_()
    whole = p @ v
    dout = torch.rand_like(whole)
    with only_derivative(True):
        out = last_product(p, v)
    assert out.shape == whole.shape
    assert out.dtype == whole.dtype
    for found, expected in zip(
        torch.autograd.grad(out, (p, v), dout), torch.autograd.grad(whole, (p, v), dout), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_a_step_makes_seven_products_of_each_block_and_not_eight(monkeypatch):
    monkeypatch.setattr(rows, "ENTRIES", 20 * 40)
    q, k, v = (torch.rand(40, 3, requires_grad=True) for _ in range(3))
    with Counting({torch.ops.aten.bmm.default, torch.ops.aten.mm.default}) as products:
        (Attention(q, k, normalization=Sigmoid()) @ v).sum().backward()
    assert products.count == 7 * 2


def test_a_result_that_is_used_within_a_gradient_has_its_value(monkeypatch):
    monkeypatch.setattr(rows, "ENTRIES", 20)
    x = torch.rand(6, 5, dtype=torch.float64, requires_grad=True)

    def inner(own, cut):
        return last_product(own[cut], own.mT)

    def outer(own, cut):
        return rows.by_rows(inner, own, 6, 5, dim=-2)[cut].square()

    rows.by_rows(outer, x, 6, 5, dim=-2).sum().backward()
    (expected,) = torch.autograd.grad((x @ x.mT).square().sum(), x)
    torch.testing.assert_close(x.grad, expected)
