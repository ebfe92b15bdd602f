"""NaN and infinity in masked or padded tokens reach no output; if they have weight, they do."""

import math

import pytest
import torch

from limelight import (
    Attention,
    Dot,
    Entmax,
    Euclidean,
    Graph,
    InputError,
    Sigmoid,
    Sinkhorn,
    Softmax,
    StudentT,
    TopK,
    attend,
    causal,
    padding,
    window,
)
from limelight.nn import MultiheadAttention

N = 7
REAL = torch.arange(N) < 5
EDGES = torch.stack([torch.arange(N), (torch.arange(N) + 1).clamp(max=4)])
MASKS = {  # under each no query, or only padded ones, see the last two keys
    "padding": padding(keys=REAL),
    "boolean": REAL.expand(N, N),
    "both sides": padding(keys=REAL, queries=REAL),
    "with a window": padding(keys=REAL) & window(3, 3),
    "graph": Graph(EDGES, N),
}
MECHANISMS = {
    "dot": (Dot(), Softmax()),
    "euclidean": (Euclidean(), Softmax()),
    "doubly": (Euclidean(), Softmax(1.0)),
    "sinkhorn": (Dot(), Sinkhorn(2)),
    "student": (StudentT(), Softmax()),
    "entmax": (Dot(), Entmax()),
    "topk": (Dot(), TopK(3)),
    "sigmoid": (Dot(), Sigmoid(0.0)),
}


def operands(dtype=torch.float64):
    return [torch.randn(2, N, 4).to(dtype).requires_grad_() for _ in range(3)]


def spoil(x, rows, value=math.nan):
    return x.detach().index_fill(-2, rows, value).requires_grad_()


LAST = torch.tensor([5, 6])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_nan_value_without_weight_reaches_no_output(mechanism, mask, value):
    q, k, v = operands()
    A = Attention(q, k, *MECHANISMS[mechanism], mask=MASKS[mask])
    expected = A @ v
    gradients = torch.autograd.grad(expected.square().sum(), (q, k, v), retain_graph=True)
    spoilt = spoil(v, LAST, value)
    got = A @ spoilt
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got.square().sum(), (q, k, spoilt)), gradients)
    if mask == "both sides":
        torch.testing.assert_close(A.T @ spoil(v, LAST, value), A.T @ v)


@pytest.mark.parametrize("kernel", ["auto", "chunked", "reference"])
def test_a_nan_value_with_weight_reaches_only_its_queries(kernel):
    q, k, v = operands()
    spoilt = v.detach().clone()
    spoilt[0, 3, 0], spoilt[0, 4, 1], spoilt[0, 5, 1], spoilt[1, 6, 2] = math.nan, math.inf, -math.inf, -math.inf
    out = Attention(q, k, mask=causal, kernel=kernel) @ spoilt
    clean = Attention(q, k, mask=causal, kernel=kernel) @ spoilt.nan_to_num(0, 0, 0)
    expected = clean.detach().clone()
    expected[0, 3:, 0] = math.nan
    expected[0, 4, 1] = math.inf
    expected[0, 5:, 1] = math.nan  # ∞ − ∞
    expected[1, 6, 2] = -math.inf
    torch.testing.assert_close(out.detach(), expected, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_uninitialized_padding_in_any_dtype(dtype):
    q, k, v = operands(dtype)
    expected = attend(q, k, v, mask=padding(keys=REAL))
    got = attend(q, spoil(k, LAST), spoil(v, LAST), mask=padding(keys=REAL))
    assert got.isfinite().all()
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("mechanism", [name for name in MECHANISMS if name != "sigmoid"])
def test_padded_tokens_may_hold_anything(mechanism):
    """Queries, keys and values, in outputs, measures and gradients."""
    q, k, v = operands()
    mask, found = padding(keys=REAL, queries=REAL), []
    for tokens in ((q, k, v), tuple(spoil(x, LAST) for x in (q, k, v))):
        A = Attention(*tokens[:2], *MECHANISMS[mechanism], mask=mask)
        parts = (A @ tokens[2], A.entropy(), A.column_mass(), A.mean_position())
        found.append((*parts, *torch.autograd.grad(sum(x.square().sum() for x in parts), tokens)))
    torch.testing.assert_close(*found)


def test_a_token_that_is_not_padding_is_refused_with_a_hint():
    q, k, _ = operands()
    with pytest.raises(InputError, match=r"k has 8 NaN or infinite.*except in tokens that padding\(keys=…\) hides"):
        Attention(q, spoil(k, torch.tensor([0])), mask=padding(keys=REAL))
    with pytest.raises(InputError, match=r"padding\(queries=…\)"):
        Attention(spoil(q, LAST), k, mask=padding(keys=REAL))


@pytest.mark.parametrize("need_weights", [True, False])
def test_in_the_layer(need_weights):
    layer = MultiheadAttention(8, 2, batch_first=True).double()
    query, key, value = (torch.randn(2, N, 8).double() for _ in range(3))
    blocked = ~REAL.expand(2, N)
    expected, _ = layer(query, key, value, blocked, need_weights)
    got, _ = layer(query, spoil(key, LAST), spoil(value, LAST), blocked, need_weights)
    torch.testing.assert_close(got, expected)


def test_dropout_too():
    q, k, v = operands()
    A = Attention(q, k, mask=padding(keys=REAL))
    torch.manual_seed(3)
    expected = A.apply_with_dropout(v, 0.5)
    torch.manual_seed(3)
    torch.testing.assert_close(A.apply_with_dropout(spoil(v, LAST), 0.5), expected)
