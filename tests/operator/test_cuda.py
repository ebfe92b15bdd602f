"""On a GPU: every similarity and normalization under every kind of mask, compared with the formula in float64.

Skipped where there is no GPU. `python -m pytest --noconftest tests/operator/test_cuda.py` needs torch, jaxtyping and
pytest alone.
"""

import pytest
import torch

from limelight import (
    GAT,
    ALiBi,
    Attention,
    Dot,
    Euclidean,
    Graph,
    InputError,
    RelativeBias,
    SoftCap,
    Softmax,
    StudentT,
    attend,
    causal,
    padding,
    window,
)
from tests.operator.mechanisms import NORMALIZATIONS, SIMILARITIES, WIDTH

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

N, M, HEADS = 150, 150, 3
MASKS = {
    "none": lambda device: None,
    "causal": lambda device: causal,
    "window": lambda device: window(20, 20),
    "padding": lambda device: padding(
        keys=(torch.arange(M, device=device) < 120).expand(2, 1, M),
        queries=(torch.arange(N, device=device) < 120).expand(2, 1, N),
    ),
    "boolean": lambda device: (torch.arange(N, device=device)[:, None] * 7 + torch.arange(M, device=device)) % 3 > 0,
    "graph": lambda device: Graph(edges().to(device), (N, M)),
}


def edges():
    query = torch.arange(3 * N)
    return torch.stack([query % N, (7 * query + query // N) % M])


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def found(device, dtype, operands, similarity, normalization, mask, kernel):
    """The output, the measures and the gradients for q, k and v, in float64 on the CPU."""
    q, k, v = (x.to(device, dtype).requires_grad_() for x in operands)
    A = Attention(q, k, similarity.to(device), normalization.to(device), mask, kernel=kernel)
    out = A @ v
    gradients = torch.autograd.grad(
        out.float().square().sum() if dtype != torch.float64 else out.square().sum(), (q, k, v)
    )
    with torch.no_grad():
        measures = A.entropy(), A.column_mass()
    return [x.detach().double().cpu() for x in (out, *measures, *gradients)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_it_is_the_formula(similarity, normalization, mask, dtype):
    torch.manual_seed(0)
    operands = [torch.randn(2, HEADS, length, WIDTH).to(dtype).double() for length in (N, M, M)]
    own = SIMILARITIES[similarity].make().to(torch.float64), NORMALIZATIONS[normalization].make()
    try:
        right = found("cpu", torch.float64, operands, *own, MASKS[mask]("cpu"), "reference")
    except InputError as error:
        pytest.skip(str(error))
    own = SIMILARITIES[similarity].make().to(dtype), NORMALIZATIONS[normalization].make()
    plain = found("cuda", dtype, operands, *own, MASKS[mask]("cuda"), "reference")
    mine = found("cuda", dtype, operands, *own, MASKS[mask]("cuda"), "auto")
    for what, a, b, truth in zip(("out", "entropy", "mass", "dq", "dk", "dv"), mine, plain, right, strict=True):
        error, allowed = ((x - truth).norm() / truth.norm() for x in (a, b))
        assert error <= 8 * allowed + 32 * torch.finfo(dtype).eps, what


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mask", ["none", "causal", "padding"])
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(2.0), StudentT()], ids=repr)
@pytest.mark.parametrize("d", [40, 64, 128])
def test_on_the_widths_and_lengths_of_models(similarity, mask, dtype, d):
    torch.manual_seed(0)
    length = 1000
    q, k, v = (torch.randn(1, 4, length, d, device="cuda").to(dtype).requires_grad_() for _ in range(3))
    hidden = {"none": None, "causal": causal, "padding": padding(keys=torch.arange(length, device="cuda") < 900)}[mask]
    results = []
    for kernel in ("auto", "reference"):
        x = (q, k, v) if kernel == "auto" else tuple(t.detach().double().requires_grad_() for t in (q, k, v))
        out = attend(*x, similarity=similarity, mask=hidden, kernel=kernel)
        results.append((out, *torch.autograd.grad(out.square().sum(), x)))
    torch.cuda.empty_cache()
    for mine, right in zip(*results, strict=True):
        assert (mine - right).norm() / right.norm() <= 32 * torch.finfo(dtype).eps


@pytest.mark.parametrize("similarity", [Dot(), Euclidean(2.0), StudentT()], ids=repr)
@pytest.mark.parametrize("normalization", [Softmax(), Softmax(1.0)], ids=repr)
@pytest.mark.parametrize("kernel", ["auto", "chunked"])
def test_second_derivatives(similarity, normalization, kernel):
    torch.manual_seed(0)
    tensors = [torch.randn(2, 40, 6, device="cuda").requires_grad_() for _ in range(3)]
    results = []
    for dtype, used in ((torch.float32, kernel), (torch.float64, "reference")):
        q, k, v = x = [t.detach().to(dtype).requires_grad_() for t in tensors]
        out = Attention(q, k, similarity, normalization, kernel=used) @ v
        gradients = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in gradients), x))
    for mine, right in zip(*results, strict=True):
        assert (mine - right).norm() / right.norm() <= 1e-4


FLEX = {
    "student": lambda: StudentT(torch.nn.Parameter(torch.tensor([1.0, 3.0]))),
    "gat": lambda: GAT(64),
    "alibi": lambda: Dot() + ALiBi(2),
    "relative": lambda: Dot() + random_table(RelativeBias(64, 2)),
    "cap": lambda: SoftCap(Euclidean(8.0), 5.0),
}


def random_table(bias):
    torch.nn.init.normal_(bias.table)
    return bias


@pytest.mark.filterwarnings("default")  # torch's compiler warns of what it uses itself
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mask", ["none", "causal", "padding", "alpha"])
@pytest.mark.parametrize("similarity", FLEX)
def test_flex_attention(similarity, mask, dtype):
    """FlexAttention's output, measures and gradients, of what is learned too, beside those of the chunked kernel."""
    torch.compiler.reset()  # one process may compile FlexAttention a few times only
    torch.manual_seed(0)
    own = FLEX[similarity]().cuda()
    length = 500
    real = (torch.arange(length, device="cuda") < 400).expand(2, 1, length)
    hidden = {"causal": causal, "padding": padding(keys=real, queries=real)}.get(mask)
    tensors = [torch.randn(2, 2, length, 64, device="cuda").to(dtype) for _ in range(3)]
    results = []
    for kernel, cast in (("flex", dtype), ("chunked", dtype), ("chunked", torch.float64)):
        q, k, v = (x.to(cast).requires_grad_() for x in tensors)
        A = Attention(q, k, own.to(cast), Softmax(0.5 if mask == "alpha" else 0.0), hidden, kernel=kernel)
        out = A @ v
        learned = [p for p in own.parameters() if p.requires_grad]
        loss = out.to(torch.promote_types(cast, torch.float32)).square().sum()
        results.append([out, A.column_mass(), *torch.autograd.grad(loss, (q, k, v, *learned))])
        own = own.to(torch.float32)
    for mine, other, right in zip(*results, strict=True):
        error, allowed = ((x.double() - right).norm() / right.norm().clamp(min=1e-6) for x in (mine, other))
        assert error <= 4 * allowed + 16 * torch.finfo(dtype).eps


def test_memory_is_linear_in_length():
    q, k, v = (torch.randn(1, 1, 32768, 64, device="cuda", requires_grad=True) for _ in range(3))
    for similarity in (Dot(), Euclidean(), StudentT()):
        torch.cuda.reset_peak_memory_stats()
        (attend(q, k, v, similarity=similarity).square().sum()).backward()
        assert torch.cuda.max_memory_allocated() < 1.5e9  # the matrix is 4.3 GB
