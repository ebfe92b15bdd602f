"""Every similarity and normalization beyond the first: against the oracle, by finite differences, and by the laws."""

import math

import pytest
import torch

from limelight import (
    Attention,
    Bias,
    Dot,
    Euclidean,
    Graph,
    Similarity,
    Sinkhorn,
    Softmax,
    StudentT,
    SymmetricSinkhorn,
    causal,
    errors,
    padding,
    window,
)
from limelight.kernels import online_softmax
from tests import oracle
from tests.operator import laws
from tests.operator.mechanisms import (
    MORE_NORMALIZATIONS,
    MORE_SIMILARITIES,
    NORMALIZATIONS,
    POSITIONAL,
    SIMILARITIES,
    SUMS,
    WIDTH,
)
from tests.operator.test_oracle import KEYS, MASKS, M, N

ALL = MORE_SIMILARITIES | POSITIONAL
SMALL = [1 << 20, 40]  # entries of a rectangle: all in one, or a few rows of one matrix each


def operands(n=N, m=M, batch=(2, 3)):
    q, k = torch.randn(*batch, n, WIDTH).double(), torch.randn(*batch[:-1], 1, m, WIDTH).double()
    return q, k, torch.randn(*batch, m, 5).double(), torch.randn(*batch[1:], n, 2).double()


def compare(A, P, v, w, s, tau=1.0):
    torch.testing.assert_close(A.dense(), P)
    torch.testing.assert_close(A @ v, P @ v)
    torch.testing.assert_close(A.T @ w, P.mT @ w)
    torch.testing.assert_close(A.entropy(), oracle.entropy(P))
    torch.testing.assert_close(A.column_mass(), P.sum(-2))
    mean = P / P.sum(-1, keepdim=True).clamp(min=1e-300)
    energy = -tau * (mean * s.masked_fill(P == 0, 0)).sum(-1)
    nonempty = (P > 0).any(-1)
    torch.testing.assert_close(A.free_energy()[nonempty], (energy - tau * oracle.entropy(P))[nonempty])
    assert (A.free_energy()[~nonempty] == math.inf).all()


@pytest.mark.parametrize("entries", SMALL)
@pytest.mark.parametrize("kernel", ["reference", "auto", "chunked"])
@pytest.mark.parametrize("mask", ["none", "causal", "window", "keys and queries", "scattered"])
@pytest.mark.parametrize("similarity", ALL)
def test_every_similarity_is_its_equation(similarity, mask, kernel, entries, monkeypatch):
    monkeypatch.setattr(online_softmax, "ENTRIES", entries)
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", entries)
    case, (given, allowed) = ALL[similarity], MASKS[mask]
    (q, k, v, w), sim = operands(), case.make()
    A = Attention(q, k, sim, mask=given, kernel=kernel)
    s = case.scale * oracle.BETA[case.kind](sim, q, k).expand(2, 3, N, M)
    compare(A, oracle.weights(s, "softmax", allowed), v, w, s, 1 / case.scale)


@pytest.mark.parametrize("entries", SMALL)
@pytest.mark.parametrize("kernel", ["reference", "auto", "chunked"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("similarity", [*ALL, "dot"])
def test_every_pair(similarity, normalization, kernel, entries, monkeypatch):
    monkeypatch.setattr(online_softmax, "ENTRIES", entries)
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", entries)
    case, norm = (ALL | SIMILARITIES)[similarity], NORMALIZATIONS[normalization]
    (q, k, v, w), sim = operands(), case.make()
    A = Attention(q, k, sim, norm.make(), padding(keys=KEYS), kernel=kernel)
    s = case.scale * oracle.BETA[case.kind](sim, q, k).expand(2, 3, N, M)
    P = oracle.weights(s, norm.kind, KEYS[..., None, :].expand(2, 3, N, M), norm.alpha, norm.steps)
    torch.testing.assert_close(A @ v, P @ v)
    torch.testing.assert_close(A.T @ w, P.mT @ w)
    torch.testing.assert_close(A.entropy(), oracle.entropy(P))


@pytest.mark.parametrize("entries", SMALL)
@pytest.mark.parametrize("kernel", ["reference", "auto"])
@pytest.mark.parametrize("mask", ["none", "keys and queries", "scattered"])
@pytest.mark.parametrize("similarity", ["dot", "student"])
@pytest.mark.parametrize("normalization", MORE_NORMALIZATIONS)
def test_every_normalization_is_its_equation(normalization, similarity, mask, kernel, entries, monkeypatch):
    monkeypatch.setattr(online_softmax, "ENTRIES", entries)
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", entries)
    norm, (given, allowed) = MORE_NORMALIZATIONS[normalization], MASKS[mask]
    case = (ALL | SIMILARITIES)[similarity]
    (q, k, v, w), sim = operands(), case.make()
    A = Attention(q, k, sim, norm.make(), given, kernel=kernel)
    s = case.scale * oracle.BETA[case.kind](sim, q, k).expand(2, 3, N, M)
    P = oracle.weights(s, norm.kind, None if allowed is None else allowed.expand(2, 3, N, M), norm.alpha)
    if norm.alpha or norm.kind == "scalable":  # its energy uses the scores of the last softmax
        torch.testing.assert_close(A @ v, P @ v)
        torch.testing.assert_close(A.T @ w, P.mT @ w)
        torch.testing.assert_close(A.entropy(), oracle.entropy(P))
        return
    compare(A, P, v, w, s, 1 / case.scale)


@pytest.mark.parametrize("kernel", ["reference", "auto"])
@pytest.mark.parametrize("similarity", SUMS)
def test_a_sum_is_the_sum_of_the_scores(similarity, kernel):
    q, k, v, _ = operands()
    sim = SUMS[similarity]()
    s = sum(term.default_scale(WIDTH) * term.dense(q, k) for term in sim.terms)
    torch.testing.assert_close(Attention(q, k, sim, kernel=kernel) @ v, s.softmax(-1) @ v)
    torch.testing.assert_close(Attention(q, k, sim, mask=causal, kernel=kernel) @ v,
                               s.masked_fill(~oracle.band(N, M, after=0), -math.inf).softmax(-1) @ v)  # fmt: skip
    torch.testing.assert_close(
        Attention(q, k, sim, Softmax(temperature=2.0), kernel=kernel) @ v, (s / 2).softmax(-1) @ v
    )


def test_alibi_runs_fused_under_a_causal_mask_and_with_a_cache():
    q, k, v, _ = operands(3, 9)
    sim = SUMS["dot + alibi"]()
    assert Attention(q, k, sim).kernel == "chunked"
    assert Attention(q, k, sim, mask=causal & padding(keys=torch.arange(9) < 8)).kernel == "fused"
    assert Attention(q, k, sim, mask=causal.at(6)).kernel == "chunked"  # it is on another device than its mask
    sim.terms[1].offset = 6
    A = Attention(q, k, sim, mask=causal.at(6))
    assert A.kernel == "fused"
    ahead = torch.arange(9) - (torch.arange(3) + 6)[:, None]
    s = WIDTH**-0.5 * q @ k.mT - sim.terms[1].slopes.double()[:, None, None] * ahead.abs()
    torch.testing.assert_close(A @ v, s.masked_fill(ahead > 0, -math.inf).softmax(-1) @ v)


def test_a_bias_of_another_shape_is_refused():
    q, k, v, w = operands()
    table = torch.randn(3, N, M).double()
    s = oracle.BETA["bias"](Bias(table), q, k).expand(2, 3, N, M)
    compare(Attention(q, k, Bias(table)), oracle.weights(s, "softmax"), v, w, s)
    with pytest.raises(errors.InputError, match=r"a bias for 7 queries and 8 keys must have the shape"):
        _ = Attention(q, k[..., :8, :], Bias(table)) @ v[..., :8, :]


@pytest.mark.parametrize("entries", SMALL)
@pytest.mark.parametrize("similarity", [*ALL, *SUMS])
def test_gradients_of_similarities(similarity, entries, monkeypatch):
    monkeypatch.setattr(online_softmax, "ENTRIES", entries)
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", entries)
    sim = SUMS[similarity]() if similarity in SUMS else ALL[similarity].make()
    learned = list(sim.parameters())
    allowed = padding(keys=torch.arange(5) < 4)

    def everything(q, k, v, *_):
        A = Attention(q, k, sim, mask=allowed, kernel="chunked")
        return A @ v, A.T @ q, A.entropy(), A.logsumexp()

    inputs = [torch.randn(3, 3, 6), torch.randn(3, 5, 6), torch.randn(3, 5, 2)]
    inputs = [x.double().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(everything, (*inputs, *learned), fast_mode=True)


@pytest.mark.parametrize("entries", SMALL)
@pytest.mark.parametrize("normalization", MORE_NORMALIZATIONS)
def test_gradients_of_normalizations(normalization, entries, monkeypatch):
    monkeypatch.setattr(online_softmax, "ENTRIES", entries)
    monkeypatch.setattr("limelight.kernels.rows.ENTRIES", entries)
    norm = MORE_NORMALIZATIONS[normalization].make()

    def everything(q, k, v, *_):
        A = Attention(q, k, Dot(), norm)
        return A @ v, A.T @ q, A.entropy(), A.column_mass(), A.free_energy()

    inputs = [torch.randn(2, 3, 6), torch.randn(2, 5, 6), torch.randn(2, 5, 2)]
    inputs = [x.double().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(everything, (*inputs, *norm.parameters()), fast_mode=True, atol=1e-5)


@pytest.mark.parametrize("normalization", ["entmax", "entmax=1.2", "sparsemax", "topk", "sigmoid"])
def test_row_normalizations_can_be_differentiated_twice(normalization):
    inputs = [torch.randn(3, 6), torch.randn(5, 6), torch.randn(5, 2)]
    inputs = [x.double().requires_grad_() for x in inputs]
    norm = MORE_NORMALIZATIONS[normalization].make()
    assert torch.autograd.gradgradcheck(
        lambda q, k, v: Attention(q, k, Dot(), norm) @ v, inputs, atol=1e-5, fast_mode=True
    )


def test_learned_scales_and_degrees_have_gradients():
    q, k, v, _ = operands()
    nu, scale = (torch.rand(3, 1, 1).double().add(1).requires_grad_() for _ in range(2))

    def out(nu, scale):
        return Attention(q, k, StudentT(nu), scale=scale) @ v

    assert torch.autograd.gradcheck(out, (nu, scale), fast_mode=True)
    alpha = torch.tensor([0.2, 0.5, 0.9]).double()[:, None, None].requires_grad_()
    assert torch.autograd.gradcheck(lambda a: Attention(q, k, Dot(), Softmax(a)) @ v, (alpha,), fast_mode=True)
    learned = Softmax.learned(heads=3, alpha=0.2).double()
    torch.testing.assert_close(Attention(q, k, Dot(), learned) @ v, Attention(q, k, Dot(), Softmax(0.2)) @ v)


def test_a_tensor_that_would_get_no_gradient_is_refused():
    stray = torch.ones((), dtype=torch.float64, requires_grad=True)

    class Stray(Similarity):
        def dense(self, q, k):
            return stray * (q @ k.mT)

    q, k, v, _ = operands()
    with pytest.raises(errors.InputError, match=r"make it an nn\.Parameter or pass it through `parts`"):
        _ = Attention(q, k, Stray()) @ v
    with torch.no_grad():
        _ = Attention(q, k, Stray()) @ v


@pytest.mark.parametrize("kernel", ["reference", "auto", "chunked"])
@pytest.mark.parametrize("similarity", MORE_SIMILARITIES)
@pytest.mark.parametrize("law", laws.FOR_ALL, ids=lambda law: law.__name__)
def test_law_of_every_similarity(law, similarity, kernel):
    sim = MORE_SIMILARITIES[similarity].make()
    law(lambda q, k, mask=None, **options: Attention(q, k, sim, Softmax(), mask, kernel=kernel, **options))


NOT_OF = {  # laws that do not apply to the mechanism
    "sigmoid": {laws.rows_sum_to_one, laws.padding_is_invisible},
    "sink": {laws.rows_sum_to_one},
    "hybrid": set(), "entmax": set(), "entmax=1.2": set(), "sparsemax": set(), "topk": set(),
    "scalable": set(),
}  # fmt: skip
OF_LOGSUMEXP = {
    laws.a_query_that_sees_nothing_gives_zero,
    laws.free_energy_is_energy_less_temperature_times_entropy,
    laws.entropy_is_in_nats_between_zero_and_log_m,  # its log of P is −∞ where P is 0
    laws.masked_keys_get_no_gradient,  # needs a gradient for every key
}


@pytest.mark.parametrize("normalization", NOT_OF)
@pytest.mark.parametrize("law", [law for law in laws.FOR_ALL if law not in OF_LOGSUMEXP], ids=lambda law: law.__name__)
def test_law_of_every_normalization(law, normalization):
    norm = MORE_NORMALIZATIONS[normalization].make()
    if law not in NOT_OF[normalization]:
        law(lambda q, k, mask=None, **options: Attention(q, k, Dot(), norm, mask, **options))


@pytest.mark.parametrize("similarity", SIMILARITIES | MORE_SIMILARITIES)
def test_a_similarity_has_the_properties_that_it_declares(similarity):
    sim = (SIMILARITIES | MORE_SIMILARITIES)[similarity].make()
    x = torch.randn(12, WIDTH).double()
    beta, promised = sim.dense(x, x).detach(), sim.properties
    assert promised.symmetric == torch.allclose(beta, beta.mT)
    moved = sim.dense(x + 3, x + 3).detach()
    assert promised.translation_invariant == torch.allclose(beta, moved)
    if promised.positive_definite:
        assert torch.linalg.eigvalsh(beta.exp()).min() > -1e-12
    if promised.metric:
        d = (-beta).clamp(min=0).sqrt()
        assert d.diagonal().abs().max() < 1e-9
        assert (d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-9).all()


def test_sinkhorn_to_a_tolerance():
    q, k, v, _ = operands()
    A = Attention(q, k, Dot(), Sinkhorn(tolerance=1e-8))
    torch.testing.assert_close(A.column_mass(), torch.full((2, 3, M), N / M).double(), rtol=1e-7, atol=0)
    torch.testing.assert_close(A @ v, Attention(q, k, Dot(), Sinkhorn(200)) @ v)
    with pytest.raises(errors.ConvergenceError, match="more than 1e-12; allow more steps"):
        _ = Attention(5 * q, k, Dot(), Sinkhorn(3, tolerance=1e-12)) @ v


@pytest.mark.parametrize(
    "mask",
    [
        None,
        pytest.param(window(4, 4), marks=pytest.mark.slow),
        Graph(torch.tensor([[*range(N), 0, 3], [*range(N), 3, 0]]), N),
    ],
    ids=repr,
)
@pytest.mark.parametrize("similarity", [Dot(), Euclidean(1.5), StudentT()], ids=repr)
def test_symmetric_sinkhorn_is_the_limit_of_sinkhorn(similarity, mask):
    """A symmetric kernel has one doubly stochastic scaling, which is symmetric."""
    x, v = operands()[0].requires_grad_(), torch.randn(2, 3, N, 2).double()
    P, right = (
        Attention(x, x, similarity, normalization, mask, kernel="auto")
        for normalization in (SymmetricSinkhorn(1e-11), Sinkhorn(tolerance=1e-11))
    )
    torch.testing.assert_close(P.dense(), P.dense().mT)
    torch.testing.assert_close(P.dense().sum(-2), torch.ones(2, 3, N).double())
    torch.testing.assert_close(P @ v, right @ v)
    ours, theirs = (torch.autograd.grad((A @ v).square().sum(), x)[0] for A in (P, right))
    torch.testing.assert_close(ours, theirs)


def test_symmetric_sinkhorn_raises_if_there_is_no_such_matrix():
    x, star = torch.randn(4, 3), Graph(torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]]), 4)
    with pytest.raises(errors.ConvergenceError, match=r"after 50 steps, more than 0\.0001; allow more steps"):
        _ = Attention(x, x, Dot(), SymmetricSinkhorn(steps=50), star) @ x


def test_a_convolution_equals_its_definition():
    """Three sharp heads with a matrix each are a convolution with three taps."""
    from limelight import Convolution

    x, taps = torch.randn(1, 20, 4).double(), torch.randn(3, 4, 4).double()
    sim = Convolution(torch.tensor([-1.0, 0.0, 1.0]), sharpness=200.0)
    A = Attention(x[:, None], x[:, None], sim, mask=window(1, 1))
    out = ((A @ x[:, None].expand(1, 3, 20, 4)) @ taps).sum(1)
    right = torch.nn.functional.conv1d(x.mT, taps.permute(2, 1, 0), padding=1).mT
    torch.testing.assert_close(out[:, 1:-1], right[:, 1:-1])
