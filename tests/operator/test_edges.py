"""On a graph everything is computed along its edges, and equals the result with a boolean mask of the same pairs."""

import pytest
import torch

from limelight import (
    GAT,
    Attention,
    Boolean,
    Dot,
    Entmax,
    Euclidean,
    Graph,
    Hybrid,
    RowWise,
    Sigmoid,
    Sinkhorn,
    Softmax,
    Sparsemax,
    TopK,
)
from limelight.kernels.sparse import EdgeScores

N, M, D = 13, 11, 4


def graphs():
    draw = torch.Generator().manual_seed(3)
    some = torch.stack([torch.randint(N, (40,), generator=draw), torch.randint(M, (40,), generator=draw)])
    hub = torch.stack([torch.full((M,), 4), torch.arange(M)])
    return {
        "some": some,
        "with a hub and queries that see nothing": torch.cat([some[:, :6], hub], 1),
        "one edge": torch.tensor([[2], [5]]),
        "all": torch.cartesian_prod(torch.arange(N), torch.arange(M)).T,
        "none": torch.zeros(2, 0, dtype=torch.long),
    }


class PlusOne(RowWise):
    """A user's normalization that depends on the number of keys, masked ones included."""

    def thresholds(self, s):
        return s.new_full((*s.shape[:-1], 1), float(s.shape[-1])) + s.logsumexp(-1, keepdim=True).clamp(min=-9)

    def weights(self, s, t):
        return (s - t).exp()


GRAPHS = graphs()
NORMALIZATIONS = {
    "softmax": Softmax(),
    "alpha": Softmax(0.5),
    "sinkhorn": Sinkhorn(2),
    "hybrid": Hybrid().double(),
    "sparsemax": Sparsemax(),
    "entmax": Entmax(1.5),
    "top-k": TopK(2),
    "sigmoid": Sigmoid(),
    "sigmoid, bias": Sigmoid(0.3),
    "from outside": PlusOne(),
}
ALONG = [name for name in NORMALIZATIONS if name != "from outside"]


def operators(name, graph, *tokens):
    edges = GRAPHS[graph]
    allowed = torch.zeros(N, M, dtype=torch.bool)
    allowed[edges[0], edges[1]] = True
    masks = Graph(edges, (N, M)), Boolean(allowed)
    kernels = "auto", "reference"
    return [Attention(*tokens, Euclidean(1.5), NORMALIZATIONS[name], mask, kernel=kernel)
            for mask, kernel in zip(masks, kernels, strict=True)]  # fmt: skip


def tokens(batch=(2,)):
    return [torch.randn(*batch, length, D).double().requires_grad_() for length in (N, M, M, N)]


MEASURES = {
    "applied": lambda A, v, w: A @ v,
    "transposed": lambda A, v, w: A.T @ w,
    "column mass": lambda A, v, w: A.column_mass(),
    "entropy": lambda A, v, w: A.entropy(),
    "free energy": lambda A, v, w: A.free_energy(),
    "position": lambda A, v, w: A.mean_position(),
    "distance": lambda A, v, w: A.mean_distance(2),
    "strongest": lambda A, v, w: A.topk(3).weights,
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_it_is_what_a_boolean_mask_gives_with_its_gradients(name, graph, measure):
    q, k, v, w = tokens()
    found, expected = (MEASURES[measure](A, v, w) for A in operators(name, graph, q, k))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    finite = expected.isfinite()
    if not finite.any() or not expected.requires_grad:
        return
    gradients = [
        torch.autograd.grad(x[finite].sin().sum(), (q, k), allow_unused=True, materialize_grads=True)
        for x in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ALONG)
def test_second_derivatives(name):
    q, k, v, _ = tokens(())

    def out(q, k, v):
        return operators(name, "some", q, k)[0] @ v

    assert torch.autograd.gradgradcheck(out, (q, k, v), fast_mode=True)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", ALONG)
def test_no_row_is_written_out(monkeypatch, name, measure):
    monkeypatch.setattr(EdgeScores, "block", None)
    q, k, v, w = tokens()
    MEASURES[measure](operators(name, "some", q, k)[0], v, w)


def test_the_largest_weights_and_their_keys():
    q, k, *_ = tokens()
    found, expected = (A.topk(3) for A in operators("softmax", "with a hub and queries that see nothing", q, k))
    assert torch.equal(found.keys, expected.keys)
    assert (found.keys[:, 12] == -1).all()


def test_half_precision_and_other_similarities():
    q, k, v, _ = (x.detach() for x in tokens())
    mask = Graph(GRAPHS["some"], (N, M))
    for similarity in (Dot(), GAT(D).double()):
        A = Attention(q, k, similarity, Sparsemax(), mask)
        torch.testing.assert_close(A @ v, A.dense() @ v)
    low = Attention(q.bfloat16(), k.bfloat16(), Dot(), Sparsemax(), mask) @ v.bfloat16()
    torch.testing.assert_close(low.double(), Attention(q, k, Dot(), Sparsemax(), mask) @ v, rtol=0.1, atol=0.1)
