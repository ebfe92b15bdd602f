"""Forgetting attention: the weight of a key fades by the gates of all tokens after it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limelight import (
    ALiBi,
    Attention,
    Dot,
    DtypeError,
    Euclidean,
    Forgetting,
    Graph,
    InputError,
    Scaled,
    Softmax,
    attend,
    causal,
    documents,
    padding,
    window,
)
from limelight.testing import check_similarity
from tests.operator.mechanisms import WIDTH

torch.manual_seed(0)
N = 7
Q, K, V = (torch.randn(2, 3, N, 4, dtype=torch.float64) for _ in range(3))
GATES = F.logsigmoid(torch.randn(2, 3, N, dtype=torch.float64))
MASKS = {
    "causal": causal,
    "window": window(3, 0),
    "causal & keys": causal & padding(keys=torch.arange(N) != 1),
    "causal & documents": causal & documents(torch.tensor([0, 0, 0, 1, 1, 1, 1])),
}


def written_out(log_gates, n=None, offset=0):
    """Σ log f_l over the tokens after the earlier of the two positions, up to the later one, by loops."""
    m = log_gates.shape[-1]
    rows = [
        [log_gates[..., min(i, j) + 1 : max(i, j) + 1].sum(-1) for j in range(m)]
        for i in range(offset, offset + (n or m))
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def seen(mask):
    return mask.block(slice(0, N), slice(0, N), Q.device)


@pytest.mark.parametrize("kernel", ["auto", "chunked", "reference"])
@pytest.mark.parametrize("mask", MASKS)
def test_it_is_its_equation(mask, kernel):
    A = Attention(Q, K, Dot() + Forgetting(GATES), mask=MASKS[mask], kernel=kernel)
    assert A.kernel == ("fused" if kernel == "auto" else kernel)
    scores = (Q @ K.mT / 2 + written_out(GATES)).masked_fill(~seen(MASKS[mask]), -torch.inf)
    P = scores.softmax(-1)
    torch.testing.assert_close(A.dense(), P)
    torch.testing.assert_close(A @ V, P @ V)
    torch.testing.assert_close(A.T @ Q, P.mT @ Q)
    torch.testing.assert_close(A.column_mass(), P.sum(-2))
    torch.testing.assert_close(A.logsumexp(), scores.logsumexp(-1))
    torch.testing.assert_close(A.entropy(), -torch.special.xlogy(P, P).sum(-1))


@pytest.mark.parametrize("mask", [None, torch.ones(N, N, dtype=torch.bool).tril(), window(2, 2)], ids=["", "tril", "2"])
def test_a_mask_that_may_show_the_future(mask):
    A = Attention(Q, K, Dot() + Forgetting(GATES), mask=mask)
    assert A.kernel == "chunked"
    right = Q @ K.mT / 2 + written_out(GATES)
    if mask is not None:
        right = right.masked_fill(~(mask if isinstance(mask, torch.Tensor) else seen(mask)), -torch.inf)
    torch.testing.assert_close(A @ V, right.softmax(-1) @ V)


@pytest.mark.parametrize("mask", [causal, None], ids=repr)
def test_gradients_of_everything_and_of_the_gates(mask):
    def everything(q, k, v, gates):
        A = Attention(q, k, Dot() + Forgetting(F.logsigmoid(gates)), mask=mask)
        return A @ v, A.T @ q, A.column_mass(), A.entropy(), A.logsumexp()

    inputs = [x.clone().requires_grad_() for x in (Q, K, V, torch.randn_like(GATES))]
    assert torch.autograd.gradcheck(everything, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *x: everything(*x)[0], inputs, fast_mode=True)


@pytest.mark.parametrize("kernel", ["fused", "chunked", "reference"])
def test_a_gate_of_one_has_the_same_gradient_on_every_kernel(kernel):
    gates = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    out = Attention(Q, K, Dot() + Forgetting(gates), mask=causal, kernel=kernel) @ V
    by_hand = (Q @ K.mT / 2 + written_out(gates)).masked_fill(~seen(causal), -torch.inf).softmax(-1) @ V
    mine, right = (torch.autograd.grad(x.square().sum(), gates)[0] for x in (out, by_hand))
    torch.testing.assert_close(mine, right)


def test_it_is_alibi_where_all_gates_are_equal_and_nothing_where_they_are_one():
    slopes = torch.tensor([0.5, 0.1, 2.0], dtype=torch.float64)
    for mask in (causal, None):
        equal = Attention(Q, K, Dot() + Forgetting(-slopes[:, None].expand(3, N)), mask=mask)
        torch.testing.assert_close(equal @ V, Attention(Q, K, Dot() + ALiBi(slopes=slopes), mask=mask) @ V)
        open_ = Attention(Q, K, Dot() + Forgetting(torch.zeros(N).double()), mask=mask)
        torch.testing.assert_close(open_ @ V, Attention(Q, K, mask=mask) @ V)


def test_the_last_queries_of_a_sequence():
    whole = Attention(Q, K, Dot() + Forgetting(GATES), mask=causal) @ V
    for n in (1, 3):
        mask, similarity = causal.at(N - n), Dot() + Forgetting(GATES, offset=N - n)
        A = Attention(Q[..., -n:, :], K, similarity, mask=mask)
        torch.testing.assert_close(A @ V, whole[..., -n:, :])
        torch.testing.assert_close((Dot() + Forgetting(GATES)).at(N - n).terms[1].dense(Q[..., -n:, :], K),
                                   written_out(GATES, n, N - n))  # fmt: skip


def test_grouped_heads_other_similarities_and_scales():
    q, gates = torch.randn(2, 6, N, 4).double(), F.logsigmoid(torch.randn(2, 6, N).double())
    similarity = Euclidean(1.5) + Scaled(Forgetting(gates), 0.3)
    k, v = (x.repeat_interleave(2, 1) for x in (K, V))
    scores = Euclidean().dense(q, k) / 1.5**2 + 0.3 * written_out(gates)
    right = scores.masked_fill(~seen(causal), -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(attend(q, K, V, is_causal=True, enable_gqa=True, similarity=similarity), right)
    for n in (1, 2):  # queries that are few
        similarity = Dot() + Forgetting(gates, offset=N - n)
        some = attend(q[..., -n:, :], K, V, mask=causal.at(N - n), enable_gqa=True, similarity=similarity)
        whole = attend(q, K, V, is_causal=True, enable_gqa=True, similarity=Dot() + Forgetting(gates))
        torch.testing.assert_close(some, whole[..., -n:, :])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype):
    q, k, v, gates = (x.to(dtype) for x in (Q, K, V, GATES))
    low = Attention(q, k, Dot() + Forgetting(gates), mask=causal) @ v
    high = Attention(q.double(), k.double(), Dot() + Forgetting(gates.double()), mask=causal) @ v.double()
    assert low.dtype == dtype
    torch.testing.assert_close(low.double(), high, atol=4 * torch.finfo(dtype).eps, rtol=4 * torch.finfo(dtype).eps)


def test_far_tokens_keep_their_digits_in_rectangles():
    n = 3000
    q, k, v, gates = (torch.randn(n, size).double() for size in (4, 4, 4, 1))
    gates = F.logsigmoid(gates[:, 0] - 4)  # a sum of some −12,000
    exact = Attention(q, k, Dot() + Forgetting(gates), mask=causal) @ v
    errors = {}
    for mask in (causal, torch.ones(n, n, dtype=torch.bool).tril()):
        A = Attention(q.float(), k.float(), Dot() + Forgetting(gates.float()), mask=mask)
        errors[A.kernel] = float((A @ v.float() - exact).abs().max())
    assert errors["chunked"] < 1e-5
    assert errors["fused"] < 5e-3  # 12,000 · 2⁻²⁴ in a score


def test_the_contract_of_a_similarity():
    check_similarity(Forgetting(F.logsigmoid(torch.randn(14))), WIDTH)
    check_similarity(Dot() + Forgetting(F.logsigmoid(torch.randn(3, 14))), WIDTH)


def test_gates_are_saved_moved_and_copied():
    held = nn.ModuleList([Forgetting(nn.Parameter(GATES.clone())), Softmax()])
    assert [name for name, _ in held.named_parameters()] == ["0.log_gates"]
    assert copy.deepcopy(held).float().state_dict()["0.log_gates"].dtype == torch.float32
    (Attention(Q, K, held[0], held[1], causal) @ V).sum().backward()
    assert (held[0].log_gates.grad[..., 1:].abs() > 0).any()


def test_a_functional_transform():
    def loss(gates):
        return (Attention(Q, K, Dot() + Forgetting(gates), mask=causal) @ V).square().sum()

    gates = GATES.clone().requires_grad_()
    torch.testing.assert_close(torch.func.grad(loss)(GATES), torch.autograd.grad(loss(gates), gates)[0])


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Forgetting(torch.tensor([-1.0, 0.1])), InputError, "at most 0"),
        (lambda: Forgetting(torch.tensor([-1.0, -torch.inf])), InputError, "finite numbers"),
        (lambda: Forgetting(torch.zeros(3).int()), DtypeError, "floating tensor"),
        (lambda: Forgetting([0.0]), DtypeError, "floating tensor"),
        (lambda: Attention(Q, K, Dot() + Forgetting(GATES[..., :5])) @ V, InputError, "has 5 gates.*got 7 keys"),
        (lambda: Attention(Q, K, Forgetting(GATES[..., :5]), mask=causal) @ V, InputError, "has 5 gates"),
        (lambda: Attention(Q, K, Forgetting(GATES, 1), mask=causal) @ V, InputError, "7 queries from position 1"),
        (lambda: Attention(Q, K, Dot() + Forgetting(GATES), mask=Graph(torch.zeros(2, 1).long(), N)) @ V, InputError,
         "have no positions"),
    ],
)  # fmt: skip
def test_other_values_raise_one_sentence(make, error, says):
    with pytest.raises(error, match=says):
        make()
