"""Scalable softmax: each row's scores are multiplied by s · log n, for the n keys that its query may see."""

import math

import pytest
import torch
from torch import nn

from limelight import (
    Attention,
    Bias,
    Dot,
    Euclidean,
    Graph,
    InputError,
    KeyCache,
    ScalableSoftmax,
    StudentT,
    attend,
    causal,
    documents,
    padding,
    window,
)
from limelight.mask.visible_keys import count_visible

torch.manual_seed(0)
N, M = 6, 7
Q, K, V = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (N, M, M))
TABLE = torch.randn(3, N, M, dtype=torch.float64)
REAL = torch.rand(2, 1, M, generator=torch.Generator().manual_seed(1)) > 0.3
HEADS = torch.tensor([0.5, 1.0, -0.7], dtype=torch.float64)
MASKS = {
    "none": None,
    "causal": causal,
    "cache": causal.at(1),
    "window": window(2, 1),
    "two bands": causal & window(2, 4),
    "keys": padding(keys=REAL),
    "causal & keys": causal & padding(keys=REAL, queries=torch.arange(N) < 5),
    "documents": documents(torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 1, 1])),
    "boolean": torch.rand(2, 1, N, M, generator=torch.Generator().manual_seed(2)) > 0.5,
    "not": ~(causal & padding(keys=REAL)),
}


def seen(mask):
    if mask is None or isinstance(mask, torch.Tensor):
        return torch.ones(N, M, dtype=torch.bool) if mask is None else mask
    return mask.block(slice(0, N), slice(0, M), Q.device)


def written_out(scores, s, allowed):
    """Each row by itself: n^(s z) divided by its sum, over the keys that are seen."""
    P = torch.zeros_like(scores)
    for at in torch.cartesian_prod(*(torch.arange(size) for size in scores.shape[:-1])).tolist():
        keys = allowed.expand(scores.shape)[tuple(at)]
        n = int(keys.sum())
        row = float(n) ** ((s if isinstance(s, float) else float(s[at[1]])) * scores[tuple(at)][keys])
        P[tuple(at)][keys] = row / row.sum()
    return P


@pytest.mark.parametrize("kernel", ["auto", "chunked", "reference"])
@pytest.mark.parametrize("s", [1.3, HEADS], ids=["number", "heads"])
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5), StudentT(2.0), Dot() + Bias(TABLE)], ids=repr)
@pytest.mark.parametrize("mask", MASKS)
def test_it_is_its_equation(mask, similarity, s, kernel):
    given = MASKS[mask]
    A = Attention(Q, K, similarity, ScalableSoftmax(s), given, kernel=kernel)
    P = written_out(similarity.default_scale(4) * similarity.dense(Q, K), s, seen(given))
    torch.testing.assert_close(A.dense(), P)
    torch.testing.assert_close(A @ V, P @ V)
    torch.testing.assert_close(A.T @ Q, P.mT @ Q)
    torch.testing.assert_close(A.column_mass(), P.sum(-2))
    torch.testing.assert_close(A.entropy(), -torch.special.xlogy(P, P).sum(-1))


@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5)], ids=repr)
@pytest.mark.parametrize("mask", MASKS)
def test_it_runs_fused(mask, similarity):
    assert Attention(Q, K, similarity, ScalableSoftmax(nn.Parameter(HEADS)), MASKS[mask]).kernel == "fused"


def test_without_a_mask_nothing_is_copied():
    A = Attention(Q, K, Dot(), ScalableSoftmax(2.0))
    assert A.weights().scores.q is A.q
    assert A.weights().scores.scale == pytest.approx(2 * math.log(M) / 2)


@pytest.mark.parametrize("mask", MASKS)
def test_the_count_of_visible_keys(mask):
    if isinstance(MASKS[mask], (type(None), torch.Tensor)):
        return
    count = count_visible(MASKS[mask], N, M, Q.device)
    right = seen(MASKS[mask]).sum(-1)
    real = right > 0  # a padded query sees none, whatever is counted
    assert torch.equal(count.expand(right.shape)[real], right[real])


def test_the_count_of_many_rows(monkeypatch):
    monkeypatch.setattr("limelight.mask.visible_keys._ENTRIES", 2 * M)
    assert torch.equal(count_visible(MASKS["not"], N, M, Q.device), seen(MASKS["not"]).sum(-1))


@pytest.mark.parametrize("mask", ["none", "causal", "causal & keys", "boolean"])
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5), StudentT(2.0), Dot() + Bias(TABLE)], ids=repr)
def test_gradients_of_everything_and_of_s(similarity, mask):
    def everything(q, k, v, s):
        A = Attention(q, k, similarity, ScalableSoftmax(s), MASKS[mask])
        return A @ v, A.T @ q, A.column_mass(), A.entropy()

    inputs = [x.clone().requires_grad_() for x in (Q, K, V, HEADS)]
    assert torch.autograd.gradcheck(everything, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *x: everything(*x)[0], inputs, fast_mode=True)


def test_a_graph_counts_its_edges():
    edges = torch.tensor([[0, 0, 1, 3, 4, 4, 4], [0, 2, 1, 0, 4, 3, 1]])  # node 2 has no edge
    x = Q[0, 0, :5]
    A = Attention(x, x, Euclidean(1.5), ScalableSoftmax(1.3), Graph(edges, 5))
    assert A.kernel == "sparse"
    torch.testing.assert_close(A @ x, A.dense() @ x)
    log_p = A.dense()[4, [4, 3, 1]].log()
    scores = math.log(3) * 1.3 / 1.5**2 * Euclidean().dense(x, x)[4, [4, 3, 1]]
    torch.testing.assert_close(log_p, scores.log_softmax(-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5)], ids=repr)
@pytest.mark.parametrize("mask", ["none", "causal", "keys"])
def test_half_precision(mask, similarity, dtype):
    q, k, v = (x.to(dtype) for x in (Q, K, V))
    low, high = (
        Attention(*x, similarity, ScalableSoftmax(1.3), MASKS[mask]) for x in ((q, k), (q.double(), k.double()))
    )
    assert (low @ v).dtype == dtype
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close((low @ v).double(), high @ v.double(), atol=tolerance, rtol=tolerance)


def test_grouped_heads_transforms_and_a_cache_of_keys():
    q, norm = torch.randn(2, 6, M, 4).double(), ScalableSoftmax(1.3)
    out = attend(q, K, V, is_causal=True, enable_gqa=True, normalization=norm)
    right = attend(q, K.repeat_interleave(2, 1), V.repeat_interleave(2, 1), is_causal=True, normalization=norm)
    torch.testing.assert_close(out, right)
    cache = KeyCache(normalization=norm)
    cache.append(K[..., :-1, :], V[..., :-1, :])
    cache.append(K[..., -1:, :], V[..., -1:, :])
    torch.testing.assert_close(cache.attend(q[..., -1:, :]), right[..., -1:, :])

    def loss(q, s):
        return (Attention(q, K, Euclidean(1.5), ScalableSoftmax(s), causal) @ V).square().sum()

    inputs = Q.clone().requires_grad_(), HEADS.clone().requires_grad_()
    mine = torch.func.grad(loss, argnums=(0, 1))(*(x.detach() for x in inputs))
    torch.testing.assert_close(mine, torch.autograd.grad(loss(*inputs), inputs))


def test_a_learned_number_for_each_head():
    learned = ScalableSoftmax.learned(3, s=0.5)
    assert [(name, p.shape) for name, p in learned.named_parameters()] == [("s", (3,))]
    torch.testing.assert_close(Attention(Q, K, normalization=learned.double()).dense(),
                               Attention(Q, K, normalization=ScalableSoftmax(0.5)).dense())  # fmt: skip


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ScalableSoftmax(float("inf")), "must be finite"),
        (lambda: ScalableSoftmax(torch.ones(3, 2)), r"shape \(\), \(heads,\) or"),
        (lambda: ScalableSoftmax(1.0, temperature=-1.0), "must be positive"),
        (lambda: Attention(Q, K, Dot(), ScalableSoftmax(torch.ones(4))), "do not broadcast"),
    ],
)
def test_other_values_raise_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()
