"""Laws that hold for every mechanism, and for each law a broken mechanism that it must reject.

A law is a function of `attention(q, k, mask=None)`, which returns the operator, and raises
AssertionError. `BROKEN` names for each law a mechanism that looks right and is not.
"""

import math
from collections.abc import Callable

import torch

from limelight import Attention, Dot, Euclidean, Normalization, Softmax, padding
from limelight.weights import SoftmaxWeights
from tests.operator.mechanisms import WIDTH

Make = Callable[..., Attention]
N, M = 6, 8
close = torch.testing.assert_close


def operands(n: int = N, m: int = M, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, n, WIDTH, dtype=torch.float64), torch.randn(batch, m, WIDTH, dtype=torch.float64)


def values(m: int = M, e: int = 3, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, m, e, dtype=torch.float64)


def rows_sum_to_one(attention: Make) -> None:
    q, k = operands()
    close(attention(q, k) @ torch.ones(M, 1).double(), torch.ones(2, N, 1).double())


def weights_are_not_negative(attention: Make) -> None:
    q, k = operands()
    assert (attention(q, k) @ torch.eye(M).double() >= 0).all()


def it_is_linear(attention: Make) -> None:
    q, k = operands()
    v, w = values(), values()
    A = attention(q, k)
    close(A @ (2 * v - 3 * w), 2 * (A @ v) - 3 * (A @ w))


def keys_may_be_permuted(attention: Make) -> None:
    (q, k), v, order = operands(), values(), torch.randperm(M)
    close(attention(q, k[:, order]) @ v[:, order], attention(q, k) @ v)


def queries_may_be_permuted(attention: Make) -> None:
    (q, k), v, order = operands(), values(), torch.randperm(N)
    close(attention(q[:, order], k) @ v, (attention(q, k) @ v)[:, order])


def each_batch_is_its_own(attention: Make) -> None:
    (q, k), v = operands(), values()
    close((attention(q, k) @ v)[:1], attention(q[:1], k[:1]) @ v[:1])


def masked_keys_have_no_influence(attention: Make) -> None:
    (q, k), v = operands(), values()
    keep = torch.arange(M) < 5
    before = attention(q, k, padding(keys=keep)) @ v
    moved, other = k.clone(), v.clone()
    moved[:, 5:], other[:, 5:] = 1e3 * torch.randn_like(k[:, 5:]), 1e6
    close(attention(q, moved, padding(keys=keep)) @ other, before)


def masked_keys_get_no_gradient(attention: Make) -> None:
    (q, k), v = operands(), values()
    k, v = k.requires_grad_(), v.requires_grad_()
    A = attention(q, k, torch.arange(M).expand(N, M) < 5)
    loss = (A @ v).square().sum() + A.entropy().sum()
    for gradient in torch.autograd.grad(loss, (k, v)):
        assert (gradient[:, 5:] == 0).all()
        assert gradient[:, :5].abs().min() > 0


def padding_is_invisible(attention: Make) -> None:
    """A short sequence that is padded in a batch has the same outputs as alone."""
    q, k = operands(M, M)
    v, real = values(), torch.arange(M) < 5
    padded = attention(q, k, padding(keys=real, queries=real)) @ v
    close(padded[:, :5], attention(q[:, :5], k[:, :5]) @ v[:, :5])


def a_query_that_sees_nothing_gives_zero(attention: Make) -> None:
    (q, k), v = operands(), values()
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    seen = torch.ones(N, M, dtype=torch.bool)
    seen[2] = False
    A = attention(q, k, seen)
    out, entropy = A @ v, A.entropy()
    assert (out[:, 2] == 0).all()
    assert (entropy[:, 2] == 0).all()
    assert (A.logsumexp()[:, 2] == -math.inf).all()
    finite = A.logsumexp()[:, [0, 1, 3, 4, 5]].sum()
    loss = out.square().sum() + entropy.sum() + finite + (A.T @ q).sum() + A.column_mass().square().sum()
    for gradient in torch.autograd.grad(loss, (q, k, v)):
        assert gradient.isfinite().all()
    dq = torch.autograd.grad((attention(q, k, seen) @ v).square().sum(), q)[0]
    assert (dq[:, 2] == 0).all()


def the_transpose_is_the_adjoint(attention: Make) -> None:
    (q, k), v, w = operands(), values(), values(N)
    A = attention(q, k)
    close(((A @ v) * w).sum(), (v * (A.T @ w)).sum())
    assert A.T.T is A
    assert A.T.shape == (2, M, N)


def the_dense_matrix_is_the_operator(attention: Make) -> None:
    (q, k), v = operands(), values()
    A = attention(q, k)
    close(A.dense() @ v, A @ v)


def column_mass_is_what_the_columns_sum_to(attention: Make) -> None:
    q, k = operands()
    A = attention(q, k)
    close(A.column_mass(), A.dense().sum(-2))


def entropy_is_in_nats_between_zero_and_log_m(attention: Make) -> None:
    q, k = operands()
    A = attention(q, k)
    P = A.dense()
    close(A.entropy(), -(P * P.log()).sum(-1))
    close(attention(torch.zeros_like(q), torch.zeros_like(k)).entropy(), torch.full((2, N), math.log(M)).double())


def free_energy_is_energy_less_temperature_times_entropy(attention: Make) -> None:
    q, k = operands()
    A = attention(q, k, scale=0.25)
    log_weights = A.dense().log()  # = −E/τ − L for every normalization
    energy = -4 * (log_weights + A.logsumexp()[..., None])
    close(A.free_energy(), (A.dense() * energy).sum(-1) - 4 * A.entropy())


def no_key_is_explained_away(attention: Make) -> None:
    """α = 1, n = m: every key keeps a total weight of at least 1/n (2009.14308)."""
    for sharpness in (0.1, 1.0, 10.0):
        q, k = (sharpness * x for x in operands(M, M))
        assert attention(q, k).column_mass().min() >= 1 / M - 1e-12


def columns_sum_to_n_over_m(attention: Make) -> None:
    q, k = operands()
    close(attention(0.3 * q, 0.3 * k).column_mass(), torch.full((2, M), N / M).double(), rtol=1e-6, atol=1e-6)


def a_common_translation_changes_nothing(attention: Make) -> None:
    (q, k), v = operands(), values()
    close(attention(q + 100, k + 100) @ v, attention(q, k) @ v)


def lengths_change_nothing(attention: Make) -> None:
    (q, k), v = operands(), values()
    stretch = torch.rand(2, M, 1).double() + 0.5
    close(attention(3 * q, stretch * k) @ v, attention(q, k) @ v)


def root_of_minus_two_beta_is_a_distance(attention: Make) -> None:
    """The distance is zero from a point to itself, symmetric, and satisfies the triangle inequality."""
    x = operands(M, M)[0]
    log_weights = attention(x, x, scale=1.0)
    beta = log_weights.dense().log() + log_weights.logsumexp()[..., None]
    d = (-2 * beta).clamp(min=0).sqrt()
    close(beta.diagonal(dim1=-2, dim2=-1), torch.zeros(2, M).double(), rtol=0, atol=1e-9)
    close(d, d.mT)
    direct, first, second = d[..., :, None, :], d[..., :, :, None], d[..., None, :, :]  # i to k, i to j, j to k
    assert (direct <= first + second + 1e-6).all()


class Unnormalized(Attention):
    """Rows sum to 1.1."""

    def __matmul__(self, v):
        return 1.1 * super().__matmul__(v)


class BelowZero(Attention):
    """Rows sum to one, but some weights are negative."""

    def __matmul__(self, v):
        return 2 * super().__matmul__(v) - v.mean(-2, keepdim=True)


class Affine(Attention):
    def __matmul__(self, v):
        return super().__matmul__(v) + 0.1


class SeesPositions(Attention):
    """Adds a position to queries and keys."""

    def __init__(self, q, k, **options):
        super().__init__(*(x + 0.3 * torch.arange(x.shape[-2])[:, None] for x in (q, k)), **options)


class MixesBatches(Attention):
    def __init__(self, q, k, **options):
        super().__init__(q, k + q.mean(0).mean(0).abs() * torch.ones(k.shape[-2], 1).cumsum(0), **options)


class IgnoresMasks(Attention):
    def __init__(self, q, k, mask=None, **options):
        super().__init__(q, k, **options)


class SeesPaddedQueries(Attention):
    """Masks padded keys only, so that padded queries enter the keys' normalizers."""

    def __init__(self, q, k, mask=None, **options):
        super().__init__(q, k, mask=None if mask is None else padding(keys=mask.keys), normalization=Softmax(1.0))


class UniformOverNothing(Attention):
    """A query that sees no key takes the mean of all."""

    def __matmul__(self, v):
        out = super().__matmul__(v)
        return torch.where((out == 0).all(-1, keepdim=True), v.mean(-2, keepdim=True), out)


class ForgetsTheMass(Attention):
    """A transpose that averages instead of summing."""

    @property
    def T(self):
        own = self

        class Averages(type(super().T)):
            def __matmul__(self, w):
                return super().__matmul__(w) / own.column_mass()[..., None]

        return Averages(self)


class AnotherMatrix(Attention):
    def dense(self):
        return super().dense().flip(-1)


class MeanMass(Attention):
    def column_mass(self):
        return super().column_mass() / self.shape[-2]


class Bits(Attention):
    def entropy(self):
        return super().entropy() / math.log(2)


class WrongTemperature(Attention):
    def free_energy(self):
        return -self.logsumexp() * self.scale


class SquaredDistance(Euclidean):
    """√(−2β) = |q − k|², which violates the triangle inequality."""

    def dense(self, q, k):
        return -0.5 * (2 * super().dense(q, k)) ** 2


class SumsOverKeysOnly(Normalization):
    """Sinkhorn without its column steps."""

    uses_column_sums = True

    def forward(self, scores):
        return SoftmaxWeights(scores)


def _broken(cls: type[Attention], **fixed) -> Make:
    return lambda q, k, mask=None, **options: cls(q, k, mask=mask, **fixed, **options)


FOR_ALL = {
    rows_sum_to_one: _broken(Unnormalized),
    weights_are_not_negative: _broken(BelowZero),
    it_is_linear: _broken(Affine),
    keys_may_be_permuted: _broken(SeesPositions),
    queries_may_be_permuted: _broken(SeesPositions),
    each_batch_is_its_own: _broken(MixesBatches),
    masked_keys_have_no_influence: _broken(IgnoresMasks),
    masked_keys_get_no_gradient: _broken(IgnoresMasks),
    padding_is_invisible: _broken(SeesPaddedQueries),
    a_query_that_sees_nothing_gives_zero: _broken(UniformOverNothing),
    the_transpose_is_the_adjoint: _broken(ForgetsTheMass),
    the_dense_matrix_is_the_operator: _broken(AnotherMatrix),
    column_mass_is_what_the_columns_sum_to: _broken(MeanMass),
    entropy_is_in_nats_between_zero_and_log_m: _broken(Bits),
    free_energy_is_energy_less_temperature_times_entropy: _broken(WrongTemperature),
}
FOR_SOME = {
    no_key_is_explained_away: _broken(Attention),
    columns_sum_to_n_over_m: _broken(Attention, normalization=SumsOverKeysOnly()),
    a_common_translation_changes_nothing: _broken(Attention, similarity=Dot()),
    lengths_change_nothing: _broken(Attention, similarity=Dot()),
    root_of_minus_two_beta_is_a_distance: _broken(Attention, similarity=SquaredDistance(), kernel="reference"),
}
