"""The short way for ordinary calls: what it computes, and which calls it leaves to the operator."""

import pytest
import torch
from torch import nn

from limelight import Attention, Dot, InputError, Softmax, attend, causal
from limelight.plain import plain_attention

Q, K, V = torch.randn(3, 2, 3, 20, 8, generator=torch.Generator().manual_seed(0))


class OwnDot(Dot):
    pass


def short(q=Q, k=K, v=V, similarity=None, normalization=None, is_causal=False, scale=None):
    return plain_attention(q, k, v, similarity or Dot(), normalization or Softmax(), is_causal, scale)


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


LEFT = {
    "another similarity": {"similarity": OwnDot()},
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
    "NaN in a key of one query": {"q": Q[..., :1, :], "k": with_nan(K)},
    "NaN in a value of one query": {"q": Q[..., :1, :], "v": with_nan(V)},
    "an infinite key that would get no weight": {"q": -Q[..., :1, :].abs(), "k": with_infinity(K)},
    "infinite scores of one query": {"q": 1e30 * Q[..., :1, :], "k": 1e30 * K},
    "one query of no key": {"q": Q[..., :1, :], "k": K[..., :0, :], "v": V[..., :0, :]},
    "a batch that broadcasts": {"k": K[:1], "v": V[:1]},
    "no batch": {"q": Q[0], "k": K[0], "v": V[0]},
    "another width of values": {"v": V[..., :5]},
    "nothing": {"q": Q[:0], "k": K[:0], "v": V[:0]},
    "integers": {"q": Q.int(), "k": K.int(), "v": V.int()},
    "two dtypes": {"v": V.double()},
    "rows with gaps": {"q": torch.cat([Q, Q], -1)[..., ::2]},
    "a gradient": {"q": Q.clone().requires_grad_()},
    "a parameter": {"k": nn.Parameter(K)},
    "meta tensors": {"q": Q.to("meta"), "k": K.to("meta"), "v": V.to("meta")},
}


@pytest.mark.parametrize("name", LEFT)
def test_what_needs_the_operator_is_left_to_it(name):
    assert short(**LEFT[name]) is None


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
