"""Gradient penalties and Hessian-vector products: every kernel agrees with the reference in float64."""

import itertools

import pytest
import torch

from limelight import (
    Attention,
    Dot,
    Euclidean,
    Graph,
    InputError,
    Metric,
    Softmax,
    StudentT,
    attend,
    causal,
    padding,
    window,
)
from limelight.propagation import heat, resolvent, steps
from tests.operator.mechanisms import EVERY_NORMALIZATION, EVERY_SIMILARITY, WIDTH

N = 7
EDGES = torch.stack([torch.arange(N).repeat(2), torch.cat([torch.arange(N), (torch.arange(N) + 3) % N])])
MASKS = {
    "none": None,
    "causal": causal,
    "window": window(3, 1),
    "padding": padding(keys=torch.arange(N) % 4 > 0),
    "boolean": torch.rand(N, N, generator=torch.Generator().manual_seed(4)) > 0.4,
    "graph": Graph(EDGES, N),
}
MEASURES = {
    "out": lambda A, v: A @ v,
    "transposed": lambda A, v: A.T @ v,
    "entropy": lambda A, v: A.entropy(),
    "column mass": lambda A, v: A.column_mass(),
    "free energy": lambda A, v: A.free_energy().masked_fill(A.free_energy().isinf(), 0),
    "position": lambda A, v: A.mean_position(),
    "distance": lambda A, v: A.mean_distance(),
    "strongest": lambda A, v: A.topk(3).weights,
}


def derivatives(similarity, normalization, mask, kernel, measure):
    """The first derivatives, and the second ones by a penalty and by a product with a vector, for all inputs."""
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(3, N, WIDTH, generator=generator).double().requires_grad_() for _ in range(3))
    beta, normalize = EVERY_SIMILARITY[similarity]().double(), EVERY_NORMALIZATION[normalization]().double()
    A = Attention(q, k, beta, normalize, MASKS[mask], kernel=kernel)
    sources = [q, k, v, *(p for p in (*beta.parameters(), *normalize.parameters()) if p.requires_grad)]
    value = MEASURES[measure](A, v).square().sum()
    if not value.requires_grad:
        return []
    first = torch.autograd.grad(value, sources, create_graph=True, allow_unused=True)
    found = [*first]
    penalty = sum(g.square().sum() for g in first if g is not None)
    product = sum((g * torch.randn(g.shape, generator=generator, dtype=g.dtype)).sum() for g in first if g is not None)
    for scalar in (penalty, product):
        if getattr(scalar, "requires_grad", False):
            found += torch.autograd.grad(scalar, sources, allow_unused=True, retain_graph=True)
    return [torch.zeros(1).double() if g is None else g.detach() for g in found]


def check(similarity, normalization, mask, measure, kernel="auto"):
    try:
        expected = derivatives(similarity, normalization, mask, "reference", measure)
    except InputError:
        return False  # a normalization that mixes queries under a causal mask
    try:
        got = derivatives(similarity, normalization, mask, kernel, measure)
    except InputError:
        assert mask == "graph"  # nodes of a graph have no positions
        return False
    # A derivative that is zero, such as that of a mean position with respect to a sink, is found up to the rounding of
    # the others.
    least = 1e-5 * max(1.0, *(float(right.norm()) for right in expected), 0.0)
    for mine, right in zip(got, expected, strict=True):
        scale = max(float(right.norm()), least)
        assert float((mine - right).norm()) <= 1e-8 * scale, (similarity, normalization, mask, measure)
    return bool(expected)


@pytest.fixture
def _blocks(monkeypatch):
    """Small blocks make short sequences go through the loops that long ones need."""
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", 9 * N)  # three rows of three heads
    monkeypatch.setattr("limelight.kernels.online_softmax.ENTRIES", 36)


PAIRS = [
    *itertools.product(["dot", "euclidean", "student"], ["softmax", "alpha=0.4", "entmax"]),
    *(("dot", normalization) for normalization in ("sinkhorn", "hybrid", "topk", "sigmoid", "sink", "scalable")),
    *((similarity, "softmax") for similarity in ("metric", "laplacian", "additive", "dot + alibi")),
    ("student + 0.5 relative", "alpha per head"),
    ("additive", "hybrid"),  # its parameters are in both parts of the mixture
]


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize(("similarity", "normalization"), PAIRS)
def test_second_derivatives_are_the_references(similarity, normalization):
    turn = itertools.cycle(MASKS)
    assert sum(check(similarity, normalization, next(turn), measure) for measure in MEASURES) >= 4


@pytest.mark.parametrize(("similarity", "normalization"), PAIRS[::3])
def test_all_rows_in_one_block(similarity, normalization):
    turn = itertools.cycle(reversed(MASKS))
    assert sum(check(similarity, normalization, next(turn), measure) for measure in MEASURES) >= 4


@pytest.mark.parametrize("kernel", ["fused", "chunked"])
def test_batch_dimensions_of_the_values_alone(kernel):
    q, v = torch.randn(N, 3).double().requires_grad_(), torch.randn(2, 3, N, 4).double()

    def penalty(kernel):
        out, lse = Attention(q, q, kernel=kernel).apply_with_logsumexp(v)
        (gradient,) = torch.autograd.grad(out.square().sum() + lse.square().sum(), q, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), q)[0]

    torch.testing.assert_close(penalty(kernel), penalty("reference"))


@pytest.mark.slow
@pytest.mark.parametrize("similarity", EVERY_SIMILARITY)
def test_every_second_derivative_is_the_references(similarity):
    for normalization, mask, measure in itertools.product(EVERY_NORMALIZATION, MASKS, MEASURES):
        check(similarity, normalization, mask, measure)


@pytest.mark.slow
@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("similarity", EVERY_SIMILARITY)
def test_every_second_derivative_in_blocks(similarity):
    for normalization, mask, measure in itertools.product(EVERY_NORMALIZATION, MASKS, MEASURES):
        check(similarity, normalization, mask, measure)


@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5)], ids=str)
def test_the_chunked_kernel_too_where_it_is_asked_for(similarity):
    name = "dot" if isinstance(similarity, Dot) else "euclidean"
    assert all(check(name, "alpha=1", "padding", measure, kernel="chunked") for measure in MEASURES)


@pytest.mark.parametrize("options", [{"is_causal": True}, {"similarity": StudentT()}], ids=str)
def test_third_derivatives(options):
    q, k, v = (torch.randn(5, 3).double().requires_grad_() for _ in range(3))

    def penalty(x, kernel):
        for _ in range(2):
            (x,) = torch.autograd.grad(x.square().sum(), q, create_graph=True)
        return torch.autograd.grad(x.square().sum(), q)[0]

    mine, right = (penalty(attend(q, k, v, **options, kernel=kernel), kernel) for kernel in ("auto", "reference"))
    torch.testing.assert_close(mine, right, rtol=1e-9, atol=1e-12)


def test_queries_that_are_the_keys_and_a_parameter_behind_both():
    """One tensor in several places, all of which depend on the parameter: no gradient is counted twice."""
    weight = torch.nn.Parameter(torch.eye(4).double() + 0.1 * torch.randn(4, 4).double())
    x = torch.randn(7, 4).double()
    found = []
    for kernel in ("auto", "chunked", "reference"):
        phi = torch.nn.Linear(4, 4, bias=False).double()
        phi.weight = weight
        h = x @ weight
        out = Attention(h, h, Metric(phi), Softmax(1.0), kernel=kernel) @ h
        (g,) = torch.autograd.grad(out.square().sum(), weight, create_graph=True)
        found.append(torch.autograd.grad(g.square().sum(), weight)[0])
    torch.testing.assert_close(found[0], found[2], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found[1], found[2], rtol=1e-9, atol=1e-10)


def test_an_ordinary_backward_pass_uses_torchs_derivative(monkeypatch):
    for name in ("InnerProductScores", "ChunkedScores"):
        module = "fused" if name == "InnerProductScores" else "chunked"

        def never(*_):
            raise AssertionError("the slow gradients were asked for")

        monkeypatch.setattr(f"limelight.kernels.{module}.{name}.gradients_by_rows", never)
    q, k, v = (torch.randn(9, 4, requires_grad=True) for _ in range(3))
    for similarity in (Dot(), Euclidean(), StudentT()):
        A = Attention(q, k, similarity, Softmax(1.0))
        ((A @ v).sum() + A.entropy().sum() + (A.T @ v).sum()).backward()
        attend(q, k, v, similarity=similarity).sum().backward()


@pytest.mark.parametrize(
    ("process", "dense"),
    [
        (lambda A, h: resolvent(A, h, 0.6), lambda P, h: 0.4 * torch.linalg.solve(torch.eye(4).double() - 0.6 * P, h)),
        (lambda A, h: heat(A, h, 0.7), lambda P, h: torch.linalg.matrix_exp(0.7 * (P - torch.eye(4).double())) @ h),
        (lambda A, h: steps(A, h, 3), lambda P, h: P @ P @ P @ h),
    ],
    ids=["resolvent", "heat", "steps"],
)
def test_processes(process, dense):
    q, h = torch.randn(4, 2).double().requires_grad_(), torch.randn(4, 1).double().requires_grad_()
    found = []
    for apply, kernel in ((process, "auto"), (lambda A, h: dense(A.dense(), h), "reference")):
        out = apply(Attention(q, 2 * q, Euclidean(1.5), Softmax(1.0), kernel=kernel), h)
        first = torch.autograd.grad(out.square().sum(), (q, h), create_graph=True)
        found.append((*first, *torch.autograd.grad(sum(g.square().sum() for g in first), (q, h))))
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)
