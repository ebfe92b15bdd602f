"""Both kernels against exp-and-divide in float64: values of every method, for every mechanism and mask."""

import pytest
import torch

from limelight import Attention, Boolean, causal, padding, window
from tests import oracle
from tests.operator.mechanisms import NORMALIZATIONS, SIMILARITIES, WIDTH, Phi

N, M = 7, 9
KEYS = torch.tensor([[[True] * 6 + [False] * 3], [[True] * 9]])
QUERIES = torch.tensor([[[True] * 5 + [False] * 2], [[True] * 7]])
SCATTERED = torch.rand(2, 3, N, M, generator=torch.Generator().manual_seed(3)) > 0.4
SCATTERED[0, 1, 2], SCATTERED[..., 4] = False, False  # a query that sees no key, and a key that no query sees

MASKS = {
    "none": (None, None),
    "causal": (causal, oracle.band(N, M, after=0)),
    "causal tensor": (oracle.band(N, M, after=0), oracle.band(N, M, after=0)),
    "window": (window(2, 1), oracle.band(N, M, 2, 1)),
    "keys": (padding(keys=KEYS), KEYS[..., None, :].expand(2, 1, N, M)),
    "keys and queries": (padding(keys=KEYS, queries=QUERIES), KEYS[..., None, :] & QUERIES[..., None]),
    "scattered": (Boolean(SCATTERED), SCATTERED),
    "causal & keys": (
        causal & padding(keys=~KEYS | KEYS.roll(6, -1)),
        oracle.band(N, M, after=0) & (~KEYS | KEYS.roll(6, -1))[..., None, :],
    ),
    "window | tensor, not": (~(window(1, 1) | SCATTERED), ~(oracle.band(N, M, 1, 1) | SCATTERED)),
}
HIDES_THE_FUTURE = {"causal", "causal tensor", "causal & keys"}


def cases():
    for mask in MASKS:
        for normalization in NORMALIZATIONS:
            if mask not in HIDES_THE_FUTURE or normalization == "softmax":
                for similarity in SIMILARITIES:
                    yield similarity, normalization, mask


@pytest.mark.parametrize("kernel", ["reference", "fused"])
@pytest.mark.parametrize(("similarity", "normalization", "mask"), list(cases()))
def test_every_method_is_its_equation(similarity, normalization, mask, kernel):
    sim, norm, (given, seen) = SIMILARITIES[similarity], NORMALIZATIONS[normalization], MASKS[mask]
    q, k = torch.randn(2, 3, N, WIDTH, dtype=torch.float64), torch.randn(2, 1, M, WIDTH, dtype=torch.float64)
    v, w = torch.randn(2, 3, M, 5, dtype=torch.float64), torch.randn(3, N, 2, dtype=torch.float64)
    A = Attention(q, k, sim.make(), norm.make(), given, kernel=kernel)
    s = oracle.scores(q, k, sim.kind, sim.scale, Phi())
    P = oracle.weights(s, norm.kind, seen, norm.alpha, norm.steps)

    assert A.kernel == kernel
    assert A.shape == (2, 3, N, M)
    torch.testing.assert_close(A.dense(), P)
    torch.testing.assert_close(A @ v, P @ v)
    torch.testing.assert_close(A.T @ w, P.mT @ w)
    torch.testing.assert_close(A.T.dense(), P.mT)
    torch.testing.assert_close(A.entropy(), oracle.entropy(P))
    torch.testing.assert_close(A.column_mass(), P.sum(-2))
    torch.testing.assert_close(A.free_energy(), -A.logsumexp() / sim.scale)
    if norm.alpha == 0 and norm.steps == 0:
        hidden = s if seen is None else s.masked_fill(~seen, float("-inf"))
        torch.testing.assert_close(A.logsumexp(), hidden.logsumexp(-1))


@pytest.mark.parametrize("kernel", ["reference", "fused"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_scale_overrides_the_similaritys_own(similarity, kernel):
    sim = SIMILARITIES[similarity]
    q, k = torch.randn(2, 3, N, WIDTH, dtype=torch.float64), torch.randn(2, 3, M, WIDTH, dtype=torch.float64)
    for scale in (0.7, torch.tensor(0.7, dtype=torch.float64), torch.tensor([0.7, 0.1, 2.0]).double()[:, None, None]):
        A = Attention(q, k, sim.make(), scale=scale, kernel=kernel)
        P = oracle.weights(oracle.scores(q, k, sim.kind, scale, Phi()), "softmax")
        torch.testing.assert_close(A @ k, P @ k)
        energy = -oracle.scores(q, k, sim.kind, 1.0, Phi())
        temperature = 1 / scale if isinstance(scale, float) else (1 / scale).reshape(scale.shape[:-1])
        torch.testing.assert_close(A.free_energy(), (P * energy).sum(-1) - temperature * oracle.entropy(P))
