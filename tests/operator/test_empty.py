"""No queries, no keys, no batch: outputs and measures of the right shape, zero, or −∞ where nothing is summed."""

import itertools

import pytest
import torch

from limelight import Attention, Dot, Euclidean, InputError, Sinkhorn, SymmetricSinkhorn, causal, padding
from tests.operator.mechanisms import EVERY_NORMALIZATION, EVERY_SIMILARITY, WIDTH

SHAPES = {"no queries": (2, 0, 5), "no keys": (2, 5, 0), "neither": (2, 0, 0), "no batch": (0, 4, 5)}
NORMALIZATIONS = EVERY_NORMALIZATION | {"sinkhorn to a tolerance": lambda: Sinkhorn(tolerance=1e-2)}


def check(A, q, k, v, w):
    *batch, n, m = A.shape
    per_query = [A.entropy(), A.mean_position(), A.mean_distance(), A.free_energy()]
    assert all(x.shape == (*batch, n) for x in per_query)
    assert A.column_mass().shape == (*batch, m)
    assert A.dense().shape == A.shape
    outputs = A @ v, A.T @ w, A.apply_with_dropout(v, 0.3)
    assert [x.shape[-2] for x in outputs] == [n, m, n]
    assert all((x == 0).all() for x in (*outputs, *per_query[:3], A.column_mass()))
    assert (per_query[3] == torch.inf).all()
    total = sum(x.sum() for x in (*outputs, *per_query[:3], A.column_mass()))
    for gradient in torch.autograd.grad(total, (q, k, v), allow_unused=True):
        assert gradient is None or (gradient == 0).all()


def check_all(normalization, kernel, cases):
    for (batch, n, m), (similarity, mask) in itertools.product(SHAPES.values(), cases):
        q, k, v, w = (torch.randn(batch, 3, size, WIDTH).double().requires_grad_() for size in (n, m, m, n))
        given = None if mask is None else padding(keys=torch.ones(m, dtype=torch.bool))
        A = Attention(q, k, EVERY_SIMILARITY[similarity](), NORMALIZATIONS[normalization](), given, kernel=kernel)
        check(A, q, k, v, w)


@pytest.mark.parametrize("kernel", ["auto", "chunked", "reference"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_normalization(normalization, kernel):
    check_all(normalization, kernel, [("dot", None), ("student", "padding")])


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["auto", "chunked", "reference"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_normalization_with_the_mask_of_the_other(normalization, kernel):
    check_all(normalization, kernel, [("dot", "padding"), ("student", None)])


@pytest.mark.parametrize("similarity", EVERY_SIMILARITY)
def test_every_similarity(similarity):
    for batch, n, m in SHAPES.values():
        q, k, v, w = (torch.randn(batch, 3, size, WIDTH).double().requires_grad_() for size in (n, m, m, n))
        check(Attention(q, k, EVERY_SIMILARITY[similarity](), mask=causal), q, k, v, w)


def test_the_rest():
    q = torch.randn(0, 4)
    assert (Attention(q, q, Dot(), SymmetricSinkhorn()) @ q).shape == (0, 4)
    assert float(Attention(q, q).irreversibility()) == 0
    assert Attention(q, torch.randn(3, 4)).topk(2).keys.shape == (0, 2)
    with pytest.raises(InputError, match="from 1 to the 0 keys"):
        Attention(torch.randn(3, 4), q).topk(1)
    assert (Attention(torch.randn(3, 4), q).logsumexp() == -torch.inf).all()


def test_a_learned_scale_has_a_gradient_beside_queries_without_keys():
    bandwidth = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    q, k = torch.randn(6, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    real = torch.arange(6) < 4
    whole, some = (
        Attention(x, k, Euclidean(bandwidth), mask=mask).free_energy()
        for x, mask in ((q, padding(queries=real)), (q[real], None))
    )
    assert (whole[~real] == torch.inf).all()
    found, right = (torch.autograd.grad(x.sum(), bandwidth) for x in (whole[real], some))
    torch.testing.assert_close(found, right)
