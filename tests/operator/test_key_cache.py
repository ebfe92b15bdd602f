"""A cache of keys and values gives the result of attention to all keys, however they were appended."""

import math

import pytest
import torch

from limelight import (
    ALiBi,
    Alignment,
    Attention,
    Bilinear,
    Cosine,
    Dot,
    DtypeError,
    Entmax,
    Euclidean,
    InputError,
    KeyCache,
    Metric,
    RelativeBias,
    Scaled,
    SoftCap,
    Softmax,
    Sparsemax,
    StudentT,
    attend,
    causal,
    padding,
    window,
)

H, D = 4, 6
SIMILARITIES = {
    "dot": Dot(),
    "cosine": Cosine(),
    "alignment": Alignment(),
    "bilinear": Bilinear(D),
    "euclidean": Euclidean(2.0),
    "euclidean by head": Euclidean(torch.tensor([1.0, 2.0, 3.0, 4.0])),
    "metric": Metric(torch.nn.Linear(D, 3)),
    "scaled": Scaled(Euclidean(), -0.1),
    "student": StudentT(2.0),
    "softcap": SoftCap(Dot(), 4.0),
    "with ALiBi": Dot() + ALiBi(H),
    "with a relative bias": Euclidean(2.0) + RelativeBias(5, H),
    "two contents": Dot() + Scaled(Cosine(), 3.0),
    "capped, with ALiBi": SoftCap(Dot() + ALiBi(H), 4.0),
    "positions alone": ALiBi(H),
}
STEPS = [7, 1, 1, 3, 70, 1, 20, 1]


M = sum(STEPS)


def tokens(heads=H):
    return [torch.randn(2, h, M, D) for h in (H, heads, heads)]


def whole(q, k, v, similarity, mask, **options):
    q, k, v = (x.double() for x in (q, k, v))
    options = {"is_causal": mask is causal, "mask": mask if mask is not causal else None} | options
    return attend(q, k, v, similarity=similarity, kernel="reference", enable_gqa=k.shape[-3] != H, **options)


def double(similarity):
    return similarity.double() if isinstance(similarity, Metric) else similarity


@pytest.mark.parametrize("heads", [H, 2, 1])
@pytest.mark.parametrize("name", SIMILARITIES)
@torch.no_grad()
def test_a_cache_equals_attention_for_any_order_of_appending(name, heads):
    similarity = SIMILARITIES[name]
    q, k, v = tokens(heads)
    cache, done, outs = KeyCache(similarity.float()), 0, []
    for step in STEPS:
        new = slice(done, done + step)
        cache.append(k[..., new, :], v[..., new, :])
        outs.append(cache.attend(q[..., new, :]))
        done += step
        assert len(cache) == done
    expected = whole(q, k, v, double(similarity), causal)
    torch.testing.assert_close(torch.cat(outs, -2).double(), expected, rtol=1e-5, atol=3e-6)
    torch.testing.assert_close(cache.keys, k, rtol=0, atol=0)
    torch.testing.assert_close(cache.values, v, rtol=0, atol=0)


@pytest.mark.parametrize("n", [1, 3, 30])
@pytest.mark.parametrize("mask", [causal, window(9, 0), None])
@torch.no_grad()
def test_masks(mask, n):
    q, k, v = tokens()
    keep = torch.rand(2, 1, 1, k.shape[-2]) > 0.4
    keep[1] = False  # a query that sees nothing gets zeros
    cache = KeyCache(Euclidean(2.0), mask=mask)
    cache.append(k, v)
    m = len(cache)
    own = None if mask is None else mask.at(m - n)
    for more in (keep, padding(keys=keep[:, :, 0])):
        expected = whole(q[..., -n:, :], k, v, Euclidean(2.0), own, attn_mask=more)
        torch.testing.assert_close(cache.attend(q[..., -n:, :], more).double(), expected, rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_more_queries_than_keys_in_cross_attention():
    q, k, v = tokens()
    cache = KeyCache(Dot(), mask=None)
    cache.append(k[..., :5, :], v[..., :5, :])
    expected = whole(q, k[..., :5, :], v[..., :5, :], Dot(), None)
    torch.testing.assert_close(cache.attend(q).double(), expected, rtol=1e-5, atol=2e-6)
    with pytest.raises(InputError, match="got 104 queries for 5 positions"):
        few = KeyCache()
        few.append(k[..., :5, :], v[..., :5, :])
        few.attend(q)


@pytest.mark.parametrize("start", [1, 50])
@torch.no_grad()
def test_keys_far_from_zero_or_drifting_away_lose_no_precision(start):
    q, k, v = tokens()
    drift = 3e3 + torch.linspace(0, 300, k.shape[-2])[:, None]
    q, k = q + drift, k + drift
    cache = KeyCache(Euclidean(20.0))
    cache.append(k[..., :start, :], v[..., :start, :])
    for j in range(start, k.shape[-2]):
        cache.append(k[..., j : j + 1, :], v[..., j : j + 1, :])
    last = q[..., -1:, :]
    expected = whole(last, k, v, Euclidean(20.0), None)
    torch.testing.assert_close(cache.attend(last).double(), expected, rtol=0, atol=3e-4)
    again = Attention(last, k, Euclidean(20.0), kernel="fused") @ v
    assert (cache.attend(last) - expected).abs().max() <= 10 * (again - expected).abs().max() + 1e-5


@torch.no_grad()
def test_cropped_keys_are_forgotten():
    q, k, v = tokens()
    cache = KeyCache(Euclidean(2.0))
    cache.append(k[..., :60, :], v[..., :60, :])
    cache.append(torch.randn(2, H, 30, D) * 1e3, torch.randn(2, H, 30, D))
    cache.crop(60)
    cache.append(k[..., 60:, :], v[..., 60:, :])
    expected = whole(q, k, v, Euclidean(2.0), causal)[..., -1:, :]
    torch.testing.assert_close(cache.attend(q[..., -1:, :]).double(), expected, rtol=1e-5, atol=2e-6)
    cache.crop(0)
    assert len(cache) == 0
    with pytest.raises(InputError, match="from 0 to 0, got 1"):
        cache.crop(1)


@pytest.mark.parametrize("normalization", [Softmax(temperature=2.0), Softmax(temperature=torch.tensor([1.0, 2, 3, 4])),
                                           Sparsemax(), Entmax(1.5)])  # fmt: skip
@torch.no_grad()
def test_normalizations_and_a_scale(normalization):
    q, k, v = tokens()
    cache = KeyCache(Dot(), normalization, scale=0.7)
    cache.append(k, v)
    expected = whole(q, k, v, Dot(), causal, normalization=normalization, scale=0.7)[..., -2:, :]
    torch.testing.assert_close(cache.attend(q[..., -2:, :]).double(), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_dtypes(dtype):
    q, k, v = (x.to(dtype) for x in tokens(2))
    cache = KeyCache(Euclidean(2.0))
    cache.append(k, v)
    expected = whole(q, k, v, Euclidean(2.0), causal)[..., -1:, :]
    budget = 1e-12 if dtype == torch.float64 else 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(cache.attend(q[..., -1:, :]).double(), expected, rtol=budget, atol=budget)


def test_queries_and_parameters_get_gradients():
    q, k, v = tokens()
    phi = torch.nn.Linear(D, 3)
    cache = KeyCache(Metric(phi))
    cache.append(k, v)
    q.requires_grad_()
    cache.attend(q[..., -1:, :]).sum().backward()
    assert phi.weight.grad.abs().sum() > 0
    assert q.grad.abs().sum() > 0
    scale = torch.nn.Parameter(torch.tensor(0.5))
    scaled = KeyCache(scale=scale)
    scaled.append(k, v)
    scaled.attend(q.detach()[..., -1:, :]).sum().backward()
    assert scale.grad.abs() > 0


@torch.no_grad()
def test_a_mechanism_without_heads():
    q, k, v = torch.randn(3, 20, D).unbind()
    cache = KeyCache()
    cache.append(k, v)
    torch.testing.assert_close(cache.attend(q), attend(q, k, v, is_causal=True))


def test_invalid_calls_are_refused():
    q, k, v = tokens()
    cache = KeyCache()
    with pytest.raises(InputError, match="holds no keys yet"):
        cache.attend(q)
    cache.append(k, v)
    with pytest.raises(InputError, match="keeps no gradients"):
        cache.append(k.clone().requires_grad_(), v)
    with pytest.raises(InputError, match=r"key expects \(2, 4, 't', 6\)"):
        cache.append(k[:1], v[:1])
    with pytest.raises(InputError, match="key expects"):
        cache.append(k.double(), v.double())
    with pytest.raises(DtypeError, match="value must have the dtype"):
        cache.append(k, v.double())
    with pytest.raises(InputError, match=r"value expects \(2, 4, 't', 6\)"):
        cache.append(k, v[..., :3])
    with pytest.raises(InputError, match="key has 1 NaN or infinite"):
        cache.append(
            k.index_fill(-2, torch.tensor([3]), 0).index_put((*torch.zeros(4, 1).long(),), torch.tensor(math.nan)), v
        )
    assert len(cache) == k.shape[-2]  # refused keys are not kept
    with pytest.raises(InputError, match="a multiple of the cache's 4 key heads, got 3"):
        cache.attend(q[:, :3, -1:])
    with pytest.raises(InputError, match="q has 1 NaN or infinite"):
        cache.attend(q[..., -1:, :].index_put((*torch.zeros(4, 1).long(),), torch.tensor(math.inf)))
    with pytest.raises(InputError, match="needs all queries at once"):
        KeyCache(normalization=Softmax(1.0))
    with pytest.raises(InputError, match="expects causal, a window or None"):
        KeyCache(mask=padding(keys=torch.ones(3).bool()))
