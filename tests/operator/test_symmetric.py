"""Products with half of a symmetric kernel, compared with the whole array."""

import pytest
import torch

from limelight import Cosine, Euclidean
from limelight.kernels.symmetric import SymmetricWeights


def dense(X, similarity, scale):
    return (scale * similarity.dense(X, X)).exp().fill_diagonal_(0)


@pytest.mark.parametrize("n", [1, 2, 319, 320, 321, 700, 1601])
@pytest.mark.parametrize("columns", [1, 3])
def test_it_is_the_array_without_its_diagonal(n, columns):
    X, v = torch.randn(n, 3, dtype=torch.float64), torch.randn(n, columns, dtype=torch.float64)
    mine = SymmetricWeights(Euclidean().as_inner_product(X, X), 2.5) @ v
    torch.testing.assert_close(mine, dense(X, Euclidean(), 2.5) @ v, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_whatever_the_threads(threads):
    before = torch.get_num_threads()
    X, v = torch.randn(1500, 2, dtype=torch.float64), torch.randn(1500, 2, dtype=torch.float64)
    try:
        torch.set_num_threads(threads)
        mine = SymmetricWeights(Euclidean().as_inner_product(X, X), 1.0) @ v
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(mine, dense(X, Euclidean(), 1.0) @ v, rtol=1e-12, atol=1e-12)


def test_without_terms_and_in_float32():
    X, v = torch.randn(50, 4), torch.randn(50, 2)
    mine = SymmetricWeights(Cosine().as_inner_product(X, X), 3.0) @ v
    torch.testing.assert_close(mine, dense(X, Cosine(), 3.0) @ v, rtol=1e-5, atol=1e-4)


def test_weights_that_underflow_are_zero():
    X = torch.tensor([[0.0], [1.0], [100.0]], dtype=torch.float64)
    out = SymmetricWeights(Euclidean().as_inner_product(X, X), 2.0) @ torch.ones(3, 1, dtype=torch.float64)
    assert out[2] == 0
    assert torch.isclose(out[0], torch.tensor(-1.0, dtype=torch.float64).exp()).all()
