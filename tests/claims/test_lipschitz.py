"""Slopes of self-attention: the Jacobian itself, the dot product's formula, and the bound of tied L2."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw

from limelight import Attention, Dot, Euclidean, InputError
from limelight.claims import lipschitz as claim
from limelight.interpret.jacobian import jacobian


def normal(*shape, seed=1000):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attend(similarity, kernel="auto"):
    return lambda x: Attention(x, x, similarity, scale=0.7, kernel=kernel) @ x


@pytest.mark.parametrize("similarity", [Dot(), Euclidean()])
def test_the_jacobian_is_that_of_torch_on_the_reference_kernel(similarity):
    x = normal(5, 3)
    expected = torch.autograd.functional.jacobian(attend(similarity, "reference"), x).reshape(15, 15)
    torch.testing.assert_close(jacobian(attend(similarity), x), expected, atol=1e-12, rtol=1e-12)


def test_the_jacobian_of_a_linear_map_is_its_matrix():
    matrix = normal(3, 4)
    expected = torch.block_diag(matrix.mT, matrix.mT)
    torch.testing.assert_close(jacobian(lambda x: x @ matrix, normal(2, 3)), expected)


def test_the_jacobian_is_found_where_gradients_are_off():
    with torch.no_grad():
        assert jacobian(attend(Dot()), normal(4, 2)).shape == (8, 8)


def test_the_operator_norm_is_what_power_iteration_finds():
    """Computed by products of the Jacobian and its transpose with a vector, without a matrix."""
    f, x = attend(Dot(), "reference"), normal(6, 3)
    v = normal(6, 3, seed=1001)
    for _ in range(400):
        _, pushed = torch.autograd.functional.jvp(f, x, v)
        _, v = torch.autograd.functional.vjp(f, x, pushed)
        size = float(v.norm())
        v = v / size
    found = float(torch.linalg.matrix_norm(jacobian(attend(Dot()), x), 2))
    assert found == pytest.approx(math.sqrt(size), rel=1e-6)


def test_bad_input_to_the_jacobian_is_refused():
    with pytest.raises(InputError, match=r"shape \(n, d\), got \(2, 3, 4\)"):
        jacobian(attend(Dot()), normal(2, 3, 4))
    with pytest.raises(InputError, match=r"batch of matrices, got \(\)"):
        jacobian(lambda x: x.sum(), normal(3, 4))


@pytest.mark.parametrize("s", [0.5, 3.0, 100.0])
def test_with_one_for_all_maps_the_slope_at_zero_is_a_third_plus_two_thirds_s_squared(s):
    x = torch.tensor([[0.0], [s], [-s]], dtype=torch.float64)
    for scale in (1.0, 0.25):
        slope = jacobian(lambda x, scale=scale: Attention(x, x, Dot(), scale=scale) @ x, x)[0, 0]
        assert float(slope) == pytest.approx(1 / 3 + 2 / 3 * scale * s**2, rel=1e-13)


def test_the_formula_with_a_map_is_the_block_of_the_jacobian():
    own, other = claim.maps(torch.Generator().manual_seed(1000))
    along = claim.direction(own, other)
    _, at_zero = claim.slopes(claim.layer(claim.DOT, own, other), claim.opposed(along, 7.0, claim.DOT))
    assert at_zero == pytest.approx(claim.formula(own, along, 7.0), rel=1e-12)


@pytest.mark.parametrize("seed", range(1000, 1005))
def test_the_direction_is_turned_by_a_right_angle(seed):
    own, other = claim.maps(torch.Generator().manual_seed(seed))
    u = claim.direction(own, other)
    assert float(u.norm()) == pytest.approx(1)
    assert float((own @ u) @ (other @ u)) == pytest.approx(0, abs=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(n=st.integers(2, 9), spread=st.floats(-2, 3), seed=st.integers(1000, 10**6), line=st.booleans())
def test_tied_l2_attention_keeps_its_bound(n, spread, seed, line):
    generator = torch.Generator().manual_seed(seed)
    own, other = claim.maps(generator)
    x = 10**spread * torch.randn(n, 1 if line else claim.WIDTH, generator=generator, dtype=torch.float64)
    x = x * torch.ones(claim.WIDTH, dtype=torch.float64)
    slope = float(torch.linalg.matrix_norm(jacobian(claim.layer(claim.TIED, own, other), x), 2))
    assert slope <= claim.bound(own, n)


def test_what_the_bound_is_made_of_is_reached():
    """At the token 0 the covariance of its values comes to 2 W₀((n − 1)/e), with the others at the worst distance."""
    eye, n = torch.eye(claim.WIDTH, dtype=torch.float64), 31
    most = float(2 * lambertw((n - 1) / math.e).real)
    found = []
    for r in np.linspace(0.5, 4, 36):
        x = torch.zeros(n, claim.WIDTH, dtype=torch.float64)
        x[1:16, 0], x[16:, 0] = r, -r
        found.append(claim.slopes(claim.layer(claim.TIED, eye, eye), x)[1])
    assert most <= max(found) <= 1 + most
    assert math.sqrt(n) * (1 + 2 * most) == pytest.approx(claim.bound(eye, n))


def test_the_order_is_the_exponent():
    assert claim.order([3 * s**1.5 for s in claim.SIZES[-4:]]) == pytest.approx(1.5)


@pytest.mark.slow
def test_the_arms_differ_as_claimed_on_one_seed():
    found = {arm: claim.Lipschitz().measure(arm, 1000).values for arm in claim.Lipschitz.arms}
    assert found[claim.DOT]["order"] == pytest.approx(2, abs=0.01)
    assert found[claim.TIED]["order"] < 0.15
    assert found[claim.UNTIED]["order"] == pytest.approx(2, abs=0.01)
    assert found[claim.TIED]["share of the bound"] <= 1 < found[claim.DOT]["share of the bound"]
