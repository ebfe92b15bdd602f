"""Functions on a manifold with their gradient and Laplacian in closed form: test functions and log-densities.

On a torus points are angles and the gradient is with respect to the angles; on a sphere points are unit vectors and
the gradient is a tangent vector. On both, the sum over coordinates of the product of two gradients is their inner
product in the manifold's metric.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from scipy.special import ive
from torch import Tensor

from limelight.errors import InputError

_TAU = 2 * math.pi


class Field(ABC):
    """A smooth function on a manifold. As a log-density it is known up to a constant.

    >>> from limelight.continuum import Field, Wave
    >>> issubclass(Wave, Field)
    True
    """

    @abstractmethod
    def value(self, x: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """h at the points x."""

    @abstractmethod
    def gradient(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """∇h at the points x."""

    @abstractmethod
    def laplacian(self, x: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """Δh at the points x."""

    @property
    @abstractmethod
    def highest(self) -> float:
        """An upper bound of h, which rejection sampling needs."""


class Wave(Field):
    """h(θ) = cos(⟨k, θ⟩ + φ) on a torus, k whole numbers (d,): Δh = −|k|² h.

    >>> import torch
    >>> from limelight.continuum import Wave
    >>> h = Wave(k=torch.tensor([2.0]))
    >>> x = torch.zeros(1, 1).double()
    >>> h.value(x), h.laplacian(x)
    (tensor([1.], dtype=torch.float64), tensor([-4.], dtype=torch.float64))
    """

    def __init__(self, k: Float[Tensor, " d"], phase: float = 0.0) -> None:
        if k.ndim != 1 or not bool((k == k.round()).all()):
            raise InputError(f"Wave(k) expects whole wave numbers of shape (d,), got {k.tolist()}")
        self.k, self.phase = k.double(), phase

    @classmethod
    def drawn(cls, k: Float[Tensor, " d"], generator: torch.Generator) -> Wave:
        """A wave with these wave numbers in a random order of the angles, and with a random phase."""
        turned = k[torch.randperm(len(k), generator=generator)]
        return cls(turned, _TAU * float(torch.rand(1, generator=generator)))

    def value(self, x: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        return (x @ self.k + self.phase).cos()

    def gradient(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        return -(x @ self.k + self.phase).sin()[:, None] * self.k

    def laplacian(self, x: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        return -self.k.square().sum() * self.value(x)

    @property
    def highest(self) -> float:
        return 1.0


class VonMises(Field):
    """h(θ) = Σ_c κ_c cos(θ_c − μ_c) on a torus: the log-density of independent von Mises angles, κ and μ (d,).

    >>> import torch
    >>> from limelight.continuum import VonMises
    >>> h = VonMises(kappa=torch.tensor([2.0]), mu=torch.tensor([0.0]))
    >>> h.value(torch.zeros(1, 1)), h.gradient(torch.zeros(1, 1))
    (tensor([2.], dtype=torch.float64), tensor([[-0.]], dtype=torch.float64))
    """

    def __init__(self, kappa: Float[Tensor, " d"], mu: Float[Tensor, " d"]) -> None:
        if kappa.ndim != 1 or kappa.shape != mu.shape or bool((kappa < 0).any()):
            raise InputError(
                f"VonMises expects concentrations ≥ 0 and means, both (d,); got {kappa.tolist()} and {mu.tolist()}"
            )
        self.kappa, self.mu = kappa.double(), mu.double()

    def value(self, x: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        return ((x - self.mu).cos() * self.kappa).sum(-1)

    def gradient(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        return -(x - self.mu).sin() * self.kappa

    def laplacian(self, x: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        return -self.value(x)

    @property
    def highest(self) -> float:
        return float(self.kappa.sum())

    def quantiles(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The angles θ_c below which a share u_c in [0, 1) of each angle's density lies, counted from μ_c − π."""
        # The density of an angle about its mean is the Fourier series (1 + 2 Σ_j I_j(κ)/I_0(κ) · cos jθ)/2π with
        # modified Bessel functions I_j, and its integral from −π is the distribution function
        #     F(θ) = ½ + (θ + 2 Σ_j I_j(κ)/I_0(κ) · sin(jθ)/j)/2π.
        # The ratios fall like exp(−j²/2κ) while j is below κ, and like e^{−κ} (eκ/2j)^j far beyond: the terms after the
        # first 20 + 4κ are less than rounding errors. `ive` is e^{−κ} I_j(κ), so that neither part of a ratio
        # overflows.
        terms = 20 + int(4 * float(self.kappa.max()))
        j = torch.arange(1, terms + 1, dtype=torch.float64)
        ratios = torch.stack([torch.as_tensor(ive(j.numpy(), kappa) / ive(0, kappa)) for kappa in self.kappa.tolist()])
        table = torch.linspace(-math.pi, math.pi, 4097, dtype=torch.float64)
        angles = [self._invert(u[:, c], ratios[c], j, table) for c in range(u.shape[1])]
        return torch.stack(angles, -1) + self.mu

    @staticmethod
    def _invert(u: Tensor, ratio: Tensor, j: Tensor, table: Tensor) -> Tensor:
        # F(θ) = u is solved by Newton's method. Far from the mean F is nearly flat, and a step could be far too long.
        # So the root is first enclosed between two neighboring points of a table of F, which increases, and a step that
        # leaves this interval ends at its border. In an interval this small (2π/4096) four steps are exact to rounding.
        def share(theta: Tensor) -> Tensor:
            return 0.5 + (theta + 2 * (theta[:, None] * j).sin() @ (ratio / j)) / _TAU

        def slope(theta: Tensor) -> Tensor:
            return (1 + 2 * (theta[:, None] * j).cos() @ ratio) / _TAU

        index = torch.searchsorted(share(table), u.contiguous()).clamp(1, len(table) - 1)
        low, high = table[index - 1], table[index]
        theta = (low + high) / 2
        for _ in range(4):
            theta = torch.clamp(theta - (share(theta) - u) / slope(theta), low, high)
        return theta


class Harmonic(Field):
    """h(x) = Π_c ⟨a_c, x⟩ on the sphere S^d for orthonormal a_1 … a_ℓ: a spherical harmonic, Δh = −ℓ(ℓ + d − 1) h.

    >>> import torch
    >>> from limelight.continuum import Harmonic
    >>> h = Harmonic(axes=torch.eye(3)[:2])  # x·y on the sphere
    >>> x = torch.tensor([[0.6, 0.8, 0.0]]).double()
    >>> h.value(x).round(decimals=2), h.laplacian(x).round(decimals=2)  # −6 times the value
    (tensor([0.4800], dtype=torch.float64), tensor([-2.8800], dtype=torch.float64))
    """

    def __init__(self, axes: Float[Tensor, "l c"], size: float = 1.0) -> None:
        gram = axes.double() @ axes.double().mT
        if axes.ndim != 2 or not torch.allclose(gram, torch.eye(len(axes), dtype=gram.dtype), atol=1e-10):
            raise InputError(f"Harmonic expects orthonormal axes (ℓ, d + 1), got their inner products {gram.tolist()}")
        self.axes, self.size = axes.double(), size

    @classmethod
    def drawn(cls, degree: int, d: int, generator: torch.Generator) -> Harmonic:
        """A harmonic of this degree on S^d, with random axes."""
        axes = torch.linalg.qr(torch.randn(d + 1, d + 1, generator=generator, dtype=torch.float64))[0]
        return cls(axes[:degree])

    def value(self, x: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        return self.size * (x @ self.axes.mT).prod(-1)

    def gradient(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        # The product rule gives the gradient in the surrounding space, Σ_c a_c Π_{b≠c} ⟨a_b, x⟩. The gradient on the
        # sphere is its tangent part, without the component along the normal, which at a unit vector x is x itself.
        parts = x @ self.axes.mT
        others = [torch.cat([parts[:, :c], parts[:, c + 1 :]], 1).prod(-1) for c in range(len(self.axes))]
        ambient = self.size * torch.stack(others, -1) @ self.axes
        return ambient - (ambient * x).sum(-1, keepdim=True) * x

    def laplacian(self, x: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        # In the surrounding space h is a polynomial of degree ℓ with zero Laplacian, since the axes are orthogonal and
        # each enters once. There Δ = ∂²/∂r² + (d/r) ∂/∂r + Δ_S/r², and h grows as r^ℓ along a ray, so that at r = 1
        #     0 = ℓ(ℓ − 1) h + d ℓ h + Δ_S h,   which is   Δ_S h = −ℓ(ℓ + d − 1) h.
        degree, d = len(self.axes), x.shape[-1] - 1
        return -degree * (degree + d - 1) * self.value(x)

    @property
    def highest(self) -> float:
        return abs(self.size)
