"""Gradients by finite differences, through everything that learns; and what shares a graph."""

import pytest
import torch

from limelight import Attention, Dot, Euclidean, Metric, Sinkhorn, Softmax, causal, padding, window
from tests.operator.mechanisms import NORMALIZATIONS, SIMILARITIES, Phi


def doubles(*shapes):
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_by_finite_differences(similarity, normalization):
    def everything(q, k, v):
        A = Attention(q, k, SIMILARITIES[similarity].make(), NORMALIZATIONS[normalization].make(), kernel="fused")
        return A @ v, A.T @ q, A.entropy(), A.column_mass(), A.logsumexp()

    assert torch.autograd.gradcheck(everything, doubles((2, 3, 6), (2, 5, 6), (2, 5, 2)), fast_mode=True)


@pytest.mark.parametrize("mask", [causal, window(1, 1)], ids=repr)
def test_by_finite_differences_masked(mask):
    def everything(q, k, v):
        A = Attention(q, k, Euclidean(1.2), mask=mask, kernel="fused")
        return A @ v, A.T @ q, A.entropy(), A.logsumexp()

    assert torch.autograd.gradcheck(everything, doubles((1, 5, 6), (1, 5, 6), (1, 5, 2)), fast_mode=True)


@pytest.mark.parametrize("kernel", ["reference", "fused"])
def test_parameters_of_a_similarity_get_gradients(kernel):
    q, k, v = doubles((4, 6), (5, 6), (5, 2))
    bandwidth, scale, phi = (
        torch.nn.Parameter(torch.tensor(1.3).double()),
        torch.nn.Parameter(torch.tensor(0.7).double()),
        Phi(),
    )

    def outputs():
        return (
            (Attention(q, k, Euclidean(bandwidth), Softmax(1.0), kernel=kernel) @ v).square().sum()
            + (Attention(q, k, Dot(), scale=scale, kernel=kernel) @ v).square().sum()
            + (Attention(q, k, Metric(phi), Sinkhorn(2), kernel=kernel) @ v).square().sum()
        )

    step = 1e-6
    for parameter in (bandwidth, scale, phi.outer):
        (gradient,) = torch.autograd.grad(outputs(), parameter)
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            parameter += step * direction
            above = outputs()
            parameter -= 2 * step * direction
            below = outputs()
            parameter += step * direction
        torch.testing.assert_close((gradient * direction).sum(), (above - below) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kernel", ["reference", "chunked", "fused"])
def test_every_kernel_can_be_differentiated_twice(kernel):
    q, k, v = doubles((3, 4), (5, 4), (5, 2))
    assert torch.autograd.gradgradcheck(lambda *x: Attention(*x[:2], kernel=kernel) @ x[2], (q, k, v), fast_mode=True)


def test_statistics_without_gradients_are_not_reused_for_gradients():
    q, k, _ = doubles((3, 4), (5, 4), (5, 2))
    A = Attention(q, k, normalization=Softmax(1.0))
    with torch.no_grad():
        assert not A.logsumexp().requires_grad
    with torch.inference_mode():
        A.column_mass()
    assert A.logsumexp().requires_grad
    A.column_mass().sum().backward()
    assert q.grad is not None


def test_phi_is_evaluated_once_if_queries_are_keys():
    asked = []

    def phi(x):
        asked.append(x.shape)
        return x.tanh()

    x = torch.randn(2, 5, 4)
    A = Attention(x, x, Metric(phi), Softmax(0.5))
    A @ x, A.entropy(), A.column_mass(), A.T @ x
    assert len(asked) == 1


@pytest.mark.parametrize("mask", [None, causal, padding(keys=torch.rand(3, 1, 9) > 0.3), window(2, 1)], ids=repr)
@pytest.mark.parametrize("normalization", [Softmax(), Softmax(1.0), Sinkhorn(2)], ids=repr)
def test_a_few_matrices_at_a_time_give_the_same_gradients(normalization, mask, monkeypatch):
    """The padded copies that the fused kernel needs are made for a few heads at a time."""
    if mask is causal and normalization.uses_column_sums:
        return
    monkeypatch.setattr("limelight.kernels.backends.cpu._COPIED", 1)
    found = []
    for kernel in ("fused", "reference"):
        q, k, v = (torch.randn(3, 4, 9, 5, generator=torch.Generator().manual_seed(i)).double() for i in range(3))
        inputs = [x.requires_grad_() for x in (q, k, v)]
        A = Attention(q, k, Euclidean(1.5), normalization, mask, kernel=kernel)
        out = (A @ v).square().sum() + A.entropy().sum() + A.column_mass().square().sum()
        found.append(torch.autograd.grad(out, inputs))
    torch.testing.assert_close(*found)
