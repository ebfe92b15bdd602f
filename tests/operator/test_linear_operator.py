"""Every linear operator: transpose, dense form and SciPy form are one matrix; processes take any of them."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import svds

from limelight import (
    Attention,
    DifferentialAttention,
    Dot,
    Euclidean,
    Graph,
    InputError,
    LinearOperator,
    LocalLinear,
    Softmax,
    Sparsemax,
    causal,
)
from limelight.classical.operators import Centered, Rescaled, Symmetrized
from limelight.propagation import heat, resolvent, steps

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
A = Attention(X, X, Euclidean(1.5))
OPERATORS = {
    "attention": A,
    "causal": Attention(X, X, mask=causal),
    "graph": Attention(X, X, mask=Graph(torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]]), 6)),
    "wide": Attention(X[:4], X, normalization=Softmax(0.0)),
    "transposed": A.T,
    "rescaled": Rescaled(A, torch.arange(1.0, 7).double(), torch.arange(2.0, 8).double()),
    "symmetrized": Symmetrized(A, 0.5),
    "difference": DifferentialAttention(A, Attention(X, 2 * X), 0.3),
    "local linear": LocalLinear(Attention(X[:, :1], X[:, :1], Euclidean(1.5))),
    "centered": Centered(X, Dot()),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_all_operations_agree_with_the_matrix(name):
    M = OPERATORS[name]
    n, m = M.shape
    dense, v, w = M.dense(), torch.randn(m, 2).double(), torch.randn(n, 2).double()
    torch.testing.assert_close(M @ v, dense @ v)
    torch.testing.assert_close(M.T @ w, dense.T @ w)
    torch.testing.assert_close(M.T.dense(), dense.T)
    assert (M.T.shape, M.T.T.shape) == ((m, n), (n, m))
    scipys = M.as_scipy()
    np.testing.assert_allclose(scipys @ v.numpy(), dense @ v)
    np.testing.assert_allclose(scipys.matvec(v[:, 0].numpy()), dense @ v[:, 0])
    np.testing.assert_allclose(scipys.rmatvec(w[:, 0].numpy()), dense.T @ w[:, 0])
    assert scipys.dtype == np.float64


def test_scipys_solvers_accept_it():
    largest = svds(A.as_scipy(), k=2, return_singular_vectors=False)
    np.testing.assert_allclose(np.sort(largest), torch.linalg.svdvals(A.dense())[:2].flip(0))


def test_propagation_accepts_any_square_operator():
    M, h = Symmetrized(A, 0.5), torch.randn(6, 2).double()
    half = M.dense()
    torch.testing.assert_close(steps(M, h, 3), torch.linalg.matrix_power(half, 3) @ h)
    torch.testing.assert_close(heat(M, h, 0.7), torch.linalg.matrix_exp(0.7 * (half - torch.eye(6))) @ h)
    solved = 0.5 * torch.linalg.solve(torch.eye(6).double() - 0.5 * half, h)
    torch.testing.assert_close(resolvent(M, h, 0.5), solved)


class Doubled(LinearOperator):
    dtype, device, shape = torch.float64, torch.device("cpu"), (6, 6)

    def _apply(self, v):
        return 2 * v


def test_what_an_operator_cannot_do_raises():
    with pytest.raises(InputError, match="Doubled has no transpose"):
        _ = Doubled().T @ X
    with pytest.raises(InputError, match="of Doubled a row sums to 2"):
        heat(Doubled(), X, 1.0)
    with pytest.raises(InputError, match=r"shape \(n, m\), got \(2, 6, 6\)"):
        Attention(X.expand(2, 6, 3), X).as_scipy()
    half = X.bfloat16()
    with pytest.raises(InputError, match="a dtype that NumPy has, got bfloat16"):
        Attention(half, half).as_scipy()


@pytest.mark.parametrize("kernel", ["fused", "chunked", "reference"])
@pytest.mark.parametrize("normalization", [Softmax(), Softmax(0.5)], ids=repr)
def test_outputs_come_with_their_normalizers_in_one_pass(kernel, normalization):
    q, k, v = (torch.randn(2, 5, 3).double().requires_grad_() for _ in range(3))
    B = Attention(q, k, Euclidean(1.5), normalization, kernel=kernel)
    out, lse = B.apply_with_logsumexp(v)
    torch.testing.assert_close((out, lse), (B @ v, B.logsumexp()))
    found = torch.autograd.grad(out.sum() + lse.square().sum(), (q, k, v), retain_graph=True)
    right = torch.autograd.grad((B @ v).sum() + B.logsumexp().square().sum(), (q, k, v))
    torch.testing.assert_close(found, right)
    assert B.apply_with_logsumexp(torch.randn(4, 1, 5, 2).double())[1].shape == (4, 2, 5)


def test_attention_to_two_sets_of_keys_is_merged_from_both():
    q, k, v = (torch.randn(6, 3).double() for _ in range(3))
    (first, low), (second, high) = (Attention(q, k[s]).apply_with_logsumexp(v[s]) for s in (slice(0, 2), slice(2, 6)))
    share = (low - high).sigmoid()[:, None]
    torch.testing.assert_close(share * first + (1 - share) * second, Attention(q, k) @ v)
    with pytest.raises(InputError, match="no log-normalizer"):
        Attention(q, k, normalization=Sparsemax()).apply_with_logsumexp(v)
