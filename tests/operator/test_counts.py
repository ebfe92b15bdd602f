"""No heads, no features: one sentence where a number of them must be at least one, and empty results elsewhere."""

import pytest
import torch

import limelight
from limelight import (
    GAT,
    Additive,
    ALiBi,
    Bilinear,
    Convolution,
    Dot,
    Euclidean,
    Hybrid,
    InputError,
    KeyCache,
    RelativeBias,
    Softmax,
    Sparsemax,
    StudentT,
    attend,
)

SIMILARITIES = [Dot(), Euclidean(), StudentT(), Dot() + ALiBi(4), Dot() + RelativeBias(2, 4)]


def tokens(heads, key_heads, width=6):
    return torch.randn(2, heads, 3, width), torch.randn(2, key_heads, 5, width), torch.randn(2, key_heads, 5, 6)


@pytest.mark.parametrize("normalization", [Softmax(), Sparsemax()], ids=str)
@pytest.mark.parametrize("similarity", SIMILARITIES, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 0), (0, 4), (4, 3)])
def test_key_heads_that_cannot_be_shared_out(heads, key_heads, similarity, normalization):
    q, k, v = tokens(heads, key_heads)
    for given in ({}, {"is_causal": True}, {"dropout_p": 0.1}, {"attn_mask": torch.zeros(3, 5)}):
        with pytest.raises(InputError, match=rf"\(2, {heads}, 3, 6\) and \(2, {key_heads}, 5, 6\)"):
            attend(q, k, v, enable_gqa=True, similarity=similarity, normalization=normalization, **given)


@pytest.mark.parametrize("similarity", [Dot(), Euclidean(), StudentT()], ids=lambda x: type(x).__name__)
def test_key_heads_of_a_cache_that_cannot_be_shared_out(similarity):
    for heads, key_heads in ((4, 0), (0, 4)):
        q, k, v = tokens(heads, key_heads)
        cache = KeyCache(similarity)
        cache.append(k, v)
        with pytest.raises(InputError, match=f"a multiple of the cache's {key_heads} key heads, got {heads}"):
            cache.attend(q)
    q, k, v = tokens(0, 0)
    cache = KeyCache(similarity)
    cache.append(k, v)
    assert cache.attend(q).shape == attend(q, k, v, enable_gqa=True, similarity=similarity).shape == (2, 0, 3, 6)


@pytest.mark.parametrize("given", [{}, {"enable_gqa": True}, {"attn_mask": torch.zeros(3, 5)}, {"dropout_p": 0.1}])
def test_tokens_without_features(given):
    q, k, v = tokens(4, 2 if "enable_gqa" in given else 4, width=0)
    with pytest.raises(InputError, match="same width ≥ 1, got 0 and 0"):
        attend(q, k, v, **given)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
@pytest.mark.parametrize(
    "make",
    [
        ALiBi,
        lambda heads: RelativeBias(2, heads),
        Bilinear,
        lambda width: Bilinear(3, width),
        GAT,
        lambda width: GAT(3, width),
        Additive,
        lambda hidden: Additive(3, hidden=hidden),
        Hybrid,
        Softmax.learned,
        limelight.SoftmaxWithSink.learned,
        limelight.ScalableSoftmax.learned,
        limelight.TopK,
    ],
)
def test_a_number_of_heads_or_features(make, count):
    with pytest.raises(InputError, match=rf"expects a whole number ≥ 1, got {count}"):
        make(count)


def test_no_slopes_and_no_shifts():
    with pytest.raises(InputError, match=r"slopes=…\) expects a tensor \(heads,\).*at least one"):
        ALiBi(slopes=torch.zeros(0))
    with pytest.raises(InputError, match="at least one, got"):
        Convolution(torch.zeros(0))
