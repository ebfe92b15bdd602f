"""FlexAttention's path, compared with the formula: here with its definition in place of the compiled kernel.

FlexAttention has no derivative on the CPU. So the tests give the functions of pairs to a dense computation of what
FlexAttention is defined to compute. On a GPU `test_cuda.py` runs the kernel itself.
"""

import itertools

import pytest
import torch

from limelight import (
    GAT,
    Additive,
    ALiBi,
    Attention,
    Boolean,
    Convolution,
    Dot,
    Entmax,
    Euclidean,
    Hybrid,
    KernelError,
    Laplacian,
    RelativeBias,
    Scaled,
    SoftCap,
    Softmax,
    StudentT,
    attend,
    causal,
    padding,
    window,
)
from limelight.kernels import flex

N, M, HEADS, D = 9, 9, 2, 4
calls = []


def dense_attention(q, k, v, score_mod, block_mask):
    """The definition of FlexAttention: softmax over columns of score_mod(⟨q, k⟩, batch, head, row, column)."""
    calls.append(score_mod)
    s = q.float() @ k.float().mT
    b, h, i, j = torch.meshgrid(*(torch.arange(size) for size in s.shape), indexing="ij")
    s = score_mod(s, b, h, i, j)
    if block_mask is not None:
        s = s.masked_fill(~block_mask.mask_mod(b, h, i, j), float("-inf"))
    empty = (s == float("-inf")).all(-1, keepdim=True)
    weights = s.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
    lse = torch.where(empty[..., 0], float("-inf"), s.masked_fill(empty, 0).logsumexp(-1))
    return (weights @ v.float()).to(v.dtype), lse


@pytest.fixture(autouse=True)
def definition(monkeypatch):
    calls.clear()
    monkeypatch.setattr(flex, "_DEVICES", ("cpu",))
    monkeypatch.setattr(flex, "_DTYPES", (torch.bfloat16, torch.float16, torch.float32))
    monkeypatch.setattr(flex, "_attention", dense_attention)


def relative():
    bias = RelativeBias(3, HEADS)
    torch.nn.init.normal_(bias.table)
    return bias


SIMILARITIES = {
    "dot": Dot,
    "euclidean": lambda: Euclidean(1.5),
    "student": StudentT,
    "student by head": lambda: StudentT(torch.nn.Parameter(torch.tensor([1.0, 3.0]))),
    "gat": lambda: GAT(D),
    "alibi": lambda: Dot() + ALiBi(HEADS),
    "relative": lambda: Dot() + relative(),
    "positions alone": relative,
    "convolution": lambda: Euclidean() + Convolution(torch.tensor([1.0, -1.0])),
    "soft cap": lambda: SoftCap(Euclidean() + Scaled(ALiBi(HEADS, offset=2), torch.tensor([0.5, 2.0])), 3.0),
    "two biases": lambda: Dot() + Scaled(relative(), torch.nn.Parameter(torch.tensor(0.7))) + ALiBi(HEADS),
}
MASKS = {
    "none": None,
    "causal": causal,
    "window and padding": window(2, 3) & padding(keys=(torch.arange(M) < 7).expand(2, 1, M)),
    "padding of both": padding(
        keys=(torch.arange(M) > 1).expand(2, 1, M), queries=(torch.arange(N) < 7).expand(2, 1, N)
    ),
    "pairs": Boolean((torch.arange(N)[:, None] * 7 + torch.arange(M)) % 3 > 0),
    "pairs of heads": Boolean(torch.arange(2 * HEADS * N * M).reshape(2, HEADS, N, M) % 5 > 0),
}
NORMALIZATIONS = {"softmax": Softmax(), "alpha": Softmax(0.6), "hybrid": Hybrid(HEADS), "entmax": Entmax(1.5)}


def results(similarity, normalization, mask, kernel, dtype=torch.float32):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, length, D).to(dtype).requires_grad_() for length in (N, M, M))
    if kernel == "reference":
        q, k, v = (x.detach().float().requires_grad_() for x in (q, k, v))
    A = Attention(q, k, similarity, normalization, mask, kernel=kernel)
    out = A @ v
    learned = [p for p in similarity.parameters() if p.requires_grad]
    found = torch.autograd.grad(
        out.float().square().sum() + A.free_energy().clamp(-9, 9).sum(), (q, k, v, *learned), allow_unused=True
    )
    return [out, A.entropy(), A.column_mass(), *(x for x in found if x is not None)]


QUICK = {*((name, "window and padding") for name in SIMILARITIES), *(("soft cap", name) for name in MASKS)}


@pytest.mark.parametrize(
    ("similarity", "mask"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in itertools.product(SIMILARITIES, MASKS)
    ],
)
def test_it_is_the_formula(similarity, mask):
    torch.manual_seed(1)
    own = SIMILARITIES[similarity]()
    mine = results(own, Softmax(), MASKS[mask], "flex")
    assert bool(calls) == (similarity not in ("relative", "positions alone", "two biases"))
    right = results(own, Softmax(), MASKS[mask], "reference")
    for a, b in zip(mine, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("similarity", ["student", "alibi"])
def test_every_kind_of_normalization(similarity, normalization):
    own = SIMILARITIES[similarity]()
    mine, right = (results(own, NORMALIZATIONS[normalization], None, kernel) for kernel in ("flex", "reference"))
    for a, b in zip(mine, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("similarity", ["student", "euclidean", "gat"])
def test_biases_keep_float32s_accuracy_in_half_precision(similarity, dtype):
    own = SIMILARITIES[similarity]()
    torch.manual_seed(0)
    q, k = (30 * torch.randn(1, HEADS, N, D).to(dtype) for _ in range(2))
    factors = own.pair_function(q, k).factors
    left, right = flex._Columns.apply(factors.q, factors.k, factors.query_bias, factors.key_bias)
    assert left.dtype == right.dtype == dtype
    found = left.double() @ right.double().mT
    terms = factors.query_bias[..., :, None].double(), factors.key_bias[..., None, :].double()
    expected = factors.q.double() @ factors.k.double().mT + sum(terms)
    assert (found - expected).abs().max() <= 4e-7 * max(term.abs().max() for term in terms)


@pytest.mark.parametrize("shape", [(), (HEADS,), (3, 2, HEADS)])
@pytest.mark.parametrize("name", ["student", "relative", "two biases", "positions alone"])
@torch.no_grad()
def test_any_batch_dimensions_and_tables_that_do_not_learn(name, shape):
    torch.manual_seed(0)
    q, k, v = (torch.randn(*shape, length, D) for length in (N, M, M))
    if name != "student" and not shape:
        q = q.expand(HEADS, N, D)
    own = SIMILARITIES[name]()
    mine, right = (attend(q, k, v, similarity=own, kernel=kernel) for kernel in ("flex", "reference"))
    assert calls
    torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5)


def test_what_it_cannot_do_is_said(monkeypatch):
    q = torch.randn(1, HEADS, N, D)
    for similarity in (Laplacian(), Additive(D), StudentT() + StudentT(), Dot() + StudentT()):
        with pytest.raises(KernelError, match="not a function of an inner product and of positions"):
            Attention(q, q, similarity, kernel="flex")
    with pytest.raises(KernelError, match="not torch\\.float64"):
        Attention(q.double(), q.double(), StudentT(), kernel="flex")
    with monkeypatch.context() as older:
        older.delattr(flex.flex_attention, "AuxRequest")
        with pytest.raises(KernelError, match="has no AuxRequest"):
            Attention(q, q, StudentT(), kernel="flex")
    monkeypatch.undo()
    with pytest.raises(KernelError, match="not on cpu"):
        Attention(q, q, StudentT(), kernel="flex")


def test_a_similarity_with_another_formula_loses_the_function():
    class Narrower(StudentT):
        def dense(self, q, k):
            return 2 * super().dense(q, k)

    q = torch.randn(1, HEADS, N, D)
    with pytest.raises(KernelError, match="Narrower is not a function"):
        Attention(q, q, Narrower(), kernel="flex")


def test_too_many_compilations_are_explained(monkeypatch):
    class RecompileLimitError(Exception):
        pass

    def refuses(*_, **__):
        raise RecompileLimitError

    monkeypatch.undo()
    monkeypatch.setattr(flex, "_compiled", lambda: refuses)
    with pytest.raises(KernelError, match="recompile_limit"):
        flex._attention(*(torch.zeros(1, 1, 2, 16) for _ in range(3)), None, None)
