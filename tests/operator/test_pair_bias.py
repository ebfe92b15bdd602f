"""A fixed bias of pairs is passed to the fused kernel; one that learns is computed in rectangles."""

import itertools

import pytest
import torch

from limelight import (
    ALiBi,
    Attention,
    Bias,
    Boolean,
    Dot,
    Euclidean,
    InputError,
    KernelError,
    Scaled,
    Sinkhorn,
    Softmax,
    attend,
    causal,
    padding,
    window,
)
from limelight.similarity import InnerProduct
from limelight.testing import check_similarity

N, M = 9, 11
MASKS = [
    None,
    causal,
    window(3, 1),
    padding(keys=torch.arange(M) % 4 > 0),
    causal & padding(keys=torch.arange(M) % 4 > 0),
    Boolean(torch.rand(2, 1, N, M, generator=torch.Generator().manual_seed(0)) > 0.5),
]
TABLES = [(N, M), (1, 3, N, M), (2, 1, 1, M), (3, N, 1), (2, 3, N, M)]


def tokens(*batch):
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(*batch, n, 4, generator=generator).double().requires_grad_() for n in (N, M, M))


def table(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2)).double()


@pytest.mark.parametrize("mask", MASKS, ids=repr)
@pytest.mark.parametrize("shape", TABLES, ids=str)
def test_a_pair_bias_is_added_to_the_scores(shape, mask):
    q, k, v = tokens(2, 3)
    w = torch.randn(2, 3, N, 2).double()
    similarity = Scaled(Euclidean(1.5), 0.7) + Bias(table(*shape))
    for normalization in (Softmax(), Softmax(0.5), Sinkhorn(2)):
        if mask in (causal, MASKS[4]) and normalization.uses_column_sums:
            continue
        found = []
        for kernel in ("fused", "reference"):
            A = Attention(q, k, similarity, normalization, mask, scale=torch.tensor([0.5, 1.0, 2.0]), kernel=kernel)
            results = [
                A @ v,
                A.T @ w,
                A.entropy(),
                A.column_mass(),
                A.logsumexp().masked_fill(A.logsumexp().isinf(), 0),
            ]
            total = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in results)
            found.append((*results, *torch.autograd.grad(total, (q, k, v))))
        for mine, right in zip(*found, strict=True):
            torch.testing.assert_close(mine, right)


@pytest.mark.parametrize("batch", [(), (3,), (2, 1, 3)], ids=str)
def test_any_number_of_batch_dimensions(batch):
    q, k, v = tokens(*batch)
    bias = Bias(table(*(size if size > 1 else 5 for size in batch[-1:]), N, M))
    mine, right = (
        Attention(q, k, Dot() + bias, mask=window(4, 4), kernel=kernel) @ v for kernel in ("fused", "reference")
    )
    torch.testing.assert_close(mine, right)


def test_second_derivatives():
    q, k, v = tokens(2)
    found = []
    for kernel in ("fused", "reference"):
        out = Attention(q, k, Dot() + Bias(table(N, M)), kernel=kernel) @ v
        first = torch.autograd.grad(out.square().sum(), (q, k, v), create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), (q, k, v)))
    torch.testing.assert_close(*found)


def test_a_bias_alone_and_with_positions():
    q, k, v = tokens(3)
    for similarity in (Bias(table(N, M)), Bias(table(3, N, M)) + ALiBi(3), Bias(table(N, M)) + Bias(table(1, M))):
        mine, right = (Attention(q, k, similarity, mask=causal, kernel=kernel) @ v for kernel in ("auto", "reference"))
        torch.testing.assert_close(mine, right)


def test_a_learned_bias_gets_its_gradient():
    q, k, v = tokens(2, 3)
    learned = torch.nn.Parameter(table(3, N, M))
    A = Attention(q, k, Dot() + Bias(learned))
    assert A.kernel == "chunked"
    (mine,) = torch.autograd.grad((A @ v).square().sum(), learned)
    (right,) = torch.autograd.grad(
        (Attention(q, k, Dot() + Bias(learned), kernel="reference") @ v).square().sum(), learned
    )
    torch.testing.assert_close(mine, right)
    with pytest.raises(KernelError, match="not an inner product"):
        Attention(q, k, Dot() + Bias(learned), kernel="fused")


LEARNED = {
    "scale": lambda number, table: {"similarity": Dot() + Bias(table), "scale": number},
    "temperature": lambda number, table: {
        "similarity": Dot() + Bias(table), "normalization": Softmax(temperature=number.exp())
    },
    "scale of the bias": lambda number, table: {"similarity": Dot() + Scaled(Bias(table), number)},
    "scale of the sum": lambda number, table: {"similarity": Scaled(Dot() + Bias(table), number)},
    "scale within": lambda number, table: {"similarity": Dot() + Scaled(Scaled(Bias(table), 2.0) + Dot(), number)},
}  # fmt: skip


@pytest.mark.parametrize("make", LEARNED.values(), ids=LEARNED)
def test_a_learned_scale_gets_its_gradient(make):
    q, k, v = tokens(2, 3)
    number = torch.tensor(0.7).double().requires_grad_()
    found = []
    for kernel in ("auto", "reference"):
        A = Attention(q, k, **make(number, table(3, N, M)), kernel=kernel)
        assert A.kernel != "fused"
        found.append(torch.autograd.grad((A @ v).square().sum(), (number, q)))
    torch.testing.assert_close(*found)
    with pytest.raises(KernelError, match="kernel='fused' cannot serve this call"):
        Attention(q, k, **make(number, table(3, N, M)), kernel="fused")


class Learns(Dot):
    """An extension whose inner product has a bias of pairs that learns."""

    has_pair_bias = True

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(table(N, M))

    def as_inner_product(self, q, k, real=None):
        return InnerProduct(q, k, pair_bias=self.table)


def test_no_gradient_is_lost_silently():
    q, k, v = tokens(2)
    with pytest.raises(InputError, match="Learns's bias of pairs learns, but the fused kernel has no gradient for it"):
        _ = Attention(q, k, Learns()) @ v


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_a_large_table_is_taken_in_rows(mask, monkeypatch):
    """What the kernel adds to the scores, a table beside a mask or a key bias, is written out for some rows only."""
    monkeypatch.setattr("limelight.kernels.tiles._ENTRIES", 100)
    monkeypatch.setattr("limelight.kernels.tiles._LEAST_ROWS", 2)
    q, k, v = tokens(2, 3)
    for similarity in (
        Dot() + Bias(table(3, N, M)),
        Euclidean(1.5) + Bias(table(1, M)),
        Euclidean(1.5) + Bias(table(N, M)),
    ):
        found = []
        for kernel in ("fused", "reference"):
            A = Attention(q, k, similarity, mask=mask, kernel=kernel)
            found.append(torch.autograd.grad((A @ v).square().sum() + A.column_mass().square().sum(), (q, k, v)))
        torch.testing.assert_close(*found)


def test_a_float_mask_needs_no_rectangles():
    q, k, v = (x.detach().float() for x in tokens(2, 3))
    added = table(1, 3, N, M).float().masked_fill(torch.rand(1, 3, N, M) > 0.8, -torch.inf)
    assert Attention(q, k, Dot() + Bias(table(N, M).float())).kernel == "fused"
    right = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=added)
    torch.testing.assert_close(attend(q, k, v, attn_mask=added), right)


def test_its_contract():
    check_similarity(Dot() + Bias(table(11, 14)))
    check_similarity(Scaled(Euclidean(2.0), 0.5) + Scaled(Bias(table(1, 14)), 3.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_the_bias_in_float32(dtype):
    q, k, v = (x.detach().to(dtype) for x in tokens(2, 3))
    bias = 100 + table(N, M)
    right = Attention(q.double(), k.double(), Dot() + Bias(bias)) @ v.double()
    mine = Attention(q, k, Dot() + Bias(bias.float())) @ v
    assert (mine - right).abs().max() <= 4 * torch.finfo(dtype).eps * right.abs().max()


def test_masks_of_one_row_and_of_some_heads_are_never_repeated():
    q, k, v = (x.detach() for x in tokens(2, 3))
    for shape, hidden in itertools.product(
        [(2, 1, 1, M), (1, 1, 1, M), (1, M), (2, 1, N, M), (N, M), (1, 3, N, M)], [0.3, 1.0]
    ):
        allowed = torch.rand(*shape, generator=torch.Generator().manual_seed(3)) > hidden
        found = [Attention(q, k, mask=allowed, kernel=kernel) for kernel in ("fused", "reference")]
        torch.testing.assert_close(found[0] @ v, found[1] @ v)
        torch.testing.assert_close(found[0].column_mass(), found[1].column_mass())


@pytest.mark.parametrize("shape", [(2, 1, 3, N, M), (2, 1, 1, N, M), (1, 2, 3, N, M), (2, 2, 1, 1, M)], ids=str)
def test_a_mask_and_a_table_of_some_of_three_batch_dimensions(shape):
    q, k, v = tokens(2, 2, 3)
    allowed = table(*shape) > -0.5
    for options in ({"mask": allowed}, {"similarity": Dot() + Bias(table(*shape))}):
        found = []
        for kernel in ("fused", "reference"):
            A = Attention(q, k, **options, kernel=kernel)
            out, mass = A @ v, A.column_mass()
            first = torch.autograd.grad(out.square().sum() + mass.square().sum(), (q, k, v), create_graph=True)
            second = torch.autograd.grad(sum(g.square().sum() for g in first), (q, k, v))
            found.append((out, mass, *first, *second))
        torch.testing.assert_close(*found)
