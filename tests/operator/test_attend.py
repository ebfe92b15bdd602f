"""`attend` against torch's own call, argument by argument."""

import pytest
import torch
import torch.nn.functional as F

from limelight import Attention, Dot, Euclidean, Softmax, attend, causal, padding

Q, K, V = (torch.randn(2, 4, length, width) for length, width in ((5, 8), (7, 8), (7, 6)))
SEEN = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.3


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"attn_mask": SEEN},
        {"attn_mask": torch.zeros(5, 7).masked_fill(~SEEN[0, 0], float("-inf"))},
        {"is_causal": True},
        {"scale": 0.3},
    ],
    ids=str,
)
def test_it_is_scaled_dot_product_attention(arguments):
    torch.testing.assert_close(attend(Q, K, V, **arguments), F.scaled_dot_product_attention(Q, K, V, **arguments))


@pytest.mark.parametrize("kernel", ["auto", "reference"])
@pytest.mark.parametrize("hides", [float("-inf"), torch.finfo(torch.float32).min])
def test_a_row_that_a_float_mask_hides_is_zero(hides, kernel):
    """The least number of a dtype hides a pair as −∞ does, and is not treated as a score."""
    mask = torch.zeros(5, 7)
    mask[2] = hides
    out = attend(Q, K, V, mask, kernel=kernel)
    assert (out[..., 2, :] == 0).all()
    torch.testing.assert_close(out[..., :2, :], attend(Q, K, V)[..., :2, :])


def test_its_positional_arguments_are_torchs():
    torch.testing.assert_close(
        attend(Q, K, V, None, 0.0, True, 0.3, False),
        F.scaled_dot_product_attention(Q, K, V, None, 0.0, True, scale=0.3),
    )


def test_grouped_heads():
    k, v = K[:, :2], V[:, :2]
    torch.testing.assert_close(
        attend(Q, k, v, enable_gqa=True), F.scaled_dot_product_attention(Q, k, v, enable_gqa=True)
    )


def test_every_restriction_given_applies():
    keys = torch.arange(7) < 4
    out = attend(Q, K, V, SEEN, is_causal=True, mask=padding(keys=keys))
    allowed = SEEN & keys & torch.ones(5, 7).tril().bool()
    torch.testing.assert_close(out, torch.nan_to_num(F.scaled_dot_product_attention(Q, K, V, allowed)))


def test_it_is_the_operator_in_one_call():
    out = attend(Q, K, V, similarity=Euclidean(2.0), normalization=Softmax(0.5))
    torch.testing.assert_close(out, Attention(Q, K, Euclidean(2.0), Softmax(0.5)) @ V)


@pytest.mark.parametrize("arguments", [{}, {"attn_mask": SEEN}, {"is_causal": True}], ids=str)
def test_its_gradient_is_the_references(arguments):
    """The gradient of a sum has stride 0, which torch's own kernel does not accept."""
    gradients = []
    for kernel in ("fused", "reference"):
        leaves = [x.clone().requires_grad_() for x in (Q, K, V)]
        attend(*leaves, **arguments, kernel=kernel).sum().backward()
        gradients.append([x.grad for x in leaves])
    for mine, right in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, right)


@pytest.mark.parametrize("shape", [(), (2,), (2, 4), (2, 3, 4)])
def test_any_number_of_batch_dimensions(shape):
    q, k, v = (torch.randn(*shape, length, 8) for length in (5, 7, 7))
    expected = ((q @ k.mT) * 8**-0.5).softmax(-1) @ v
    torch.testing.assert_close(attend(q, k, v), expected)


def test_batch_dimensions_broadcast_forward_and_backward():
    q, k, v = torch.randn(3, 1, 5, 8), torch.randn(4, 7, 8), torch.randn(2, 1, 1, 7, 2)
    wide, narrow = [], []
    for kernel in ("reference", "fused"):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        A = Attention(*leaves[:2], kernel=kernel)
        out = A @ leaves[2]
        assert A.shape == (3, 4, 5, 7)
        assert out.shape == (2, 3, 4, 5, 2)
        assert A.entropy().shape == A.logsumexp().shape == A.free_energy().shape == (3, 4, 5)
        assert A.column_mass().shape == (3, 4, 7)
        assert A.dense().shape == A.shape
        (wide if kernel == "fused" else narrow).extend([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for a, b in zip(wide, narrow, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kernel", ["reference", "fused"])
@pytest.mark.parametrize("similarity", [Dot(), Euclidean()], ids=str)
@pytest.mark.parametrize(("batch", "n", "m"), [(2, 0, 3), (2, 3, 0), (2, 0, 0), (0, 3, 3)])
def test_no_queries_or_no_keys_or_no_batch(batch, n, m, similarity, kernel):
    q, k, v = (torch.randn(batch, length, 4, requires_grad=True) for length in (n, m, m))
    A = Attention(q, k, similarity, kernel=kernel)
    out = A @ v
    assert out.shape == (batch, n, 4)
    assert (out == 0).all()
    assert (A.entropy() == 0).all()
    out.sum().backward()
    assert q.grad.shape == q.shape


def test_inputs_need_not_be_contiguous():
    q, k, v = (torch.randn(2, length, 4, 8).transpose(1, 2) for length in (5, 7, 7))
    torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
    q, k, v = (torch.randn(2, 4, 8, length).mT for length in (5, 7, 7))
    torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_a_causal_model_does_not_see_the_future():
    q, k, v = (torch.randn(1, 2, 9, 8) for _ in range(3))
    before = attend(q, k, v, is_causal=True, similarity=Euclidean(2.0))
    k[..., 5:, :], v[..., 5:, :] = 7.0, 7.0
    after = attend(q, k, v, mask=causal, similarity=Euclidean(2.0))
    torch.testing.assert_close(after[..., :5, :], before[..., :5, :])
    assert (after[..., 5:, :] - before[..., 5:, :]).abs().max() > 0.1


def test_batch_dimensions_of_a_float_mask_are_the_output_s_also_if_all_is_zero():
    q = torch.randn(3, 5, 4)
    for mask in (torch.zeros(2, 1, 5, 5), torch.ones(2, 1, 5, 5)):
        out = attend(q, q, q, mask)
        assert out.shape == (2, 3, 5, 4)
        torch.testing.assert_close(out, attend(q, q, q).expand(2, 3, 5, 4))
