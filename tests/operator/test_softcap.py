"""A similarity that limits the scores of another one to (−c, c)."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from limelight import Attention, Dot, Euclidean, InputError, SoftCap, Softmax

torch.manual_seed(0)
Q, K, V = (torch.randn(2, 5, 4, dtype=torch.float64) for _ in range(3))


def direct(q, k, v, scale, cap):
    return (cap * (scale * q @ k.mT / cap).tanh()).softmax(-1) @ v


@pytest.mark.parametrize(("scale", "used"), [(None, 0.5), (1.7, 1.7)])
def test_it_is_softmax_of_capped_scores(scale, used):
    out = Attention(Q, K, SoftCap(Dot(), 0.6, scale)) @ V
    torch.testing.assert_close(out, direct(Q, K, V, used, 0.6))


def test_the_scale_outside_multiplies_what_is_capped():
    out = Attention(Q, K, SoftCap(Dot(), 0.6), scale=3.0) @ V
    torch.testing.assert_close(out, (3 * 0.6 * (0.5 * Q @ K.mT / 0.6).tanh()).softmax(-1) @ V)


def test_a_high_cap_changes_nothing_and_no_score_passes_a_low_one():
    torch.testing.assert_close(Attention(Q, K, SoftCap(Euclidean(), 1e9)).dense(), Attention(Q, K, Euclidean()).dense())
    log_weights = Attention(1e3 * Q, 1e3 * K, SoftCap(Dot(), 2.0)).dense().log()
    assert (log_weights.amax(-1) - log_weights.amin(-1)).max() <= 4.0 + 1e-12


@pytest.mark.parametrize("normalization", [Softmax(), Softmax(alpha=1.0)], ids=repr)
def test_gradients_and_a_parameter_for_the_scale(normalization):
    inputs = [x.clone().requires_grad_() for x in (Q, K, V)]
    assert gradcheck(lambda q, k, v: Attention(q, k, SoftCap(Dot(), 0.6), normalization) @ v, inputs, fast_mode=True)
    assert gradgradcheck(
        lambda q, k, v: Attention(q, k, SoftCap(Dot(), 0.6), normalization, kernel="reference") @ v,
        inputs,
        fast_mode=True,
    )
    learned = torch.nn.Parameter(torch.tensor([[0.7]], dtype=torch.float64))
    similarity = SoftCap(Dot(), 0.6, learned)
    (Attention(Q, K, similarity, normalization) @ V).square().sum().backward()
    exact = learned.grad.clone()
    learned.grad = None
    (Attention(Q, K, similarity, normalization, kernel="reference") @ V).square().sum().backward()
    torch.testing.assert_close(exact, learned.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_scores_are_capped_in_float32(dtype):
    q, k, v = (20 * Q.to(dtype), 20 * K.to(dtype), V.to(dtype))
    out = Attention(q, k, SoftCap(Dot(), 30.0)) @ v
    assert out.dtype == dtype
    right = direct(q.double(), k.double(), v.double(), 0.5, 30.0)
    rounded = (right.to(dtype).double() - right).abs().max()
    assert (out.double() - right).abs().max() < 4 * rounded + 1e-6


@pytest.mark.parametrize("cap", [0.0, -1.0, float("inf"), float("nan"), True, "50"])
def test_a_cap_that_is_no_positive_number_is_refused(cap):
    with pytest.raises(InputError, match="must be a positive and finite number, got"):
        SoftCap(Dot(), cap)


def test_something_else_than_a_similarity_is_refused():
    with pytest.raises(InputError, match="expects a Similarity object, got <class"):
        SoftCap(Dot, 1.0)
