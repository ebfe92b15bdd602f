"""As models use it: grouped heads, caches, float masks, dropout, autocast, compilation, checkpointing."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from limelight import (
    ALiBi,
    Attention,
    Bias,
    Boolean,
    Dot,
    Entmax,
    Euclidean,
    Graph,
    Hybrid,
    Metric,
    Softmax,
    Sparsemax,
    StudentT,
    TopK,
    attend,
    causal,
    documents,
    padding,
    window,
)

KEYS = torch.tensor([[True] * 5 + [False] * 2, [True] * 7])
SEEN = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(2)) > 0.3
CASES = {
    "plain": {},
    "causal": {"is_causal": True},
    "padding": {"mask": causal & padding(keys=KEYS[:, None])},
    "boolean": {"attn_mask": SEEN},
    "documents": {"mask": documents(torch.tensor([[0] * 4 + [1] * 3, [0] * 2 + [2] * 5])[:, None])},
    "not, or": {"mask": ~(window(0, 1) | Boolean(SEEN))},
    "a mask for each head": {"attn_mask": torch.rand(2, 6, 7, 7) > 0.3},
    "euclidean": {"similarity": Euclidean(2.0), "normalization": Softmax(1.0)},
    "student": {"similarity": StudentT(2.0)},
    "a slope for each head": {"similarity": Dot() + ALiBi(heads=6)},
    "a share for each head": {"normalization": Hybrid(6).double()},
    "a scale for each head": {"scale": torch.rand(6, 1, 1).double() + 0.5},
    "entmax": {"normalization": Entmax()},
}


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("case", CASES)
def test_grouped_heads_are_repeated_ones(case, groups):
    q, k, v = (torch.randn(2, heads, 7, 4).double().requires_grad_() for heads in (6, groups, groups))
    out = attend(q, k, v, enable_gqa=True, **CASES[case])
    right = attend(q, *(x.repeat_interleave(6 // groups, 1) for x in (k, v)), **CASES[case], kernel="reference")
    torch.testing.assert_close(out, right)
    direction = torch.randn_like(out)
    for mine, other in zip(
        torch.autograd.grad((out * direction).sum(), (q, k, v)),
        torch.autograd.grad((right * direction).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


def test_keys_of_groups_are_not_repeated(monkeypatch):
    made = []
    watched = lambda q, k, *a, **o: made.append(k) or Attention(q, k, *a, **o)  # noqa: E731
    monkeypatch.setattr("limelight.heads_operator.Attention", watched)
    q, k = torch.randn(2, 8, 5, 4), torch.randn(2, 2, 5, 4)
    attend(q, k, k, enable_gqa=True, is_causal=True)
    assert made[0].data_ptr() == k.data_ptr()


@pytest.mark.parametrize("similarity", [Dot(), Euclidean(2.0), StudentT(), Dot() + ALiBi(heads=2)], ids=repr)
def test_a_cache_gives_what_one_pass_gives(similarity):
    q, k, v = (torch.randn(1, 2, 9, 4).double() for _ in range(3))
    whole = attend(q, k, v, is_causal=True, similarity=similarity)
    for start, stop in ((0, 4), (4, 5), (5, 9)):
        for term in getattr(similarity, "terms", []):
            if isinstance(term, ALiBi):
                term.offset = start
        piece = attend(
            q[..., start:stop, :], k[..., :stop, :], v[..., :stop, :], mask=causal.at(start), similarity=similarity
        )
        torch.testing.assert_close(piece, whole[..., start:stop, :])


@pytest.mark.parametrize("shape", [(5, 7), (2, 1, 5, 7), (2, 3, 1, 7)])
def test_a_float_mask_is_added_and_has_a_gradient(shape):
    q, k, v = (torch.randn(2, 3, n, 4).double().requires_grad_() for n in (5, 7, 7))
    mask = torch.randn(shape).double().masked_fill(torch.rand(shape) < 0.2, -math.inf)
    mask[..., 0] = 0.5
    mask = mask.requires_grad_()
    out, right = attend(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, mask)
    torch.testing.assert_close(out, right)
    gradients = [torch.autograd.grad(x.square().sum(), (q, k, v, mask)) for x in (out, right)]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine.nan_to_num(), other.nan_to_num())
    least = mask.detach().masked_fill(mask == -math.inf, torch.finfo(torch.float64).min)
    torch.testing.assert_close(
        attend(q, k, v, least, scale=0.3), F.scaled_dot_product_attention(q, k, v, mask, scale=0.3)
    )


WITH_DROPOUT = {
    "torch's own": {},
    "causal": {"mask": causal},
    "padding": {"mask": padding(keys=torch.arange(60) % 3 > 0)},
    "window": {"mask": window(7, 9)},
    "bias": {"similarity": Dot() + Bias(torch.randn(60, 60).double())},
    "some rows at a time": {"normalization": Softmax(1.0)},
    "not a softmax": {"normalization": Sparsemax()},
    "edges": {"mask": Graph(torch.randint(0, 60, (2, 700), generator=torch.Generator().manual_seed(1)), 60)},
}


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_drops_whole_weights_and_keeps_the_mean(name):
    q, k = torch.randn(3, 60, 8).double(), torch.randn(3, 60, 8).double()
    A = Attention(q, k, **WITH_DROPOUT[name])
    P, identity = A.dense(), torch.eye(60).double().expand(3, 60, 60)
    seen = A.apply_with_dropout(identity, 0.25)
    kept = seen != 0
    torch.testing.assert_close(seen[kept], P[kept] / 0.75)
    assert abs(kept[P != 0].double().mean() - 0.75) < 0.05
    assert ((A.apply_with_dropout(identity, 0.25) != 0) != kept).any()


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_the_gradients_of_dropout_use_the_same_weights(name):
    q, k, v = (torch.randn(60, 8).double().requires_grad_() for _ in range(3))

    def out(q, k, v):
        torch.manual_seed(5)
        return Attention(q, k, **WITH_DROPOUT[name]).apply_with_dropout(v, 0.4)

    assert torch.autograd.gradcheck(out, (q, k, v), fast_mode=True)


def test_dropout_stores_a_small_matrix_but_not_a_large_one(monkeypatch):
    q, k, v = (torch.randn(40, 8).double() for _ in range(3))
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)
    with pytest.raises(TypeError):
        attend(q, k, v, dropout_p=0.5)
    monkeypatch.setattr("limelight.kernels.stored._ENTRIES", 1599)
    attend(q, k, v, dropout_p=0.5)


def test_the_gradient_of_dropout_drops_the_same_weights(monkeypatch):
    monkeypatch.setattr("limelight.kernels.online_softmax.ENTRIES", 100)
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", 100)
    q, k, v = (torch.randn(12, 4).double().requires_grad_() for _ in range(3))
    out = attend(q, k, v, dropout_p=0.5)
    (dv,) = torch.autograd.grad(out.sum(), v)
    torch.testing.assert_close((dv * v).sum(), out.sum())  # out is linear in v


@pytest.mark.parametrize(
    "options",
    [
        {}, {"is_causal": True}, {"similarity": Euclidean(2.0)}, {"similarity": Metric(torch.nn.Linear(8, 4))},
        {"similarity": StudentT()}, {"normalization": Softmax(1.0)}, {"normalization": TopK(5)}, {"dropout_p": 0.0},
    ],
    ids=repr,
)  # fmt: skip
def test_autocast(options):
    q, k, v = (torch.randn(2, 9, 8, requires_grad=True) for _ in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(q, k, v, **options)
        out.float().sum().backward()
        A = Attention(q, k, options.get("similarity", Dot()))
        assert A.entropy().dtype == A.mean_position().dtype == torch.float32
        assert (A.T @ q).dtype == torch.bfloat16
    assert out.dtype == torch.bfloat16
    assert q.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), attend(q, k, v, **options), rtol=0.05, atol=0.05)


COMPILED = """
import torch
from limelight import *

for options in (
    {}, {"is_causal": True, "similarity": Euclidean(2.0)}, {"normalization": Softmax(1.0)},
    {"normalization": Sinkhorn(2)}, {"similarity": StudentT()}, {"normalization": Entmax()}, {"mask": window(3, 0)},
):
    torch._dynamo.reset()
    q, k, v = (torch.randn(2, 3, 17, 8, requires_grad=True) for _ in range(3))
    compiled = torch.compile(lambda *x: attend(*x, **options), fullgraph=True, backend="aot_eager")
    gradients = []
    for function in (compiled, lambda *x: attend(*x, **options)):
        out = function(q, k, v)
        gradients.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v))])
    for mine, right in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5)
    print(options)
"""


@pytest.mark.slow
def test_it_compiles_as_one_graph():
    """In a process of its own: the checks of shapes that the tests switch on cannot be traced."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 7


@pytest.mark.parametrize("options", [{}, {"similarity": StudentT()}, {"normalization": Entmax()}], ids=repr)
def test_within_a_checkpoint(options):
    gradients = []
    q, k, v = (torch.randn(2, 9, 8).double().requires_grad_() for _ in range(3))
    for run in (lambda f, *x: f(*x), lambda f, *x: checkpoint(f, *x, use_reentrant=False)):
        out = run(lambda *x: attend(*x, **options), q, k, v)
        gradients.append(torch.autograd.grad(out.square().sum(), (q, k, v)))
    for mine, right in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, right)
