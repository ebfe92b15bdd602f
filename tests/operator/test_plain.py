"""The short way for ordinary calls: what it computes, and which calls it leaves to the operator."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import limelight
from limelight import (
    ALiBi,
    Attention,
    Bilinear,
    Cosine,
    Dot,
    Euclidean,
    InputError,
    Laplacian,
    Metric,
    RelativeBias,
    Scaled,
    Softmax,
    StudentT,
    attend,
    causal,
)
from limelight.plain import plain_attention
from tests.dispatch import Counting


class OwnDot(Dot):
    pass


Q, K, V = torch.randn(3, 2, 3, 20, 8, generator=torch.Generator().manual_seed(0))
ONE = Q[..., :1, :]
FEW = {  # similarities that compute the scores of a few queries in one pass over the keys
    "dot": Dot(),
    "its subclass": OwnDot(),
    "cosine": Cosine(),
    "euclidean": Euclidean(2.0),
    "student": StudentT(),
    "laplacian": Laplacian(2.0),
    "bilinear": Bilinear(8),
    "with positions": Dot() + ALiBi(3, offset=19),
    "with two positions": Scaled(Euclidean(), 0.5) + ALiBi(3, offset=16) + RelativeBias(4, 3),
    "one head of positions": Dot() + ALiBi(1, offset=7),
}


def short(q=Q, k=K, v=V, similarity=None, normalization=None, is_causal=False, scale=None, grouped=False):
    return plain_attention(q, k, v, similarity or Dot(), normalization or Softmax(), is_causal, scale, grouped)


def with_nan(x):
    return x.index_fill(-2, torch.tensor([7]), torch.nan)


def with_infinity(x):
    return x.index_fill(-2, torch.tensor([7]), torch.inf)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3, -1.0, 0.0])
def test_it_equals_the_operator(dtype, is_causal, scale):
    q, k, v = (x.to(dtype) for x in (Q, K, V))
    expected = Attention(q, k, mask=causal if is_causal else None, scale=scale) @ v
    found = short(q, k, v, is_causal=is_causal, scale=scale)
    assert (found is None) == (scale is not None and scale <= 0)
    assert found is None or torch.equal(found, expected)
    assert torch.equal(attend(q, k, v, is_causal=is_causal, scale=scale), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 4, 5, 33])
@pytest.mark.parametrize("scale", [None, 2.0])
def test_it_equals_the_operator_for_any_number_of_queries(dtype, n, scale):
    q = torch.cat([Q, K], -2)[..., :n, :].to(dtype)
    k, v = K.to(dtype), V.to(dtype)
    found = short(q, k, v, scale=scale)
    torch.testing.assert_close(found, Attention(q, k, scale=scale) @ v, rtol=1e-6, atol=1e-6)
    assert short(q, k[:, :1], v[:, :1]) is None


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_without_a_batch_or_heads_it_is_the_same(dtype, is_causal, learns, missing):
    whole = [x.to(dtype, copy=True).requires_grad_(learns) for x in (Q, K, V)]
    q, k, v = (x[(0,) * missing] for x in whole)
    found = short(q, k, v, is_causal=is_causal)
    assert torch.equal(found, Attention(q, k, mask=causal if is_causal else None) @ v)
    assert torch.equal(found, attend(q, k, v, is_causal=is_causal))
    if learns:
        gradients = torch.autograd.grad(found.sin().sum(), whole)
        of_all = short(*whole, is_causal=is_causal)[(0,) * missing]
        torch.testing.assert_close(gradients, torch.autograd.grad(of_all.sin().sum(), whole))


@pytest.mark.parametrize("name", FEW)
def test_a_few_queries_without_a_batch_or_heads_take_it_too(name):
    similarity = copy.deepcopy(FEW[name]).double()
    q, k, v = (x[0].double() for x in (ONE, K, V))
    with torch.no_grad():
        found = short(q, k, v, similarity=similarity)
        torch.testing.assert_close(found, Attention(q, k, similarity, kernel="reference") @ v)
        alone, expected = short(q[0], k[0], v[0], similarity=similarity), Attention(q[0], k[0], similarity) @ v[0]
        assert (alone is None) == bool(similarity.batch_shape)
        torch.testing.assert_close(attend(q[0], k[0], v[0], similarity=similarity), expected)
        assert alone is None or alone.shape == expected.shape
    assert short(q, k[:1], v[:1], similarity=similarity) is None


def test_one_head_of_the_similarity_is_a_dimension_of_the_output():
    similarity = Euclidean(torch.tensor([2.0], dtype=torch.float64))
    q, k, v = (x[0, 0].double() for x in (ONE, K, V))
    assert short(q, k, v, similarity=similarity) is None
    assert attend(q, k, v, similarity=similarity).shape == (1, 1, 8)


def test_heads_without_a_batch_may_share_keys():
    q, k, v = torch.cat([Q[0], K[0]])[:, :2], K[0], V[0]
    expected = Attention(q, k.repeat_interleave(2, 0)) @ v.repeat_interleave(2, 0)
    torch.testing.assert_close(short(q, k, v, grouped=True), expected)
    assert short(q, k, v) is None
    with pytest.raises(InputError, match="enable_gqa expects"):
        attend(q[0], k[0], v[0], enable_gqa=True)


@pytest.mark.parametrize("name", FEW)
def test_a_few_queries_take_it_with_any_similarity(name):
    similarity = copy.deepcopy(FEW[name]).double()
    for x in similarity.parameters():
        nn.init.normal_(x)
    for n in (1, 2, 4):
        q, k, v = Q[..., :n, :].double(), K.double(), V.double()
        with torch.no_grad():
            found = short(q, k, v, similarity=similarity)
            torch.testing.assert_close(found, Attention(q, k, similarity, kernel="reference") @ v)
            scaled = short(q, k, v, similarity=similarity, scale=0.7)
            torch.testing.assert_close(scaled, Attention(q, k, similarity, scale=0.7, kernel="reference") @ v)


@pytest.mark.parametrize("name", ["dot", "euclidean", "student", "with one head of positions", "with positions"])
def test_a_few_queries_in_groups_share_the_keys_of_a_head(name):
    similarity = FEW.get(name, Dot() + ALiBi(1, offset=16))
    k, v = torch.randn(2, 2, 2, 20, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).unbind()
    for heads, n in ((6, 1), (4, 3), (2, 1)):
        q = torch.cat([Q, K], 1)[:, :heads, :n].double()
        found = short(q, k, v, similarity=similarity, grouped=True)
        if ("positions" in name and heads > 2) or name == "with positions":  # more rows would be at other positions
            assert found is None
            continue
        keys, values = (x.repeat_interleave(heads // 2, dim=1) for x in (k, v))
        torch.testing.assert_close(found, Attention(q, keys, similarity, kernel="reference") @ values)
        torch.testing.assert_close(attend(q, k, v, enable_gqa=True, similarity=similarity), found)
        assert heads == 2 or short(q, k, v, similarity=similarity) is None
        assert short(torch.cat([q] * 9, 2), k, v, grouped=True) is None or heads == 2


@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_gradients_of_every_order_are_those_of_the_definition(n, is_causal, scale):
    inputs = [x.double().requires_grad_() for x in (Q[..., :n, :] if not is_causal else Q, K, V)]
    outputs, firsts, seconds = [], [], []
    for run in (
        lambda q, k, v: short(q, k, v, is_causal=is_causal, scale=scale),
        lambda q, k, v: Attention(q, k, mask=causal if is_causal else None, scale=scale, kernel="reference") @ v,
    ):
        out = run(*inputs)
        gradients = torch.autograd.grad(out.sin().sum(), inputs, create_graph=True)
        outputs.append(out)
        firsts.append(gradients)
        seconds.append(torch.autograd.grad(sum(g.cos().sum() for g in gradients), inputs))
        once = torch.autograd.grad(run(*inputs).sin().sum(), inputs)  # an ordinary backward pass
        torch.testing.assert_close(once, gradients)
    for found, expected in (outputs, firsts, seconds):
        torch.testing.assert_close(found, expected)


def test_a_value_of_nan_reaches_the_output_as_through_the_operator():
    for q in (ONE, Q):
        found, expected = (run(q, K, with_nan(V)) for run in (short, lambda q, k, v: Attention(q, k) @ v))
        assert found.isnan().all()
        torch.testing.assert_close(found, expected, equal_nan=True)
    bad = V.clone()
    bad[0, 1, 7, 2] = torch.inf
    torch.testing.assert_close(short(ONE, K, bad), Attention(ONE, K, kernel="reference") @ bad)


def test_a_value_that_learns_gets_its_gradient_from_one_query():
    values = [V.double().requires_grad_() for _ in range(2)]
    short(ONE.double(), K.double(), values[0], similarity=Euclidean()).sin().sum().backward()
    (Attention(ONE.double(), K.double(), Euclidean(), kernel="reference") @ values[1]).sin().sum().backward()
    torch.testing.assert_close(values[0].grad, values[1].grad)


LEFT = {
    "another similarity": {"similarity": OwnDot()},
    "a distance": {"similarity": Euclidean(2.0)},
    "a similarity without a pass for one query": {"q": ONE, "similarity": Metric(nn.Identity())},
    "a bandwidth of each head": {"q": ONE, "similarity": Euclidean(torch.ones(3))},
    "positions of too many heads": {"q": ONE, "similarity": Dot() + ALiBi(4)},
    "a parameter that learns, for one query": {"q": ONE, "similarity": Euclidean(nn.Parameter(torch.tensor(1.0)))},
    "a class for a similarity": {"similarity": Dot},
    "True for a scale": {"scale": True},
    "an α": {"normalization": Softmax(0.5)},
    "a temperature": {"normalization": Softmax(temperature=2.0)},
    "a temperature of one as a tensor": {"normalization": Softmax(temperature=torch.tensor(1.0))},
    "a scale of each head": {"scale": torch.ones(3, 1, 1)},
    "an infinite scale": {"scale": float("inf")},
    "NaN in a query": {"q": with_nan(Q)},
    "NaN in a key": {"k": with_nan(K)},
    "NaN in a value, causal": {"v": with_nan(V), "is_causal": True},
    "other lengths, causal": {"k": K[..., :9, :], "v": V[..., :9, :], "is_causal": True},
    "NaN in one query": {"q": with_nan(Q)[..., 7:8, :]},
    "NaN in a key of one query": {"q": ONE, "k": with_nan(K)},
    "an infinite key that would get no weight": {"q": -ONE.abs(), "k": with_infinity(K)},
    "infinite scores of one query": {"q": 1e30 * ONE, "k": 1e30 * K, "similarity": OwnDot()},
    "one query of no key": {"q": ONE, "k": K[..., :0, :], "v": V[..., :0, :]},
    "a batch that broadcasts": {"k": K[:1], "v": V[:1]},
    "heads that cannot be shared out": {"q": torch.cat([Q, Q], 1)[:, :4, :1], "grouped": True},
    "groups in another batch": {"q": ONE[:1].repeat(1, 2, 1, 1), "grouped": True},
    "groups under a causal mask": {"k": K[:, :1], "v": V[:, :1], "grouped": True, "is_causal": True},
    "five dimensions": {"q": Q[None], "k": K[None], "v": V[None]},
    "another width of values": {"v": V[..., :5]},
    "nothing": {"q": Q[:0], "k": K[:0], "v": V[:0]},
    "integers": {"q": Q.int(), "k": K.int(), "v": V.int()},
    "two dtypes": {"v": V.double()},
    "rows with gaps": {"q": torch.cat([Q, Q], -1)[..., ::2]},
    "a gradient of a distance": {"q": ONE.clone().requires_grad_(), "similarity": Euclidean()},
    "meta tensors": {"q": Q.to("meta"), "k": K.to("meta"), "v": V.to("meta")},
}


@pytest.mark.parametrize("name", LEFT)
def test_what_needs_the_operator_is_left_to_it(name):
    assert short(**LEFT[name]) is None


LIBRARY = str(Path(limelight.__file__).parent)
CALLS = {  # with the largest numbers of calls of Limelight's functions and of torch's operations
    "dot": (lambda: attend(Q, K, V), 20, 7),
    "causal": (lambda: attend(Q, K, V, is_causal=True), 24, 10),
    "with a gradient": (lambda: attend(Q.clone().requires_grad_(), K, V), 42, 11),
    "one query": (lambda: attend(ONE, K, V), 45, 19),
    "one query, distances": (lambda: attend(ONE, K, V, similarity=FEW["euclidean"]), 45, 18),
    "one query, positions": (lambda: attend(ONE, K, V, similarity=FEW["with positions"]), 90, 25),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_little_beside_its_computation(name):
    call, calls, operations = CALLS[name]
    call()
    count = 0

    def profile(frame, event, _):
        nonlocal count  # of Limelight's functions, without those of torch and of the type checker
        count += event == "call" and frame.f_code.co_filename.startswith(LIBRARY)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    assert count <= calls
    with Counting() as made:
        call()
    assert made.count <= operations


def test_autocast_and_transforms_are_left_to_the_operator():
    with torch.autocast("cpu", torch.bfloat16):
        assert short() is None
        assert attend(Q, K, V).dtype == torch.bfloat16
    assert short() is not None
    found = torch.func.vmap(attend)(Q[None], K[None], V[None])
    torch.testing.assert_close(found[0], attend(Q, K, V))


def test_bad_input_is_still_refused_in_a_sentence():
    with pytest.raises(InputError, match="k has 48 NaN"):
        attend(Q, with_nan(K), V)
    found = attend(Q, K, with_nan(V), is_causal=True)
    assert found[..., :7, :].isfinite().all()
    assert found[..., 7:, :].isnan().all()
