"""The continuum limit: manifolds to sample, fields with known derivatives, and the limits of attention on them."""

from limelight.continuum.fields import Field, Harmonic, VonMises, Wave
from limelight.continuum.limits import diffusion, drift_diffusion, laplace_beltrami
from limelight.continuum.manifolds import Cloud, Manifold, Sphere, Torus
from limelight.continuum.orders import order
from limelight.continuum.pseudometrics import Minimizer, Pseudometric, first_order, minimizer

__all__ = [
    "Cloud",
    "Field",
    "Harmonic",
    "Manifold",
    "Minimizer",
    "Pseudometric",
    "Sphere",
    "Torus",
    "VonMises",
    "Wave",
    "diffusion",
    "drift_diffusion",
    "first_order",
    "laplace_beltrami",
    "minimizer",
    "order",
]
