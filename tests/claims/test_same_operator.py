"""The equalities of the claim on other points, compared with independent implementations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsRegressor
from sklearn.semi_supervised import LabelPropagation

from limelight.claims import same_operator as claim
from limelight.claims.same_operator import COMPARISONS, SameOperator
from limelight.experiment.results import Record, Results

EQUAL = [
    claim.DIFFUSION,
    claim.SINKHORN,
    claim.REGRESSION,
    claim.BLURRING,
    claim.NEIGHBORS,
    claim.LLOYD,
    claim.PROPAGATION,
    claim.NEAREST,
    claim.SPHERE,
]
DIFFERENT = [
    claim.ASYMMETRIC,
    claim.ONE_SOFTMAX,
    claim.ANY_NORMS,
    claim.BLURRED_BY_DOT,
    claim.NEIGHBORS_BY_DOT,
    claim.LLOYD_TIED,
    claim.PROPAGATION_ALPHA,
    claim.NEAREST_PRINTED,
    claim.PRINTED,
]
seeds = st.integers(1000, 10**6)


def gap(arm, seed):
    return SameOperator().measure(arm, seed).values["gap"]


@pytest.mark.parametrize("arm", EQUAL)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=seeds)
def test_under_its_hypothesis_a_theorem_holds_to_its_budget(arm, seed):
    assert gap(arm, seed) <= (claim.CONVERGED if arm == claim.SINKHORN else claim.ROUNDING)


@pytest.mark.parametrize("arm", DIFFERENT)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=seeds)
def test_without_it_the_gap_is_far_above_rounding(arm, seed):
    assert gap(arm, seed) >= claim.DIFFERENT


def test_every_arm_is_compared_and_every_comparison_is_an_arm():
    assert set(COMPARISONS) == set(SameOperator.arms) == {*EQUAL, *DIFFERENT}


def test_doubly_normalized_attention_is_a_diffusion_map_written_in_numpy():
    ours, _ = COMPARISONS[claim.DIFFUSION](torch.Generator().manual_seed(1000))
    x = claim.cloud(torch.Generator().manual_seed(1000)).numpy()
    kernel = np.exp(-cdist(x, x, "sqeuclidean") / (2 * claim.BANDWIDTH**2))
    density = kernel.sum(0)
    kernel = kernel / np.outer(density, density)
    np.testing.assert_allclose(ours.numpy(), kernel / kernel.sum(1, keepdims=True), atol=1e-14)


def test_kernel_regression_is_a_softmax_of_squared_distances():
    generator = torch.Generator().manual_seed(1000)
    q, k = claim.cloud(generator), claim.unit(claim.cloud(generator))
    ours, _ = COMPARISONS[claim.REGRESSION](torch.Generator().manual_seed(1000))
    expected = softmax(-cdist(q.numpy(), k.numpy(), "sqeuclidean") / (2 * claim.BANDWIDTH**2), axis=1)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-14)


def test_attention_to_the_nearest_is_scikit_learns_neighbors_k_means_and_label_propagation():
    generator = torch.Generator().manual_seed(1000)
    q, k = (claim.cloud(generator).numpy() for _ in range(2))
    ours, _ = COMPARISONS[claim.NEIGHBORS](torch.Generator().manual_seed(1000))
    theirs = KNeighborsRegressor(claim.NEAR).fit(k, np.eye(claim.POINTS)).predict(q)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-13)

    ours, _ = COMPARISONS[claim.LLOYD](torch.Generator().manual_seed(1000))
    labels = KMeans(claim.CENTERS, init=q[: claim.CENTERS], n_init=1, max_iter=1).fit(q[: claim.CENTERS]).predict(q)
    means = [q[labels == each].mean(0) for each in range(claim.CENTERS)]
    np.testing.assert_allclose(ours.numpy(), means, atol=1e-13)

    ours, _ = COMPARISONS[claim.PROPAGATION](torch.Generator().manual_seed(1000))
    labels = np.append(np.arange(claim.CENTERS), np.full(claim.POINTS - claim.CENTERS, -1))
    spread = LabelPropagation(gamma=0.5 / claim.BANDWIDTH**2, max_iter=claim.SHIFTS, tol=0)
    with pytest.warns(ConvergenceWarning, match="max_iter=5"):
        theirs = spread.fit(q, labels).label_distributions_
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-13)


def test_sinkhorn_of_both_is_doubly_stochastic():
    for weights in COMPARISONS[claim.SINKHORN](torch.Generator().manual_seed(1000)):
        for axis in (0, 1):
            np.testing.assert_allclose(weights.numpy().sum(axis), 1.0, atol=1e-10)


def test_the_identity_on_the_sphere_point_by_point():
    """−⟨x, y⟩ = −1 + ½|x − y|² to rounding; the printed −2 + |x − y|² only where ⟨x, y⟩ = 0."""
    generator = torch.Generator().manual_seed(1000)
    x, y = (claim.unit(claim.cloud(generator)) for _ in range(2))
    inner, square = (x * y).sum(-1), (x - y).square().sum(-1)
    assert float((-inner - (-1 + square / 2)).abs().max()) < 1e-15
    printed = -inner - (-2 + square)
    torch.testing.assert_close(printed, inner, atol=1e-14, rtol=0)
    assert float(printed.abs().max()) > 0.5


def judged(change):
    """The verdict if each comparison has its expected result, except for those in `change`."""
    expected = dict.fromkeys(EQUAL, 1e-15) | dict.fromkeys(DIFFERENT, 0.5) | change
    records = [
        Record("same_operator", arm, seed, "done", values={"gap": value * (1 + seed / 100)})
        for arm, value in expected.items()
        for seed in range(10)
    ]
    return SameOperator().verdict(Results(SameOperator.arms, SameOperator.measures, records))


def test_the_verdict_follows_the_gaps():
    assert judged({}).outcome == "supported"
    assert judged({claim.BLURRING: 1e-6}).outcome == "mixed"
    assert judged({claim.ASYMMETRIC: 1e-15}).outcome == "mixed"
    assert judged({claim.PRINTED: 1e-15}).outcome == "inconclusive"
