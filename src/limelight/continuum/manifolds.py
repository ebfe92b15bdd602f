"""Manifolds: a torus (a circle is one), a sphere, or a cloud of given points.

A manifold samples points from a density by rejection, and embeds them in the space in which attention measures
distances. The torus and the sphere S² also have points with equal or known weights that integrate smooth functions
exactly up to rounding: with these an error has no variance, only bias.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limelight.continuum.fields import Field, VonMises
from limelight.errors import InputError

_TAU = 2 * math.pi
_LEAST_ACCEPTED = 1e-4  # the least share of accepted proposals in rejection sampling


class Manifold(ABC):
    """A compact manifold of some dimension, embedded in a Euclidean space.

    >>> import torch
    >>> from limelight.continuum import Sphere
    >>> x = Sphere(2).sample(1000, torch.Generator().manual_seed(0))
    >>> x.shape, torch.allclose(x.norm(dim=1), torch.ones(1000).double())
    (torch.Size([1000, 3]), True)
    """

    dimension: int

    @abstractmethod
    def uniform(self, n: int, generator: torch.Generator) -> Float[Tensor, "n c"]:
        """n points drawn uniformly by area, in the manifold's coordinates, float64."""

    @abstractmethod
    def embed(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n e"]:
        """The positions of these points in Euclidean space."""

    def sample(self, n: int, generator: torch.Generator, log_density: Field | None = None) -> Float[Tensor, "n c"]:
        """n independent points of a density that is known up to a factor, by rejection; uniform if none is given.

        Raises `InputError` for n < 1, and for a density so concentrated that hardly any proposal is accepted.
        """
        _require_count(n)
        if log_density is None:
            return self.uniform(n, generator)
        kept: list[Tensor] = []
        accepted = proposed = 0
        while accepted < n:
            # A point x drawn uniformly is kept with probability exp(h(x) − b), where b ≥ max h, so that those kept
            # have a density proportional to e^h (von Neumann 1951). The normalization of the density need not be known,
            # and a bound b that is too high only costs proposals. Logarithms are compared, so that nothing overflows.
            x = self.uniform(2 * n, generator)
            chance = torch.rand(2 * n, generator=generator, dtype=x.dtype)
            kept.append(x[chance.log() <= log_density.value(x) - log_density.highest])
            accepted, proposed = accepted + len(kept[-1]), proposed + 2 * n
            if proposed > 1000 and accepted < _LEAST_ACCEPTED * proposed:
                raise InputError(
                    f"the density is too concentrated to draw by rejection, which accepted {accepted} of {proposed} "
                    "proposals; use a less concentrated density"
                )
        return torch.cat(kept)[:n]


class Torus(Manifold):
    """The flat torus of d angles, embedded as d unit circles: θ ↦ (cos θ_1, sin θ_1, …). d = 1 is the circle.

    >>> from limelight.continuum import Torus
    >>> Torus(2).dimension
    2
    """

    def __init__(self, d: int = 1) -> None:
        _require_count(d)
        self.dimension = d

    def uniform(self, n: int, generator: torch.Generator) -> Float[Tensor, "n c"]:
        return _TAU * torch.rand(n, self.dimension, generator=generator, dtype=torch.float64)

    def embed(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n e"]:
        return torch.stack([x.cos(), x.sin()], -1).flatten(-2)

    def grid(self, n: int, log_density: VonMises | None = None, start: float = 0.5) -> Float[Tensor, "nd c"]:
        """n^d points that each represent the same share of the density: its quantiles for each angle.

        The mean of a smooth periodic function over them is its expectation, up to an error that falls faster than any
        power of n; for a concentrated density it starts to fall only at a large n. `start` in [0, 1) shifts the points
        by that part of a step. Raises `InputError` for n < 1 and a start outside [0, 1).
        """
        _require_count(n)
        if not 0 <= start < 1:
            raise InputError(f"grid(start=…) expects a part of a step in [0, 1), got {start!r}")
        # Quantiles at equal steps turn a mean under the density into a mean over equal steps of u in [0, 1): E h = ∫
        # h(F⁻¹(u)) du. The integrand is smooth and periodic in u. For such a function the error of equal steps (the
        # trapezoidal rule) falls faster than any power of n (Trefethen & Weideman 2014). The angles are independent, so
        # in d dimensions the points are the products of those in one.
        u = (torch.arange(n, dtype=torch.float64)[:, None] + start).expand(n, self.dimension) / n
        angles = _TAU * u if log_density is None else log_density.quantiles(u)
        return torch.cartesian_prod(*angles.mT).reshape(-1, self.dimension)


class Sphere(Manifold):
    """The unit sphere S^d in d + 1 dimensions; points are unit vectors.

    >>> from limelight.continuum import Sphere
    >>> Sphere(2).dimension
    2
    """

    def __init__(self, d: int = 2) -> None:
        _require_count(d)
        self.dimension = d

    def uniform(self, n: int, generator: torch.Generator) -> Float[Tensor, "n c"]:
        # The density of d + 1 independent normal numbers, ∝ exp(−|x|²/2), depends on the length alone, so that all
        # directions are equally likely.
        x = torch.randn(n, self.dimension + 1, generator=generator, dtype=torch.float64)
        return x / x.norm(dim=-1, keepdim=True)

    def embed(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n e"]:
        return x

    def quadrature(self, n: int) -> tuple[Float[Tensor, "m 3"], Float[Tensor, " m"]]:
        """2n² points of S² and their shares of its area: Gauss–Legendre by height, equal steps around.

        Exact for polynomials of degree below 2n. Raises `InputError` for another dimension than 2.
        """
        _require_count(n)
        if self.dimension != 2:
            raise InputError(f"the quadrature exists for the sphere S² only, got S^{self.dimension}")
        # Zones of equal height have equal areas on S² (Archimedes), so an integral over the sphere is one over the
        # height z in [−1, 1] and one around. n Gauss–Legendre heights are exact for polynomials in z of degree up to
        # 2n − 1, and 2n equal steps around for trigonometric polynomials of degree below 2n. After the sum around, only
        # terms that do not oscillate are left, and they are polynomials in z.
        height, weight = (torch.as_tensor(part) for part in np.polynomial.legendre.leggauss(n))
        around = _TAU * torch.arange(2 * n, dtype=torch.float64) / (2 * n)
        ring = torch.stack([around.cos(), around.sin()], -1)
        flat = (1 - height.square()).sqrt()[:, None, None] * ring
        points = torch.cat([flat, height[:, None, None].expand(n, 2 * n, 1)], -1)
        return points.flatten(0, 1), (weight / weight.sum() / (2 * n)).repeat_interleave(2 * n)


class Cloud(Manifold):
    """Given points (n, c) of a manifold whose dimension is known; samples are drawn from them, with replacement.

    Raises `InputError` for fewer than two points, a dimension outside 1 … c, and points that are not finite.

    >>> import torch
    >>> from limelight.continuum import Cloud
    >>> points = torch.randn(100, 3)
    >>> Cloud(points, dimension=2).sample(10, torch.Generator().manual_seed(0)).shape
    torch.Size([10, 3])
    """

    def __init__(self, points: Float[Tensor, "n c"], dimension: int) -> None:
        if points.ndim != 2 or len(points) < 2 or not bool(points.isfinite().all()):
            raise InputError(f"Cloud expects at least two finite points (n, c), got shape {tuple(points.shape)}")
        if isinstance(dimension, bool) or not isinstance(dimension, int) or not 1 <= dimension <= points.shape[1]:
            raise InputError(
                f"Cloud(dimension=…) expects a whole number from 1 to {points.shape[1]}, the width of the points, "
                f"got {dimension!r}"
            )
        self.points, self.dimension = points.double(), dimension

    def uniform(self, n: int, generator: torch.Generator) -> Float[Tensor, "n c"]:
        return self.points[torch.randint(len(self.points), (n,), generator=generator)]

    def embed(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n e"]:
        return x


def _require_count(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"expected a whole number ≥ 1, got {n!r}")
