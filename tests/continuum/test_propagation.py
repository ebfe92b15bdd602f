"""Processes on an attention, against dense linear algebra in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limelight import Attention, ConvergenceError, Dot, Euclidean, InputError, Sigmoid, Softmax, causal
from limelight.propagation import generator, heat, resolvent, steps, trajectory

NORMALIZATIONS = [Softmax(), Softmax(1.0)]


def tokens(n=30, d=3, dtype=torch.float64, seed=0):
    made = torch.Generator().manual_seed(seed)
    return (torch.randn(n, d, generator=made, dtype=dtype) for _ in range(3))


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_steps_are_powers():
    q, k, h = tokens()
    A = Attention(q, k)
    close(steps(A, h, 7), torch.linalg.matrix_power(A.dense(), 7) @ h)
    path = list(trajectory(A, h, 3))
    assert len(path) == 4
    close(path[0], h)
    close(path[2], A.dense() @ A.dense() @ h)


@pytest.mark.parametrize("t", [0.0, 0.3, 5, 800.0])
@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids=str)
def test_heat_is_the_exponential(t, normalization):
    q, k, h = tokens()
    A = Attention(q, k, normalization=normalization)  # its spectrum is complex
    expected = torch.linalg.matrix_exp(t * (A.dense() - torch.eye(30))) @ h
    close(heat(A, h, t), expected, 1e-11)


@given(t=st.floats(0, 20), tolerance=st.floats(1e-12, 1e-1))
def test_the_error_of_heat_is_within_its_bound(t, tolerance):
    q, k, h = tokens(n=12)
    A = Attention(q, k, scale=3.0)
    expected = torch.linalg.matrix_exp(t * (A.dense() - torch.eye(12))) @ h
    assert (heat(A, h, t, tolerance) - expected).abs().max() <= tolerance * h.abs().max() + 1e-13


@settings(max_examples=12)
@given(first=st.floats(0, 3), second=st.floats(0, 3))
def test_heat_is_a_semigroup(first, second):
    x, _, h = tokens(n=12)
    A = Attention(x, x, Euclidean())
    close(heat(A, heat(A, h, first), second), heat(A, h, first + second))


@pytest.mark.parametrize("s", [0, 0.5, 0.99])
@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids=str)
def test_the_resolvent_solves(s, normalization):
    q, k, h = tokens()
    A = Attention(q, k, normalization=normalization)
    expected = torch.linalg.solve(torch.eye(30) - s * A.dense(), (1 - s) * h)
    close(resolvent(A, h, s), expected, 1e-11)


@given(s=st.floats(0, 0.98), tolerance=st.floats(1e-10, 1e-1))
def test_the_error_of_the_resolvent_is_within_its_bound(s, tolerance):
    q, k, h = tokens(n=12)
    A = Attention(q, k, scale=3.0)
    expected = torch.linalg.solve(torch.eye(12) - s * A.dense(), (1 - s) * h)
    error = (resolvent(A, h, s, tolerance) - expected).abs().amax(0)
    assert (error <= tolerance * h.abs().amax(0) + 1e-13).all()


@pytest.mark.parametrize("process", [lambda A, h: heat(A, h, 2.5), lambda A, h: resolvent(A, h, 0.9)])
def test_gradients_are_those_of_finite_differences(process):
    q, k, h = (x.requires_grad_() for x in tokens(n=6, d=2))
    assert torch.autograd.gradcheck(
        lambda q, k, h: process(Attention(q, k), h), (q, k, h), check_undefined_grad=False, fast_mode=True
    )


def test_the_error_of_a_derivative_is_within_its_bound():
    """Pᵀ does not increase sums: the error of one entry may spread over many entries, small in each."""
    n, s, step = 200, 0.99, 2 * torch.pi / 200
    angle = step * torch.arange(n, dtype=torch.float64)[:, None]
    x, h = torch.cat([angle.cos(), angle.sin()], 1), torch.zeros(n, 1, dtype=torch.float64, requires_grad=True)
    A = Attention(x, x, Euclidean(3 * step))
    resolvent(A, h, s, tolerance=1e-2)[0].backward()
    expected = (1 - s) * torch.linalg.inv(torch.eye(n) - s * A.dense())[0]
    assert (h.grad[:, 0] - expected).abs().sum() <= 1e-2


def test_the_derivative_of_the_resolvent_keeps_no_step():
    x, _, h = tokens()
    x.requires_grad_()
    out = resolvent(Attention(x, x, Euclidean()), h, 0.999)
    length, node = 0, out.grad_fn
    while node is not None and length < 50:
        length, node = length + 1, node.next_functions[0][0] if node.next_functions else None
    assert length < 50


def test_batches_broadcast():
    q, k, _ = tokens(n=8)
    h = torch.randn(4, 1, 8, 2, dtype=torch.float64)
    A = Attention(torch.stack([q, 2 * q, 3 * q]), k)
    for out in (steps(A, h, 0), steps(A, h, 2), heat(A, h, 1.0), resolvent(A, h, 0.5), generator(A, h, 0.1)):
        assert out.shape == (4, 3, 8, 2)
    close(heat(A, h, 1.0)[1, 2], heat(Attention(3 * q, k), h[1, 0], 1.0))


def test_a_causal_walk_runs_too():
    q, k, h = tokens()
    A = Attention(q, k, mask=causal)
    close(resolvent(A, h, 0.5), torch.linalg.solve(torch.eye(30) - 0.5 * A.dense(), 0.5 * h))


def test_single_precision_is_as_good_as_its_rounding():
    x, _, h = tokens(dtype=torch.float32)
    A, B = Attention(x, x), Attention(x.double(), x.double())
    for process in (lambda A, h: heat(A, h, 3.0), lambda A, h: resolvent(A, h, 0.9)):
        found = process(A, h)
        assert found.dtype == torch.float32
        close(found.double(), process(B, h.double()), 1e-4)


def test_the_generator_is_the_difference_over_the_time_of_a_step():
    x, _, h = tokens()
    A = Attention(x, x, Euclidean(0.5))
    close(generator(A, h, 0.25), (A.dense() @ h - h) / 0.125)


def test_what_cannot_be_computed_is_refused():
    q, k, h = tokens(n=8)
    A = Attention(q, k)
    for call, says in (
        (lambda: steps(Attention(q, k[:5]), h[:5], 2), "8 queries and 5 keys"),
        (lambda: trajectory(A, h, -1), "whole number ≥ 0, got -1"),
        (lambda: steps(A, h, 2.0), "got 2.0"),
        (lambda: heat(A, h, -1.0), "finite time ≥ 0, got -1.0"),
        (lambda: heat(A, h, float("nan")), "got nan"),
        (lambda: heat(A, h, 1.0, 0.0), "between 0 and 1, got 0.0"),
        (lambda: heat(A, h / 0, 1.0), "NaN or infinite"),
        (lambda: heat(Attention(q, k, Dot(), Sigmoid()), h, 1.0), "rows that sum to at most one"),
        (lambda: resolvent(A, h, 1.0), r"\[0, 1\), got 1.0"),
        (lambda: resolvent(A, h, 0.5, most=0), "whole number ≥ 1, got 0"),
        (lambda: resolvent(Attention(q.bfloat16(), k.bfloat16()), h.bfloat16(), 0.99), "which is too much"),
        (lambda: generator(A, h, 0.0), "positive number, the squared bandwidth, got 0.0"),
        (lambda: steps(q, h, 1), "A expects a LinearOperator object, got a tensor of shape"),
    ):
        with pytest.raises(InputError, match=says):
            call()
    with pytest.raises(ConvergenceError, match="in 3 steps"):
        resolvent(A, h, 0.99, most=3)
