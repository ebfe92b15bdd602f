"""Local linear attention is a weighted least squares fit for each query."""

import itertools
import math

import pytest
import torch

from limelight import (
    Attention,
    Bilinear,
    Dot,
    Euclidean,
    Graph,
    InputError,
    LocalLinear,
    Sigmoid,
    Softmax,
    StudentT,
    TopK,
    causal,
    padding,
    window,
)
from limelight.propagation import generator, heat

torch.manual_seed(0)
N, M, D = 7, 12, 2
Q, K, V = (torch.randn(2, 3, n, d, dtype=torch.float64) for n, d in ((N, D), (M, D), (M, 4)))


def written_out(P, q, k, v, ridge=0.0):
    """Each query by itself: least squares with the square roots of the weights, and the ridge as more equations."""
    P, q, k, v = (x.expand(*P.shape[:-2], *x.shape[-2:]) for x in (P, q, k, v))
    out = torch.zeros(*P.shape[:-1], v.shape[-1], dtype=P.dtype)
    for *at, i in itertools.product(*map(range, P.shape[:-1])):
        batch = tuple(at)
        weight = P[batch][i]
        if weight.sum() == 0:
            continue
        root = (weight / weight.sum()).sqrt()[:, None]
        away = k[batch] - q[batch][i]
        A = torch.cat([root, root * away], -1)
        penalty = ridge**0.5 * torch.eye(away.shape[-1] + 1, dtype=P.dtype)[1:]
        b = torch.cat([root * v[batch], torch.zeros(len(penalty), v.shape[-1], dtype=P.dtype)])
        out[batch][i] = torch.linalg.lstsq(torch.cat([A, penalty]), b, driver="gelsd").solution[0]
    return out


ATTENTIONS = {
    "euclidean": lambda: Attention(Q, K, Euclidean(1.5)),
    "window": lambda: Attention(Q, K, Euclidean(1.5), mask=window(2, 4)),
    "padding": lambda: Attention(Q, K, Euclidean(1.5), mask=padding(keys=torch.arange(M) % 3 > 0)),
    "boolean": lambda: Attention(Q, K, Euclidean(1.5), mask=torch.arange(M).expand(N, M) > torch.arange(N)[:, None]),
    "alpha": lambda: Attention(Q, K, Euclidean(1.5), Softmax(1.0)),
    "student": lambda: Attention(Q, K, StudentT(2.0)),
    "topk": lambda: Attention(Q, K, Euclidean(1.5), TopK(5)),
    "rows that do not sum to one": lambda: Attention(Q, K, Dot(), Sigmoid()),
    "heads": lambda: Attention(Q, K, Euclidean(torch.tensor([1.0, 2.0, 3.0]).double())),
    "no batch": lambda: Attention(Q[0, 0], K[0, 0], Euclidean(1.5)),
    "one query set": lambda: Attention(Q[:, :1], K, Euclidean(1.5)),
}


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_it_is_least_squares(name, ridge):
    A = ATTENTIONS[name]()
    L = LocalLinear(A, ridge)
    v = V if len(A.shape) > 2 else V[0, 0]
    right = written_out(A.dense(), A.q, A.k, v, ridge)
    torch.testing.assert_close((L @ v).expand(right.shape), right)
    dense, w = L.dense(), torch.randn(*A.shape[:-1], 3).double()
    torch.testing.assert_close(dense @ V, L @ V)
    torch.testing.assert_close(L.T @ w, dense.mT @ w)
    torch.testing.assert_close(L.column_mass(), dense.sum(-2))
    torch.testing.assert_close(dense.sum(-1), torch.ones(A.shape[:-1]).double())


def test_lines_are_kept_and_a_mean_bends_them():
    for d in (1, 2, 5):
        q, k = (torch.randn(n, d).double() + 10 for n in (9, 40))
        slope = torch.randn(d, 3).double()
        A = Attention(q, k, Euclidean(1.5))
        torch.testing.assert_close(LocalLinear(A) @ (k @ slope + 1), q @ slope + 1)
        assert (A @ (k @ slope + 1) - q @ slope - 1).abs().max() > 0.1


def test_a_large_ridge_is_the_mean():
    A = Attention(Q, K, Euclidean(1.5), mask=window(3, 3))
    torch.testing.assert_close(LocalLinear(A, 1e9) @ V, A @ V)
    under = Attention(Q, K, Euclidean(1.5), mask=causal)  # the first query sees one key
    torch.testing.assert_close((LocalLinear(under, 0.1) @ V)[..., 0, :], V[..., 0, :])


def test_a_query_that_sees_nothing_gets_zero():
    seen = torch.rand(N, M, generator=torch.Generator().manual_seed(1)) > 0.3
    seen[2] = False
    q = Q.clone().requires_grad_()
    L = LocalLinear(Attention(q, K, Euclidean(1.5), mask=seen))
    out = L @ V
    assert (out[..., 2, :] == 0).all()
    assert (L.dense()[..., 2, :] == 0).all()
    gradient = torch.autograd.grad(out.square().sum(), q)[0]
    assert gradient.isfinite().all()
    assert (gradient[..., 2, :] == 0).all()


def test_gradients_of_everything():
    h = torch.tensor(1.5, dtype=torch.float64)

    def everything(q, k, v, h):
        L = LocalLinear(Attention(q, k, Euclidean(h), mask=window(3, 4)), 0.05)
        return L @ v, L.T @ q, L.column_mass()

    inputs = [x.clone().requires_grad_() for x in (Q[0], K[0], V[0], h)]
    assert torch.autograd.gradcheck(everything, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *x: everything(*x)[0], inputs, fast_mode=True)


def test_a_graph_runs_along_its_edges():
    x, n = torch.randn(30, 2).double(), 30
    i = torch.arange(n).repeat_interleave(6)
    edges = torch.stack([i, (i + torch.arange(6).repeat(n)) % n])
    A = Attention(x, x, Euclidean(1.5), mask=Graph(edges, n))
    assert A.kernel == "sparse"
    torch.testing.assert_close(LocalLinear(A) @ x[:, :1].square(), written_out(A.dense(), x, x, x[:, :1].square()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_float32(dtype):
    q, k, v = (x.to(dtype) for x in (Q, K, V))
    norm = Softmax(temperature=0.7)
    low, high = (LocalLinear(Attention(*x, Euclidean(1.5), norm)) for x in ((q, k), (q.double(), k.double())))
    assert (low @ v).dtype == (low.T @ q).dtype == low.dense().dtype == dtype
    tolerance = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close((low @ v).double(), high @ v.double(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close((low.T @ q).double(), high.T @ q.double(), rtol=tolerance, atol=tolerance)
    with torch.autocast("cpu", dtype):
        L = LocalLinear(Attention(q.float(), k.float(), Euclidean(1.5), norm))
        torch.testing.assert_close((L @ v.float()).double(), high @ v.double(), rtol=tolerance, atol=tolerance)


def test_far_from_the_origin_no_digits_are_lost():
    near, far = (
        LocalLinear(Attention((Q + shift).float(), (K + shift).float(), Euclidean(1.5))) @ V.float()
        for shift in (0.0, 512.0)  # which float32 adds to these numbers with an error of 3e-5
    )
    torch.testing.assert_close(near, far, rtol=1e-3, atol=1e-3)


def test_nan_in_padding_reaches_no_output():
    real = torch.arange(M) < 9
    k, v = K.clone(), V.clone()
    k[..., 9:, :], v[..., 9:, :] = torch.nan, torch.nan
    out = LocalLinear(Attention(Q, k, Euclidean(1.5), mask=padding(keys=real))) @ v
    torch.testing.assert_close(out, LocalLinear(Attention(Q, K[..., :9, :], Euclidean(1.5))) @ V[..., :9, :])


def test_it_does_not_drift_up_the_density():
    """On a line with the density p the mean's generator tends to f″ + 2 f′p′/p, and a fitted line's to f″."""
    x = torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None]
    places = x + 0.15 * (2 * math.pi * x).sin() / (2 * math.pi)  # quantiles of a density that is 1/(1 + 0.15 cos 2πx)
    f = (3 * places).sin()
    at = 1500
    y, slope = places[at], 1 + 0.15 * (2 * math.pi * x[at]).cos()
    second = float(-9 * (3 * y).sin())
    drift = float(2 * 3 * (3 * y).cos() * 0.15 * 2 * math.pi * (2 * math.pi * x[at]).sin() / slope**2)
    h = 0.01
    A = Attention(places[at - 500 : at + 501], places, Euclidean(h))
    mean, line = ((P @ f - f[at - 500 : at + 501])[500].item() / (h**2 / 2) for P in (A, LocalLinear(A)))
    assert abs(drift) > 0.3
    assert abs(mean - second - drift) < 0.01 * abs(second)
    assert abs(line - second) < 0.01 * abs(second)


def test_processes_that_need_rows_of_weights_raise():
    L = LocalLinear(Attention(K, K, Euclidean(1.5)))
    torch.testing.assert_close(generator(L, K, 0.5), torch.zeros_like(K), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="weights of LocalLinear may be negative"):
        heat(L, K, 1.0)
    with pytest.raises(InputError, match=r"entropy\(\) takes a row for a distribution"):
        L.entropy()


SAME = torch.zeros(1, 5, 2).double()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LocalLinear(Attention(Q, K), ridge=-1.0), "finite number ≥ 0, got -1.0"),
        (lambda: LocalLinear(Attention(Q, K), ridge=True), "finite number ≥ 0, got True"),
        (lambda: LocalLinear(Q), "attention expects an Attention"),
        (lambda: LocalLinear(Attention(*torch.randn(2, 5, 17))), "1 to 16 coordinates, got 17 and 17"),
        (lambda: LocalLinear(Attention(torch.randn(5, 3), torch.randn(5, 2), Bilinear(3, 2))), "got 3 and 2"),
        (lambda: LocalLinear(Attention(SAME, SAME)) @ SAME, "5 of 5 queries .* lie in a subspace"),
        (lambda: LocalLinear(Attention(Q, K, mask=causal)) @ V, "12 of 42 queries give weight do not determine a line"),
        (lambda: LocalLinear(Attention(*(torch.linspace(0, 1, 2001)[:, None],) * 2, Euclidean(1e-3))).dense(),
         "too near each other beside all keys; use a larger bandwidth, float64"),
    ],
)  # fmt: skip
def test_other_values_raise_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_float64_takes_a_bandwidth_that_float32_does_not():
    x = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    L = LocalLinear(Attention(x, x, Euclidean(1e-3)))
    torch.testing.assert_close(L @ (3 * x), 3 * x)


def test_no_queries_no_keys_and_no_columns():
    for q, k, v in ((Q[..., :0, :], K, V), (Q, K[..., :0, :], V[..., :0, :]), (Q, K, V[..., :0])):
        out = LocalLinear(Attention(q, k, Euclidean(1.5))) @ v
        assert out.shape == (2, 3, q.shape[-2], v.shape[-1])
        assert (out == 0).all() or v.shape[-2]
