"""Manifolds, fields and limits, against automatic differentiation, known integrals and known operators."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ive

from limelight import Euclidean, InputError, Softmax, SymmetricSinkhorn
from limelight.continuum import (
    Cloud,
    Harmonic,
    Sphere,
    Torus,
    VonMises,
    Wave,
    diffusion,
    drift_diffusion,
    laplace_beltrami,
    order,
)
from limelight.propagation import generator


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def close(found, expected, tolerance=1e-10):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def derivatives(f, x):
    """∇f and the trace of the Hessian of f at each point, by automatic differentiation."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    trace = sum(torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1]))
    return slope.detach(), trace


def axes(seed, width=3):
    return torch.linalg.qr(torch.randn(width, width, generator=seeded(seed), dtype=torch.float64))[0]


@given(seed=st.integers(0, 10**6))
def test_fields_on_a_torus_know_their_derivatives(seed):
    k, phase, kappa, mu = torch.randn(4, 3, generator=seeded(seed), dtype=torch.float64).mul(2)
    x = Torus(3).uniform(9, seeded(seed))
    for field in (Wave(k.round(), float(phase[0])), VonMises(kappa.abs(), mu)):
        slope, trace = derivatives(field.value, x)
        close(field.gradient(x), slope)
        close(field.laplacian(x), trace)
        assert (field.value(x) <= field.highest + 1e-12).all()


@given(seed=st.integers(0, 10**6), d=st.integers(1, 4), degree=st.integers(1, 2))
def test_fields_on_a_sphere_know_their_derivatives(seed, d, degree):
    x, field = Sphere(d).uniform(9, seeded(seed)), Harmonic(axes(seed, d + 1)[:degree], 1.5)
    # Constant along rays, a function's derivatives in space at |x| = 1 are those on the sphere.
    slope, trace = derivatives(lambda x: field.value(x / x.norm(dim=-1, keepdim=True)), x)
    close(field.gradient(x), slope)
    close(field.laplacian(x), trace)
    assert (field.value(x) <= field.highest + 1e-12).all()


@given(kappa=st.floats(0, 1), start=st.floats(0, 0.99))
def test_a_grid_of_quantiles_integrates_a_density(kappa, start):
    density = VonMises(torch.tensor([kappa]), torch.tensor([1.0]))
    x = Torus(1).grid(200, density, start)[:, 0]
    mean = ive(1, density.kappa.item()) / ive(0, density.kappa.item())
    close((x - 1).cos().mean(), torch.tensor(float(mean), dtype=torch.float64), 1e-9)
    close((x - 1).sin().mean(), torch.zeros((), dtype=torch.float64), 1e-9)


def test_a_grid_of_two_angles_is_a_product():
    density = VonMises(torch.tensor([0.5, 0.8], dtype=torch.float64), torch.tensor([0.0, 2.0]))
    x = Torus(2).grid(120, density)
    assert x.shape == (14400, 2)
    mean = [float(ive(1, kappa) / ive(0, kappa)) for kappa in (0.5, 0.8)]
    close((x - density.mu).cos().mean(0), torch.tensor(mean, dtype=torch.float64))
    close((x - density.mu).cos().prod(-1).mean(), torch.tensor(math.prod(mean), dtype=torch.float64))


def test_the_quadrature_of_a_sphere_is_exact():
    x, weights = Sphere(2).quadrature(12)
    a = axes(3)[0]
    for power, mean in ((0, 1), (1, 0), (2, 1 / 3), (3, 0), (4, 1 / 5), (10, 1 / 11)):
        close((weights * (x @ a) ** power).sum(), torch.tensor(mean, dtype=torch.float64))


def test_points_are_drawn_from_the_density():
    density = VonMises(torch.tensor([1.2, 0.4]), torch.tensor([1.0, 4.0]))
    x = Torus(2).sample(20000, seeded(), density)
    mean = [float(ive(1, kappa) / ive(0, kappa)) for kappa in (1.2, 0.4)]
    close((x - density.mu).cos().mean(0), torch.tensor(mean, dtype=torch.float64), 0.02)
    height = Harmonic(torch.tensor([[0.0, 0.0, 1.0]]), 2.0)  # von Mises and Fisher: the mean is coth κ − 1/κ
    z = Sphere(2).sample(20000, seeded(), height)[:, 2].mean()
    close(z, torch.tensor(1 / math.tanh(2) - 0.5, dtype=torch.float64), 0.02)
    close(Torus(2).sample(5, seeded(), density), Torus(2).sample(5, seeded(), density), 0)


def test_laplace_beltrami_of_polar_coordinates():
    at = torch.rand(8, 2, generator=seeded(), dtype=torch.float64) + 0.5

    def polar(x):
        return torch.diag_embed(torch.stack([torch.ones_like(x[:, 0]), x[:, 0].square()], -1))

    def h(x):  # u³ + v² in Cartesian coordinates: Δ = 6u + 2
        r, angle = x.T
        return (r * angle.cos()) ** 3 + (r * angle.sin()) ** 2

    close(laplace_beltrami(polar, h, at), 6 * at[:, 0] * at[:, 1].cos() + 2)


@pytest.mark.parametrize(
    ("normalization", "alpha"),
    [(Softmax(), 0.0), (Softmax(0.5), 0.5), (Softmax(1.0), 1.0), (SymmetricSinkhorn(1e-8), 0.5)],
    ids=["0", "½", "1", "Sinkhorn"],
)
def test_the_generator_tends_to_drift_and_diffusion(normalization, alpha):
    density, h = VonMises(torch.tensor([0.8]), torch.tensor([1.0])), Wave(torch.tensor([2.0]), 0.3)
    x = Torus(1).grid(300, density)
    limit, errors = drift_diffusion(h, x, density, alpha), []
    for epsilon in (0.02, 0.01, 0.005):
        rate = generator(diffusion(Torus(1).embed(x), epsilon, normalization), h.value(x)[:, None], epsilon)[:, 0]
        errors.append(float((rate - limit).abs().max()))
    assert errors[-1] < 0.1
    assert order((0.02, 0.01, 0.005), errors) == pytest.approx(1, abs=0.1)


def test_a_cloud_of_a_user_has_the_limit_of_its_manifold():
    ring = Torus(1).embed(Torus(1).grid(400))
    cloud = Cloud(torch.nn.functional.pad(3 * ring.float(), (1, 2)), dimension=1)  # a circle of radius 3 in space
    assert cloud.sample(7, seeded()).shape == (7, 5)
    points = cloud.embed(cloud.points)
    rate = generator(diffusion(points, 0.05), ring[:, :1], 0.05)
    close(rate, -ring[:, :1] / 9, 1e-3)


def test_diffusion_is_attention_of_a_bandwidth():
    x = torch.randn(6, 2, generator=seeded())
    A = diffusion(x, 0.09, Softmax(1.0), keys=x[:4])
    assert isinstance(A.similarity, Euclidean)
    close(A.dense().sum(-1), torch.ones(6), 1e-6)
    assert A.scale == pytest.approx(1 / 0.09)


def test_an_order_is_a_slope():
    assert order([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert order([0.1, 0.01], [5, 5]) == pytest.approx(0)


def test_invalid_arguments_are_refused():
    good = torch.zeros(3, 2)
    for call, says in (
        (lambda: Wave(torch.tensor([0.5])), "whole wave numbers"),
        (lambda: VonMises(torch.tensor([-1.0]), torch.tensor([0.0])), "concentrations ≥ 0"),
        (lambda: Harmonic(torch.ones(2, 3)), "orthonormal"),
        (lambda: Torus(0), "whole number ≥ 1, got 0"),
        (lambda: Torus(1).grid(4, start=1.0), r"\[0, 1\), got 1.0"),
        (lambda: Torus(1).sample(0, seeded()), "whole number ≥ 1, got 0"),
        (lambda: Torus(1).sample(9, seeded(), VonMises(torch.tensor([1e9]), torch.tensor([0.0]))), "too concentrated"),
        (lambda: Sphere(3).quadrature(4), r"sphere S² only, got S\^3"),
        (lambda: Cloud(good / 0, 1), "finite points"),
        (lambda: Cloud(good, 3), "width of the points, got 3"),
        (lambda: diffusion(good, 0.0), "squared bandwidth, got 0.0"),
        (lambda: laplace_beltrami(lambda x: x, lambda x: x.sum(-1), good), "got \\(3, 2\\)"),
        (lambda: order([1, 1], [1, 2]), "two or more sizes, all different"),
        (lambda: order([1, 2], [0, 2]), "positive finite"),
    ):
        with pytest.raises(InputError, match=says):
            call()
