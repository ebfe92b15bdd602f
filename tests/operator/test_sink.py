"""A softmax with an attention sink is a softmax with one more key, whose value is zero."""

import pytest
import torch
from torch import nn

from limelight import (
    Attention,
    Dot,
    Euclidean,
    Graph,
    InputError,
    KeyCache,
    Softmax,
    SoftmaxWithSink,
    StudentT,
    attend,
    causal,
    padding,
    window,
)

torch.manual_seed(0)
Q, K, V = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, 6, 6))
SINKS = torch.tensor([-1.0, 0.5, 30.0], dtype=torch.float64)
SEEN = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(1)) > 0.4
SEEN[0, 0, 2] = False  # a query that sees nothing
FORMS = {
    "a number": 0.4,
    "heads": SINKS,
    "one of a batch": SINKS[:, None, None],
    "queries": torch.randn(2, 3, 5, 1, generator=torch.Generator().manual_seed(2)).double(),
}


def written_out(scores, sink, seen=None):
    """softmax(s, a) without its last column."""
    scores = scores if seen is None else scores.masked_fill(~seen, -torch.inf)
    sink = torch.as_tensor(sink, dtype=torch.float64)
    sink = sink[:, None, None] if sink.ndim == 1 else sink
    return torch.cat([scores, sink.expand(*scores.shape[:-1], 1)], -1).softmax(-1)[..., :-1]


@pytest.mark.parametrize("kernel", ["auto", "chunked", "reference"])
@pytest.mark.parametrize("sink", FORMS)
def test_it_is_a_softmax_with_one_more_key(sink, kernel):
    A = Attention(Q, K, Dot(), SoftmaxWithSink(FORMS[sink]), SEEN, kernel=kernel)
    P = written_out(Q @ K.mT / 2, FORMS[sink], SEEN)
    assert A.kernel == ("fused" if kernel == "auto" else kernel)
    torch.testing.assert_close(A @ V, P @ V)
    torch.testing.assert_close(A.T @ Q, P.mT @ Q)
    torch.testing.assert_close(A.dense(), P)
    torch.testing.assert_close(A.column_mass(), P.sum(-2))
    torch.testing.assert_close(A.topk(2).weights, P.topk(2).values)
    torch.testing.assert_close((A @ torch.ones(6, 1).double())[..., 0], P.sum(-1))


def test_the_measures_that_divide_a_row_by_its_sum_are_those_of_softmax():
    A, plain = (Attention(Q, K, Dot(), n, SEEN) for n in (SoftmaxWithSink(SINKS), Softmax()))
    # The last sink leaves the keys a share that is below the least number of float64.
    all_but_nothing = Attention(Q, K, Dot(), SoftmaxWithSink(torch.tensor([-1.0, 0.5, 2000.0]).double()), SEEN)
    for measure in ("entropy", "mean_position", "mean_distance", "free_energy"):
        for with_sink in (A, all_but_nothing):
            torch.testing.assert_close(getattr(with_sink, measure)(), getattr(plain, measure)())


def test_the_log_normalizer_includes_the_sink_and_merges_sets_of_keys():
    A = Attention(Q, K, Dot(), SoftmaxWithSink(SINKS), SEEN)
    log_p = torch.where(SEEN, Q @ K.mT / 2, -torch.inf) - A.logsumexp()[..., None]
    torch.testing.assert_close(log_p.exp(), A.dense())
    torch.testing.assert_close(A.logsumexp()[0, :, 2], SINKS)
    first, L1 = Attention(Q, K[..., :4, :], Dot(), SoftmaxWithSink(SINKS)).apply_with_logsumexp(V[..., :4, :])
    second, L2 = Attention(Q, K[..., 4:, :]).apply_with_logsumexp(V[..., 4:, :])
    L = torch.logaddexp(L1, L2)
    merged = (L1 - L).exp()[..., None] * first + (L2 - L).exp()[..., None] * second
    torch.testing.assert_close(merged, Attention(Q, K, Dot(), SoftmaxWithSink(SINKS)) @ V)


def test_softmax_off_by_one():
    exps = (Q @ K.mT / 2).exp()
    torch.testing.assert_close(
        Attention(Q, K, normalization=SoftmaxWithSink()).dense(), exps / (1 + exps.sum(-1, True))
    )


@pytest.mark.parametrize("mask", [causal, window(2, 0), padding(keys=torch.arange(6) < 4)], ids=repr)
@pytest.mark.parametrize("similarity", [Euclidean(1.5), StudentT(2.0)], ids=repr)
def test_other_similarities_and_masks(similarity, mask):
    seen = mask.block(slice(0, 5), slice(0, 6), Q.device)
    scores = similarity.default_scale(4) * similarity.dense(Q, K)
    A = Attention(Q, K, similarity, SoftmaxWithSink(SINKS), mask)
    torch.testing.assert_close(A @ V, written_out(scores, SINKS, seen) @ V)


def test_gradients_of_everything_and_of_the_sink():
    def everything(q, k, v, sink):
        A = Attention(q, k, Dot(), SoftmaxWithSink(sink), SEEN)
        return A @ v, A.T @ q, A.logsumexp(), A.column_mass(), A.entropy(), A.topk(2).weights

    inputs = [x.clone().requires_grad_() for x in (Q, K, V, FORMS["queries"])]
    assert torch.autograd.gradcheck(everything, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(everything, inputs, fast_mode=True)


def test_a_learned_sink_of_each_head():
    learned = SoftmaxWithSink.learned(3, sink=0.5).double()
    assert [name for name, _ in learned.named_parameters()] == ["sink"]
    (Attention(Q, K, Dot(), learned) @ V).square().sum().backward()
    exact = torch.full((3,), 0.5).double().requires_grad_()
    (written_out(Q @ K.mT / 2, exact) @ V).square().sum().backward()
    torch.testing.assert_close(learned.sink.grad, exact.grad)
    assert Attention(Q[0, 0], K[0, 0], Dot(), SoftmaxWithSink.learned(1)).shape == (5, 6)


def test_grouped_heads_and_dropout():
    q = torch.randn(2, 6, 5, 4).double()
    sinks = torch.linspace(-1, 1, 6).double()
    out = attend(q, K, V, enable_gqa=True, normalization=SoftmaxWithSink(sinks))
    P = written_out(q @ K.repeat_interleave(2, 1).mT / 2, sinks)
    torch.testing.assert_close(out, P @ V.repeat_interleave(2, 1))
    torch.manual_seed(3)
    identity = torch.eye(6).double()
    dropped = Attention(Q, K, Dot(), SoftmaxWithSink(SINKS)).apply_with_dropout(identity, 0.5)
    P = written_out(Q @ K.mT / 2, SINKS)
    assert ((dropped == 0) | torch.isclose(dropped, 2 * P)).all()
    assert 0.3 < (dropped == 0).double().mean() < 0.7


def test_a_graph_is_its_dense_matrix():
    edges = torch.tensor([[0, 0, 1, 3, 4, 4], [0, 2, 1, 0, 4, 3]])  # node 2 has no edge
    x = Q[0, 0].requires_grad_()
    A = Attention(x, x, Euclidean(1.5), SoftmaxWithSink(0.3), Graph(edges, 5))
    assert A.kernel == "sparse"
    P = A.dense()
    torch.testing.assert_close(A @ x, P @ x)
    torch.testing.assert_close(A.T @ x, P.mT @ x)
    torch.testing.assert_close(A.column_mass(), P.sum(-2))
    torch.testing.assert_close(A.topk(2).weights, P.topk(2).values)
    plain = Attention(x, x, Euclidean(1.5), mask=Graph(edges, 5))
    torch.testing.assert_close(A.mean_distance(), plain.mean_distance())
    torch.testing.assert_close(A.mean_position(), plain.mean_position())
    assert torch.autograd.grad(A.column_mass().square().sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5)], ids=repr)
def test_half_precision(similarity, dtype):
    q, k, v = (x.to(dtype) for x in (Q, K, V))
    low, high = (
        Attention(*x[:2], similarity, SoftmaxWithSink(s), causal)
        for x, s in (((q, k), SINKS.to(dtype)), ((q.double(), k.double()), SINKS))
    )
    assert (low @ v).dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close((low @ v).double(), high @ v.double(), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(low.column_mass().double(), high.column_mass(), atol=tolerance, rtol=tolerance)


def test_functional_transforms_and_a_cache_of_keys():
    def out(q, sink):
        return (Attention(q, K, Dot(), SoftmaxWithSink(sink)) @ V).square().sum()

    mine = torch.func.grad(out, argnums=(0, 1))(Q, SINKS)
    q, sink = Q.clone().requires_grad_(), SINKS.clone().requires_grad_()
    torch.testing.assert_close(mine, torch.autograd.grad(out(q, sink), (q, sink)))
    cache = KeyCache(normalization=SoftmaxWithSink(SINKS))
    cache.append(K, V)
    right = written_out(Q[..., -1:, :] @ K.mT / 2, SINKS) @ V
    torch.testing.assert_close(cache.attend(Q[..., -1:, :]), right)


@pytest.mark.parametrize("temperature", [2.0, torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)], ids=str)
def test_a_temperature_divides_the_sink_too(temperature):
    A = Attention(Q, K, Dot(), SoftmaxWithSink(SINKS, temperature))
    tau = temperature if isinstance(temperature, float) else temperature[:, None, None]
    torch.testing.assert_close(A.dense(), written_out(Q @ K.mT / 2 / tau, SINKS / temperature))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SoftmaxWithSink(float("nan")), "must be finite"),
        (lambda: SoftmaxWithSink(torch.tensor([1.0, torch.inf])), "must be finite, got a tensor"),
        (lambda: SoftmaxWithSink(torch.ones(3, 2)), r"shape \(\), \(heads,\) or"),
        (lambda: SoftmaxWithSink(nn.Parameter(torch.ones(3)), temperature=0.0), "must be positive"),
        (
            lambda: Attention(Q, K, Dot(), SoftmaxWithSink(torch.ones(4, 1))) @ V,
            "sinks for 4 queries, got .* 5 queries",
        ),
        (lambda: Attention(Q, K, Dot(), SoftmaxWithSink(torch.ones(4))), "do not broadcast"),
    ],
)
def test_other_values_raise_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.parametrize("mask", [None, SEEN, causal, padding(keys=torch.arange(6) < 4, queries=torch.arange(5) < 4)])
@pytest.mark.parametrize("sink", FORMS)
def test_the_first_derivative_of_the_fused_kernel_is_that_of_the_equation(sink, mask):
    seen = mask if mask is None or isinstance(mask, torch.Tensor) else mask.block(slice(0, 5), slice(0, 6), Q.device)
    inputs = [x.clone().requires_grad_() for x in (Q, K, V, torch.as_tensor(FORMS[sink], dtype=torch.float64))]
    q, k, v, a = inputs
    outs = (
        Attention(q, k, Euclidean(1.5), SoftmaxWithSink(a), mask) @ v,
        written_out(Euclidean().dense(q, k) / 1.5**2, a, seen) @ v,
    )
    # The gradient of an output that is zero, because its query sees nothing, is not zero.
    found = [torch.autograd.grad((out * V[..., :5, :]).sum(), inputs) for out in outs]
    torch.testing.assert_close(*found)


def test_one_tensor_in_several_places_and_a_batch_of_gradients():
    x = Q.clone().requires_grad_()
    for order in (1, 2):
        mine, right = Attention(x, x, Dot(), SoftmaxWithSink(SINKS)) @ x, written_out(x @ x.mT / 2, SINKS) @ x
        for _ in range(order):
            mine, right = (torch.autograd.grad(y.square().sum(), x, create_graph=True)[0] for y in (mine, right))
        torch.testing.assert_close(mine, right)
    out = Attention(x, x, Dot(), SoftmaxWithSink(SINKS)) @ x
    many = torch.randn(4, *out.shape).double()
    one_by_one = torch.stack([torch.autograd.grad(out, x, g, retain_graph=True)[0] for g in many])
    torch.testing.assert_close(torch.autograd.grad(out, x, many, is_grads_batched=True)[0], one_by_one)
