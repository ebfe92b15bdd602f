"""The fused kernel is as accurate as its precision allows, forward and backward.

The budget is not chosen but derived. The same sum written densely in the same precision (`naive`)
errs by so much against float64; the fused kernel may err by four times that. And it may round each
score: a fused backward recomputes p = exp(s − lse), so a rounding of s or lse, at most ε·max|s|, is a
relative error of p. That is for the s that the kernel sees, centered where the mechanism allows.
Sixteen of these are allowed: four outputs at once, of two passes each, forward and backward.
"""

import math

import pytest
import torch

from limelight import (
    Alignment,
    Attention,
    Boolean,
    Cosine,
    Entmax,
    Graph,
    Laplacian,
    Softmax,
    Sparsemax,
    TopK,
    causal,
    padding,
    window,
)
from limelight.kernels import tiles
from limelight.similarity import shift_for_precision
from tests.operator.mechanisms import NORMALIZATIONS, SIMILARITIES, WIDTH, Phi

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
OUTPUTS = ("A @ v", "A.T @ w", "entropy", "column mass", "dq", "dk", "dv")
SHAPES = [(1, 1), (1, 8), (9, 1), (37, 53), (64, 64)]


def naive(q, k, v, w, similarity, normalization, seen):
    """Every output, dense and in the dtype of q throughout."""
    if similarity.kind == "metric":
        phi = Phi(q.dtype)
        q, k = phi(q), phi(k)
    if similarity.kind == "cosine":
        q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
    if similarity.kind in ("metric", "euclidean"):
        center = k.detach().double().mean(-2, keepdim=True)  # the same sum: an inner product plus two terms
        q, k = (q - center).to(q.dtype), (k - center).to(k.dtype)
        s = similarity.scale * (q @ k.mT - q.square().sum(-1)[..., :, None] / 2 - k.square().sum(-1)[..., None, :] / 2)
    else:
        s = similarity.scale * (q @ k.mT)
    s = s if seen is None else s.masked_fill(~seen, -math.inf)
    for _ in range(max(normalization.steps - 1, 0)):
        s = s - s.logsumexp(-2, keepdim=True)
        s = s - s.logsumexp(-1, keepdim=True)
    if normalization.alpha or normalization.steps:
        s = s - (normalization.alpha or 1) * s.logsumexp(-2, keepdim=True)
    P = s.softmax(-1)
    entropy = -(P * P.clamp(min=torch.finfo(P.dtype).tiny).log()).sum(-1)
    return P @ v, P.mT @ w, entropy, P.sum(-2)


def by_operator(q, k, v, w, similarity, normalization, mask, kernel):
    A = Attention(q, k, similarity.make().to(q.dtype), normalization.make(), mask, kernel=kernel)
    return A @ v, A.T @ w, A.entropy(), A.column_mass()


def with_gradients(run, q, k, v, w, dtype):
    """The outputs, and the gradients of one smooth function of them all."""
    q, k, v, w = (x.to(dtype, copy=True).requires_grad_() for x in (q, k, v, w))
    outputs = run(q, k, v, w)
    loss = sum((out.to(torch.float64) * _directions(out)).sum() for out in outputs)
    return [x.detach().double() for x in (*outputs, *torch.autograd.grad(loss, (q, k, v)))]


def seen_size(similarity, normalization, q, k):
    """The largest score that the kernel computes with."""
    if similarity.kind == "metric":
        q, k = (x.detach() for x in (Phi()(q), Phi()(k)))
    if similarity.kind == "cosine":
        return 2 * similarity.scale
    s = q @ k.mT
    if similarity.kind == "dot" and normalization.alpha == normalization.steps == 0:
        return similarity.scale * float(s.abs().max())  # plain attention is not centered, as in SDPA
    q, k = q - k.mean(-2, keepdim=True), k - k.mean(-2, keepdim=True)
    spread = (s - s.mean((-2, -1), keepdim=True)).abs().max() if similarity.kind == "dot" else 0.0
    return similarity.scale * float(max(spread, torch.cat([q, k], -2).norm(dim=-1).max() ** 2))


def _directions(out):
    return torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)


def check(similarity, normalization, dtype, n, m, mask=None, offset=0.0, spread=1.0):
    sim, norm = SIMILARITIES[similarity], NORMALIZATIONS[normalization]
    q, k = (offset + spread * torch.randn(2, 3, length, WIDTH) for length in (n, m))
    v, w = torch.randn(2, 3, m, 5), torch.randn(2, 3, n, 5)
    inputs = [x.to(dtype).double() for x in (q, k, v, w)]  # the rounding of the inputs does not count as an error
    seen = None if mask is None else mask.block(slice(0, n), slice(0, m), q.device)

    truth = with_gradients(lambda *x: by_operator(*x, sim, norm, mask, "reference"), *inputs, torch.float64)
    fused = with_gradients(lambda *x: by_operator(*x, sim, norm, mask, "fused"), *inputs, dtype)
    dense = with_gradients(lambda *x: naive(*x, sim, norm, seen), *inputs, dtype)
    # Gradients are sums of terms dS_ij · scale · k_j: if the terms cancel, their rounding errors remain.
    longest = max(x.norm(dim=-1).max().item() for x in inputs[:2])
    largest = max(1.0, sim.scale * longest, *(x.abs().max().item() for x in truth))
    rounding = torch.finfo(dtype).eps * (1 + seen_size(sim, norm, *inputs[:2])) * largest
    for name, right, mine, plain in zip(OUTPUTS, truth, fused, dense, strict=True):
        error, allowed = (mine - right).abs().max(), 4 * (plain - right).abs().max() + 16 * rounding
        assert error <= allowed, f"{name}: error {error:.2e}, allowed {allowed:.2e}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_mechanism_in_every_precision(similarity, normalization, dtype):
    for n, m in SHAPES:
        check(similarity, normalization, dtype, n, m)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_far_from_the_origin(similarity, normalization, dtype):
    """Keys and queries offset by 100: translation-invariant mechanisms must stay as accurate."""
    check(similarity, normalization, dtype, 21, 34, offset=100.0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_masked(similarity, dtype):
    keys = torch.rand(2, 1, 21) > 0.3
    for mask in (causal, causal & padding(keys=keys | (torch.arange(21) == 0)), window(3, 2), padding(keys=keys)):
        check(similarity, "softmax", dtype, 21, 21, mask=mask)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_masked_in_many_tiles(similarity, monkeypatch):
    """Masks are processed in tiles of rows, here of a few rows each, so that the results of tiles are added."""
    monkeypatch.setattr(tiles, "_ENTRIES", 500)
    monkeypatch.setattr(tiles, "_LEAST_ROWS", 3)
    scattered = Boolean(torch.rand(2, 3, 23, 21, generator=torch.Generator().manual_seed(5)) > 0.4)
    for mask in (window(3, 2), scattered, scattered & padding(keys=torch.arange(21) % 5 > 0)):
        check(similarity, "softmax", torch.float32, 23, 21, mask=mask)
    check(similarity, "sinkhorn", torch.float64, 23, 21, mask=scattered)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_large_and_small_scales(similarity, dtype):
    for spread in (0.01, 5.0):
        check(similarity, "alpha=1", dtype, 21, 34, spread=spread)


@pytest.mark.parametrize("size", [1e5, 1e7, 1e9, 1e20])
@pytest.mark.parametrize("normalization", [Softmax(), TopK(2), Sparsemax(), Entmax(1.5), Entmax(1.2)], ids=repr)
def test_rows_of_very_large_scores_sum_to_one(normalization, size):
    # The largest two of each row are equal, and the third is far below them.
    q, k = torch.ones(6, 1), torch.full((600, 1), -2.0)
    k[[0, -1]] = 1.0
    expected = torch.zeros(6, 600)
    expected[:, [0, -1]] = 0.5
    every = Graph(torch.cartesian_prod(torch.arange(6), torch.arange(600)).T, (6, 600))
    for mask, kernel in ((None, "auto"), (None, "chunked"), (None, "reference"), (every, "sparse")):
        A = Attention(q, k, normalization=normalization, mask=mask, scale=size, kernel=kernel)
        torch.testing.assert_close(A @ torch.eye(600), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("distance", [1e8, 1e10, 1e20])
def test_keys_that_are_very_far_away(distance):
    q, k = torch.zeros(6, 1), distance * torch.tensor([[2.0], [1.0], [1.0]])
    for entries in (1 << 20, 6):  # in one rectangle, and in several
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("limelight.kernels.online_softmax.ENTRIES", entries)
            out = Attention(q, k, Laplacian()) @ torch.eye(3)
        torch.testing.assert_close(out, torch.tensor([0.0, 0.5, 0.5]).expand(6, 3))


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e19, 1e30])
def test_directions_do_not_depend_on_lengths(size):
    x = torch.randn(5, 8, requires_grad=True)
    for similarity in (Cosine(), Alignment()):
        found, expected = (similarity.dense(size * x, x) for size in (size, 1.0))
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(*(torch.autograd.grad(s[0, 1], x)[0] for s in (found, expected)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_long_sequences(similarity, normalization, dtype):
    """Beyond one block of the kernel on either side."""
    for n, m in [(257, 1025), (1, 4097), (1023, 65)]:
        check(similarity, normalization, dtype, n, m)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mean_is_subtracted_only_if_it_costs_precision(dtype):
    x = torch.randn(2, 3, 50, 4, dtype=dtype)
    assert shift_for_precision(x, None) is None
    assert shift_for_precision(x + 0.2, None) is None
    for shifted in (x + 10, torch.cat([x[:1], x[1:] + 10])):  # one matrix of the batch is enough
        torch.testing.assert_close(shift_for_precision(shifted, None), shifted.mean(-2, keepdim=True))
    real = torch.ones(2, 3, 50, dtype=torch.bool)
    assert shift_for_precision(x, real) is not None  # padded rows may hold anything
