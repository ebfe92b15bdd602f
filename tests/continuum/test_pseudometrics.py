"""Any pseudo-metric as a similarity, its minimizers, and what a step tends to."""

import pytest
import torch

from limelight import Attention, ConvergenceError, Euclidean, InputError
from limelight.continuum import Pseudometric, Torus, VonMises, Wave, first_order, minimizer, order


def half_square(x, y):
    return 0.5 * (x - y).square().sum(-1)


def test_a_pseudometric_is_a_similarity():
    q, k, v = torch.randn(3, 2, 9, 3, dtype=torch.float64)
    A, B = Attention(q, k, Pseudometric(half_square), scale=4.0), Attention(q, k, Euclidean(0.5))
    torch.testing.assert_close(A @ v, B @ v)
    assert A.kernel == "chunked"


def test_a_minimizer_is_found_with_its_derivatives():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)

    def f(x, y):  # least at y = x + 1, where f'' = e and f''' = e
        return ((y - x).exp() - (y - x) * torch.e)[..., 0]

    at = minimizer(f, x, x)
    torch.testing.assert_close(at.y, x + 1)
    torch.testing.assert_close(at.c, torch.full_like(x, torch.e))
    torch.testing.assert_close(at.d, torch.full_like(x, torch.e))
    flat = minimizer(half_square, x, x + 0.3)
    torch.testing.assert_close(flat.c, torch.ones_like(x))
    torch.testing.assert_close(flat.d, torch.zeros_like(x))


@pytest.mark.parametrize("skew", [True, False])
def test_a_step_needs_the_third_derivative(skew):
    """For a skew f the limit is reached with order ε if the third derivative is used, and not otherwise."""
    density, h = VonMises(torch.tensor([0.7]), torch.tensor([0.2])), Wave(torch.tensor([1.0]), 0.5)
    x, y = torch.linspace(-0.7, 0.7, 8, dtype=torch.float64), Torus(1).grid(500, density)

    def f(x, y):  # least at y = x + log 2, where c = d = 2
        return ((y - x).exp() - 2 * (y - x))[..., 0]

    at, errors, sizes = minimizer(f, x, x), [], (0.032, 0.016, 0.008)
    limit = first_order(h, at, density, skew=skew)
    for epsilon in sizes:
        fetched = Attention(x[:, None], y, Pseudometric(f), scale=1 / epsilon) @ h.value(y)[:, None]
        rate = (fetched[:, 0] - h.value(at.y[:, None])) / (epsilon / 2)
        errors.append(float((rate - limit).abs().max()))
    if skew:
        assert order(sizes, errors) == pytest.approx(1, abs=0.1)
    else:
        assert errors[-1] > 0.3
        assert abs(order(sizes, errors)) < 0.15


def test_the_distance_gives_the_drift_of_softmax():
    density, h = VonMises(torch.tensor([0.7]), torch.tensor([0.2])), Wave(torch.tensor([1.0]), 0.5)
    x = torch.linspace(-0.7, 0.7, 8, dtype=torch.float64)
    found = first_order(h, minimizer(half_square, x, x), density)
    y = x[:, None]
    torch.testing.assert_close(found, h.laplacian(y) + 2 * (density.gradient(y) * h.gradient(y))[:, 0])


def test_a_function_without_a_minimum_is_refused():
    x = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(ConvergenceError, match="no minimum"):
        minimizer(lambda x, y: -half_square(x, y), x, x + 0.1)  # a maximum
    with pytest.raises(InputError, match="expects a function of two points, got str"):
        Pseudometric("euclidean")
    with pytest.raises(InputError, match=r"to a value for each pair, got shape \(\d, \d, 2\)"):
        Attention(torch.zeros(3, 2), torch.zeros(4, 2), Pseudometric(lambda x, y: x - y)) @ torch.zeros(4, 1)
