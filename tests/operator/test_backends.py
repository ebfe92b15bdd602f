"""Tiles of attention on torch's private kernels, forward and backward, compared with the dense formula."""

import math

import pytest
import torch

from limelight.kernels import backends
from limelight.kernels.backends import Tile, cuda, sdpa_backends


def operands(dtype, n=19, m=23, d=8, e=5, device="cpu"):
    shapes = ((2, 3, n, d), (2, 3, m, d), (2, 3, m, e), (2, 3, m), (2, 3, n, e), (2, 3, n))
    q, k, v, bias, dout, dlse = (torch.randn(shape, device=device) for shape in shapes)
    return q.to(dtype), k.to(dtype), v.to(dtype), bias.to(backends.lse_dtype(dtype)), dout.to(dtype), dlse


def dense(q, k, v, bias, tile):
    s = tile.scale * q @ k.mT + bias[..., None, :]
    if tile.allowed is not None:
        s = s.masked_fill(~tile.allowed, -math.inf)
    if tile.causal:
        s = s.masked_fill(~torch.ones(s.shape[-2:]).tril().bool(), -math.inf)
    return s.softmax(-1) @ v, s.logsumexp(-1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("allowed", [None, torch.rand(2, 1, 1, 23) > 0.3])
def test_forward_and_backward_with_the_gradient_of_lse(allowed, causal):
    if allowed is not None:
        allowed[..., 0] = True
    tile = Tile(allowed, causal, 0.4)
    q, k, v, bias, dout, dlse = operands(torch.float64)
    leaves = [x.clone().requires_grad_() for x in (q, k, v, bias)]
    out, lse = dense(*leaves, tile)
    expected = torch.autograd.grad((out, lse), leaves, (dout, dlse.double()))

    mine, normalizer = backends.forward(q, k, v, bias, tile)
    torch.testing.assert_close(mine, out)
    torch.testing.assert_close(normalizer, lse)
    gradients = backends.backward(dout, dlse.double(), q, k, v, bias, mine, normalizer, tile, bias_gradient=True)
    for got, right in zip((gradients.q, gradients.k, gradients.v, gradients.bias), expected, strict=True):
        torch.testing.assert_close(got, right)


def test_a_row_that_sees_nothing_has_no_gradient():
    allowed = torch.ones(1, 1, 19, 23, dtype=torch.bool)
    allowed[..., 4, :] = False
    tile = Tile(allowed, False, 0.4)
    q, k, v, bias, dout, dlse = operands(torch.float32)
    out, lse = backends.forward(q, k, v, bias, tile)
    assert (out[..., 4, :] == 0).all()
    lse[..., 4] = -math.inf
    gradients = backends.backward(dout, dlse, q, k, v, bias, out, lse, tile, bias_gradient=True)
    assert (gradients.q[..., 4, :] == 0).all()
    assert all(x.isfinite().all() for x in (gradients.q, gradients.k, gradients.v, gradients.bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_a_bias_in_columns_keeps_float32s_accuracy(dtype, size):
    """The CUDA path's form of the bias, on the CPU's arithmetic: the products of the columns are exact there too."""
    q, k, _, bias, _, _ = operands(dtype)
    wide_q, wide_k = cuda.bias_in_columns(q, k, size * bias, 0.4, 16)
    assert wide_q.shape[-1] == wide_k.shape[-1] == 16
    assert wide_q.dtype == wide_k.dtype == dtype
    got = 0.4 * wide_q.double() @ wide_k.double().mT
    right = 0.4 * q.double() @ k.double().mT + size * bias.double()[..., None, :]
    assert (got - right).abs().max() <= 4e-7 * size * bias.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("allowed", [False, True])
def test_the_cuda_calls_are_well_formed(dtype, allowed):
    """Shapes and dtypes through torch's own description of its CUDA kernels; no GPU computes anything here."""
    q, k, v, bias, dout, dlse = operands(dtype, device="meta")
    tile = Tile(torch.ones(2, 1, 19, 23, dtype=torch.bool, device="meta") if allowed else None, not allowed, 0.4)
    out, lse = cuda.forward(q, k, v, bias, tile)
    assert out.shape == dout.shape
    assert lse.shape == dlse.shape
    assert lse.dtype == torch.float32
    gradients = cuda.backward(dout, q, k, v, bias, out, lse, tile, bias_gradient=True)
    assert gradients.q.shape == q.shape
    assert gradients.k.shape == k.shape
    assert gradients.v.shape == v.shape
    assert gradients.bias is not None
    assert gradients.bias.shape == bias.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("backend", [sdpa_backends.CUDNN, sdpa_backends.FLASH], ids=lambda backend: backend.name)
def test_the_calls_of_the_faster_backends_are_well_formed(backend, has_bias, dtype, monkeypatch):
    monkeypatch.setattr(cuda, "backend_for", lambda *_: backend)
    q, k, v, bias, dout, dlse = operands(dtype, m=19, device="meta")
    own = bias if has_bias else None
    tile = Tile(None, True, 0.4)
    out, lse = cuda.forward(q, k, v, own, tile)
    assert (out.shape, lse.shape, lse.dtype) == (dout.shape, dlse.shape, torch.float32)
    gradients = cuda.backward(dout, q, k, v, own, out, lse, tile, bias_gradient=has_bias)
    assert [x.shape for x in (gradients.q, gradients.k, gradients.v)] == [q.shape, k.shape, v.shape]
    assert (gradients.bias is None) != has_bias
    assert gradients.bias is None or gradients.bias.shape == bias.shape


def test_the_faster_backends_take_half_precision_without_a_mask_alone(monkeypatch):
    monkeypatch.setattr(sdpa_backends.CUDNN, "_can_use", lambda arguments: True, raising=False)
    q, k, *_ = operands(torch.bfloat16, m=19)
    serves = sdpa_backends.CUDNN.serves
    assert serves(q, k, 32, Tile(None, True, 0.4))
    assert not serves(q.float(), k.float(), 32, Tile(None, True, 0.4))
    assert not serves(q, k, 32, Tile(torch.ones(1, 1, 1, 19, dtype=torch.bool), False, 0.4))
    assert not serves(q, k[:, :, 1:], 32, Tile(None, True, 0.4))
    assert serves(q, k[:, :, 1:], 32, Tile(None, False, 0.4))


def test_where_it_runs():
    assert backends.unsupported(torch.device("cpu"), torch.float64) is None
    assert "float64" in backends.unsupported(torch.device("cuda"), torch.float64)
    assert "not on meta" in backends.unsupported(torch.device("meta"), torch.float32)
