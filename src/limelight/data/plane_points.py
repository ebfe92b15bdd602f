"""Points in the plane for pictures of attention: two moons, three blobs, a ring, a square, a line.

They are in the order of their shape, so that the matrix of weights shows it and a window mask hides distant points.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError, UnknownNameError

COORDINATE_MAX = 2.5  # the largest absolute value of a coordinate
_NOISE = 0.08


def arrangement(name: str, n: int, seed: int) -> Float[Tensor, "n 2"]:
    """n points in float64, rounded to thousandths; `ARRANGEMENTS` has the names.

    Raises `InputError` for fewer than one point and `UnknownNameError` for another name.
    """
    if name not in ARRANGEMENTS:
        raise UnknownNameError("arrangement", name, ARRANGEMENTS)
    if n < 1:
        raise InputError(f"arrangement(n=…) expects at least one point, got {n}")
    generator = torch.Generator().manual_seed(seed)
    return ARRANGEMENTS[name](n, generator).clamp(-COORDINATE_MAX, COORDINATE_MAX).round(decimals=3)


def _moons(n: int, generator: torch.Generator) -> Tensor:
    """Two interleaved half circles, a little farther apart than usual, since there are few points."""
    upper, lower = _along(n - n // 2) * math.pi, _along(n // 2) * math.pi
    points = torch.cat([_circle(upper), torch.tensor([1.0, 0.3]).double() - _circle(lower)])
    return 1.4 * (points - torch.tensor([0.5, 0.15]).double()) + 0.6 * _noise(n, generator)


def _blobs(n: int, generator: torch.Generator) -> Tensor:
    which = (torch.arange(n) * 3) // n
    centers = 1.5 * _circle(torch.tensor([5 / 6, 1 / 6, 3 / 2]).double() * math.pi)
    return centers[which] + 4 * _noise(n, generator)


def _ring(n: int, generator: torch.Generator) -> Tensor:
    return 1.7 * _circle(torch.arange(n).double() / n * 2 * math.pi) + _noise(n, generator)


def _square(n: int, generator: torch.Generator) -> Tensor:
    points = 4 * torch.rand(n, 2, generator=generator, dtype=torch.float64) - 2
    return points[points[:, 0].argsort()]


def _line(n: int, generator: torch.Generator) -> Tensor:
    return torch.stack([4.4 * _along(n) - 2.2, torch.zeros(n).double()], -1) + _noise(n, generator)


def _along(n: int) -> Tensor:
    return torch.linspace(0, 1, n, dtype=torch.float64)


def _circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], -1)


def _noise(n: int, generator: torch.Generator) -> Tensor:
    return _NOISE * torch.randn(n, 2, generator=generator, dtype=torch.float64)


ARRANGEMENTS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "moons": _moons,
    "blobs": _blobs,
    "ring": _ring,
    "uniform": _square,
    "line": _line,
}
