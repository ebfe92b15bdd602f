"""A bias of pairs that learns: by torch's own attention in a small matrix, by rectangles in a large one."""

import pytest
import torch

from limelight import (
    Alignment,
    Attention,
    Bias,
    Bilinear,
    Cosine,
    Dot,
    Euclidean,
    Scaled,
    Similarity,
    Softmax,
    attend,
    causal,
    padding,
)
from limelight.kernels import stored
from limelight.similarity import KeyFactors

H, N, M, D = 3, 11, 9, 4


class Squashed(Similarity):
    """tanh⟨q, k⟩: a function of a product of factors."""

    def dense(self, q, k):
        return (q @ k.mT).tanh()

    def key_factors(self, k):
        return KeyFactors(k)

    def of_product(self, product, q):
        return product.tanh()


CONTENTS = {"dot": Dot(), "cosine": Cosine(), "alignment": Alignment(), "bilinear": Bilinear(D).double(),
            "scaled": Scaled(Dot(), torch.tensor([0.3, -0.2, 0.9]).double()), "euclidean": Euclidean(),
            "squashed": Squashed()}  # fmt: skip
MASKS = {"none": None, "causal": causal, "padding": padding(keys=torch.arange(M) > 2),
         "empty rows": (torch.arange(N) > 4)[:, None].expand(N, M)}  # fmt: skip


def inputs():
    shapes = ((2, H, N, D), (2, H, M, D), (2, H, M, D), (H, N, M))
    return [torch.randn(shape).double().requires_grad_() for shape in shapes]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", CONTENTS)
def test_outputs_and_both_derivatives_are_the_definition_s(monkeypatch, name, mask):
    q, k, v, table = inputs()

    def derivatives(kernel):
        similarity = CONTENTS[name] + Scaled(Bias(table), 0.7) + Bias(torch.linspace(-1, 1, M).double()[None])
        out = Attention(q, k, similarity, mask=MASKS[mask], scale=1.3, kernel=kernel) @ v
        first = torch.autograd.grad(out.sin().sum(), (q, k, v, table), create_graph=True)
        return [out, *first, *torch.autograd.grad(sum(g.cos().sum() for g in first), (q, k, v, table))]

    used = []
    monkeypatch.setattr(
        "limelight.attention.softmax_with_learned_bias",
        lambda *given: used.append(stored.softmax_with_learned_bias(*given)) or used[-1],
    )
    for found, expected in zip(derivatives("auto"), derivatives("reference"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert len(used) == 1
    assert (used[0] is None) == (name in ("euclidean", "squashed"))


@pytest.mark.parametrize("shape", [(N, D), (1, N, D), (2, 1, N, D)])
def test_heads_of_the_bias_alone(shape):
    table, q = torch.randn(H, N, N).double().requires_grad_(), torch.randn(shape).double()
    for mask in (None, causal, torch.rand(2, 1, N, N) > 0.3):
        found, expected = (
            Attention(q, q, Dot() + Bias(table), mask=mask, kernel=kernel) @ q for kernel in ("auto", "reference")
        )
        torch.testing.assert_close(found, expected)


def test_a_large_matrix_is_not_stored(monkeypatch):
    q, k, v, table = inputs()
    small = torch.autograd.grad(attend(q, k, v, attn_mask=table).sum(), table)[0]
    monkeypatch.setattr(stored, "_ENTRIES", 2 * H * N * M - 1)
    monkeypatch.setattr(stored.F, "scaled_dot_product_attention", None)
    large = torch.autograd.grad(attend(q, k, v, attn_mask=table).sum(), table)[0]
    torch.testing.assert_close(small, large)


def test_a_learned_bias_works_with_other_normalizations_and_padding():
    q, k, v, table = inputs()
    similarity = Dot() + Bias(table)
    for options in ({"normalization": Softmax(1.0)}, {"normalization": Softmax(temperature=2.0)}):
        exact = Attention(q, k, similarity, kernel="reference", **options) @ v
        torch.testing.assert_close(Attention(q, k, similarity, **options) @ v, exact)
    bad = v.detach().clone()
    bad[:, :, 0] = torch.nan
    hidden = padding(keys=torch.arange(M) > 2)
    assert (Attention(q, k, similarity, mask=hidden) @ bad).isfinite().all()
    assert Attention(q, k, similarity, scale=1).dense().isfinite().all()  # an integer scale works too
