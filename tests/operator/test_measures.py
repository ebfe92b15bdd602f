"""Measures in linear memory against the dense matrix; sparse attention against dense; documents against each alone."""

import subprocess
import sys

import pytest
import torch

from limelight import (
    Additive,
    Attention,
    Dot,
    Entmax,
    Euclidean,
    Graph,
    Hybrid,
    InputError,
    KernelError,
    RelativeBias,
    Sigmoid,
    Sinkhorn,
    Softmax,
    StudentT,
    TopK,
    attend,
    causal,
    documents,
    padding,
    window,
)
from limelight.kernels import online_softmax, row_statistics

N = 9
NORMALIZATIONS = [Softmax(), Softmax(1.0), Sinkhorn(2), Entmax(), TopK(3), Sigmoid(), Hybrid().double()]


def operands(*batch, n=N, m=N, d=4):
    return (torch.randn(*batch, length, d, dtype=torch.float64) for length in (n, m))


def attentions(n=N, m=N):
    q, k = operands(2, 3, n=n, m=m)
    for normalization in NORMALIZATIONS:
        for similarity in (Dot(), StudentT(2.0)):
            yield Attention(q, k, similarity, normalization, padding(keys=torch.arange(m) % 4 > 0))


@pytest.fixture(params=[1 << 20, 30])
def _entries(request, monkeypatch):
    monkeypatch.setattr(online_softmax, "ENTRIES", request.param)
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", request.param)


@pytest.mark.usefixtures("_entries")
def test_position_distance_and_the_strongest_keys():
    i, j = torch.arange(7)[:, None], torch.arange(N)
    for A in attentions(7):
        P = A.dense()
        mean = P / P.sum(-1, keepdim=True)
        torch.testing.assert_close(A.mean_position(), mean @ j.double())
        torch.testing.assert_close(A.mean_distance(), (mean * (i - j).abs()).sum(-1))
        torch.testing.assert_close(A.mean_distance(offset=2), (mean * (i + 2 - j).abs()).sum(-1))
        weights, keys = A.topk(4)
        right = P.topk(4)
        torch.testing.assert_close(weights, right.values)
        assert torch.equal(keys, right.indices.masked_fill(right.values == 0, -1))


def test_measures_without_gradients_are_not_reused_for_gradients():
    q, k = (x.requires_grad_() for x in operands(2))
    A = Attention(q, k)
    A.irreversibility()
    assert (A.T @ q.detach()).requires_grad
    assert A.topk(2).weights.requires_grad


def test_a_query_that_sees_no_key_has_zero_measures():
    q, k = operands(2)
    A = Attention(q, k, mask=(torch.arange(N) != 3)[:, None])
    assert (A.mean_position()[:, 3] == 0).all()
    assert (A.mean_distance()[:, 3] == 0).all()
    assert (A.topk(2).keys[:, 3] == -1).all()


@pytest.mark.usefixtures("_entries")
def test_measures_have_gradients():
    q, k = (x.requires_grad_() for x in operands(2))
    for normalization in (Softmax(), Entmax()):

        def of(q, k, normalization=normalization):
            A = Attention(q, k, Dot(), normalization)
            return A.mean_position(), A.mean_distance(), A.topk(2).weights

        assert torch.autograd.gradcheck(of, (q, k), fast_mode=True, atol=1e-5)


@pytest.mark.usefixtures("_entries")
def test_irreversibility():
    for A in attentions():
        if isinstance(A.normalization, Entmax | TopK):
            continue  # with few edges the walk may have separate parts
        A = Attention(A.q, A.k, A.similarity, A.normalization)
        if isinstance(A.normalization, Sigmoid):
            with pytest.raises(InputError, match="rows that sum to one"):
                A.irreversibility()
            continue
        P = A.dense()
        flow = torch.linalg.matrix_power(P, 4096).mean(-2)
        F = flow[..., None] * P
        torch.testing.assert_close(A.irreversibility(), 0.5 * (F - F.mT).abs().sum((-2, -1)), rtol=0, atol=1e-3)
    (x, _) = operands(2)
    for similarity in (Dot(), Euclidean(2.0), StudentT()):
        assert (Attention(x, x, similarity).irreversibility() < 1e-3).all()
        assert (Attention(x, x.roll(1, -1), Dot(), scale=0.4).irreversibility() > 1e-2).all()
    with pytest.raises(InputError, match="expects a symmetric mask"):
        Attention(x, x, mask=causal).irreversibility()
    with pytest.raises(InputError, match="n = m, got 9 queries and 5 keys"):
        Attention(x, x[:, :5]).irreversibility()
    assert Attention(x, x, mask=window(2, 2)).irreversibility().shape == (2,)
    with pytest.raises(InputError, match="from 1 to the 9 keys, got 10"):
        Attention(x, x).topk(10)


@pytest.mark.usefixtures("_entries")
@pytest.mark.parametrize("mask", [None, causal, window(2, 1), padding(keys=torch.arange(N) % 4 > 0)], ids=repr)
@pytest.mark.parametrize("normalization", [Softmax(), Softmax(0.5), Sinkhorn(2)], ids=repr)
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5)], ids=repr)
def test_statistics_in_one_walk_are_those_of_the_reference(similarity, normalization, mask, monkeypatch):
    if mask in (causal,) and normalization.uses_column_sums:
        return
    walked = []
    monkeypatch.setattr("limelight.kernels.fused._STATISTICS_FROM", 1)
    monkeypatch.setattr(row_statistics, "_WIDTH", 4)
    monkeypatch.setattr(row_statistics, "_ENTRIES", 60)
    walk = row_statistics.entropy_and_mass
    monkeypatch.setattr("limelight.kernels.fused.entropy_and_mass", lambda *given: walked.append(1) or walk(*given))
    for applied, (q, k) in (
        (False, operands(2, 3, n=7)),
        (True, operands(2, 3, n=7)),
        (True, (50 + x for x in operands(1, n=8))),
    ):
        mine, right = (
            Attention(q, k, similarity, normalization, mask, kernel=kernel) for kernel in ("fused", "reference")
        )
        if applied:  # this stores the log-normalizer, which has no gradient although the values have one
            mine @ k.clone().requires_grad_()
        for statistic in ("entropy", "column_mass", "logsumexp", "free_energy"):
            torch.testing.assert_close(getattr(mine, statistic)(), getattr(right, statistic)())
    assert len(walked) == 3
    q, k = (x.requires_grad_() for x in operands(2))
    assert Attention(q, k).entropy().requires_grad
    with torch.no_grad():
        torch.testing.assert_close(Attention(q, k).entropy(), Attention(q, k, kernel="reference").entropy())
    assert len(walked) == 4


EDGES = torch.randint(0, N, (2, 30), generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("_entries")
@pytest.mark.parametrize("normalization", [Softmax(), Softmax(0.5), Sinkhorn(2), TopK(2)], ids=repr)
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5), StudentT(2.0), Additive(4, hidden=3).double()], ids=repr)
def test_a_graph_is_the_matrix_of_its_edges(similarity, normalization):
    v, w = torch.randn(2, 3, N, 5).double(), torch.randn(3, N, 2).double()
    keys = torch.arange(N) != 4
    every = []
    for mask, kernel in ((Graph(EDGES, N) & padding(keys=keys), "auto"), (None, "reference")):
        q, k = (
            x.requires_grad_() for x in torch.randn(2, 2, 3, N, 4, generator=torch.Generator().manual_seed(1)).double()
        )
        if mask is None:
            mask = torch.zeros(N, N, dtype=torch.bool)
            mask[EDGES[0], EDGES[1]] = True
            mask = mask & keys
        A = Attention(q, k, similarity, normalization, mask, kernel=kernel)
        assert A.kernel == ("sparse" if kernel == "auto" else kernel)
        outputs = [A @ v, A.T @ w, A.entropy(), A.column_mass(), A.topk(2).weights]
        loss = sum((x * torch.linspace(-1, 1, x.numel()).double().view(x.shape)).sum() for x in outputs)
        learned = [p for p in similarity.parameters() if p.requires_grad]
        every.append([*outputs, *torch.autograd.grad(loss, (q, k, *learned))])
    for mine, right in zip(*every, strict=True):
        torch.testing.assert_close(mine, right)


def test_a_graph_with_unsuitable_mechanisms_and_masks():
    (q, k), v = operands(2), torch.randn(2, N, 3).double()
    graph = Graph(EDGES, N)
    with pytest.raises(KernelError, match="needs a Graph as its mask"):
        Attention(q, k, kernel="sparse")
    with pytest.raises(InputError, match="nodes of a graph have no positions"):
        _ = Attention(q, k, Dot() + RelativeBias(2).double(), mask=graph) @ v
    with pytest.raises(InputError, match="the graph has 9 queries and 9 keys, q and k have 9 and 5"):
        Attention(q, k[:, :5], mask=graph)
    batched = padding(keys=torch.rand(2, N) > 0.5)  # has no list of edges, so it is computed in rectangles
    A, B = (Attention(q, k, mask=graph & batched, kernel=kernel) for kernel in ("auto", "reference"))
    assert A.kernel == "fused"
    torch.testing.assert_close(A @ v, B @ v)


LARGE = """
import resource, torch
from limelight import Euclidean, Graph, attend
n, e = 100_000, 1_000_000
q, k, v = (torch.randn(n, 16, requires_grad=True) for _ in range(3))
out = attend(q, k, v, mask=Graph(torch.randint(0, n, (2, e)), n), similarity=Euclidean(4.0))
out.sum().backward()
assert q.grad.isfinite().all() and out.shape == (n, 16)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_a_graph_of_a_million_edges():
    """An n×n array of booleans would take 10 GB."""
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 3000


def test_documents_are_each_its_own():
    ids = torch.tensor([0, 0, 0, 3, 3, 7, 7, 7, 7])
    (q, k), v = operands(2), torch.randn(2, N, 3).double()
    for similarity in (Dot(), StudentT()):
        out = attend(q, k, v, mask=documents(ids) & causal, similarity=similarity)
        for part in (slice(0, 3), slice(3, 5), slice(5, 9)):
            alone = attend(q[:, part], k[:, part], v[:, part], is_causal=True, similarity=similarity)
            torch.testing.assert_close(out[:, part], alone)
    per_batch = torch.stack([ids, ids.flip(0)])
    A, B = (Attention(q, k, mask=documents(per_batch), kernel=kernel) for kernel in ("auto", "reference"))
    torch.testing.assert_close(A @ v, B @ v)
