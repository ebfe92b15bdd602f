"""Generated stimuli that show what a unit of a vision network responds to: bars, arcs, gratings, and Gabor functions.

All are drawn on square images, whose middle is the origin, x to the right and y up; lengths are in pixels, angles in
radians, counterclockwise from the x axis. Strokes are white (1) on black (0), with edges of one pixel on which the
value falls linearly, so that a stroke looks the same at every orientation.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limelight.errors import InputError


def bars(
    side: int, orientations: Float[Tensor, " orientations"], offsets: Float[Tensor, " offsets"], width: float = 2.0
) -> Float[Tensor, "orientations offsets side side"]:
    """Bars through the whole image, of each orientation, moved across themselves by each offset.

    A bar has no end within the image, so that a unit's response depends on its orientation and its place alone.

    Raises `InputError` for a side below 1 or a width that is not positive.

    >>> import torch
    >>> from limelight.data.stimuli import bars
    >>> bars(5, torch.tensor([0.0]), torch.tensor([0.0]), width=1.0)[0, 0, :, 0]
    tensor([0., 0., 1., 0., 0.])
    """
    _require_positive("bars", side=side, width=width)
    _, across = _turned(side, orientations)
    return _stroke((across[:, None] - offsets[:, None, None]).abs(), width)


def arcs(
    side: int,
    orientations: Float[Tensor, " orientations"],
    shifts: Float[Tensor, "shifts 2"],
    length: float,
    turn: float,
    width: float = 2.0,
) -> Float[Tensor, "orientations shifts side side"]:
    """Arcs of a circle of this length, whose direction turns by `turn` from end to end: the curvature is turn / length.

    A turn of 0 gives a straight segment and one of π a semicircle. As all have the same length and width, they have
    the same area and contrast: only the curvature differs. `orientations` are those of the chord, and say also to
    which side an arc bulges, so that those of arcs cover a whole circle, and those of segments half of one. The center
    of mass of an arc's middle line is moved from the middle of the image by each of `shifts`, (x, y).

    Raises `InputError` for a side below 1, a length or width that is not positive, and a turn outside [0, 2π].

    >>> import math, torch
    >>> from limelight.data.stimuli import arcs
    >>> straight, half = (arcs(24, torch.zeros(1), torch.zeros(1, 2), 12.0, turn) for turn in (0.0, math.pi))
    >>> round(float(half.sum() / straight.sum()), 2)  # the ends of both have the same shape
    1.01
    """
    _require_positive("arcs", side=side, length=length, width=width)
    if not 0 <= turn <= 2 * math.pi:
        raise InputError(f"arcs(turn=…) expects radians from 0 to 2π, got {turn!r}")
    along, across = _turned(side, orientations)
    moved = _components(shifts, orientations)
    return _stroke(_distance(along[:, None] - moved[0], across[:, None] - moved[1], length, turn), width)


def gratings(
    side: int, orientations: Float[Tensor, " orientations"], phases: Float[Tensor, " phases"], wavelength: float
) -> Float[Tensor, "orientations phases side side"]:
    """½ + ½ cos(2π d / wavelength + phase), d the distance across the stripes: sinusoidal gratings of full contrast.

    `orientations` are those of the stripes, so that a grating and a bar of one orientation are parallel. The mean over
    whole periods is ½, that of a gray image.

    Raises `InputError` for a side below 1, and a wavelength below 2, which pixels cannot show.

    >>> import torch
    >>> from limelight.data.stimuli import gratings
    >>> gratings(3, torch.tensor([0.0]), torch.tensor([0.0]), wavelength=2.0)[0, 0, :, 0]
    tensor([0., 1., 0.])
    """
    _require_positive("gratings", side=side)
    if not wavelength >= 2:
        raise InputError(f"gratings(wavelength=…) expects at least 2 pixels, got {wavelength!r}")
    _, across = _turned(side, orientations)
    return (1 + (2 * math.pi / wavelength * across[:, None] + phases[:, None, None]).cos()) / 2


def gabors(
    side: int, orientations: Float[Tensor, " orientations"], wavelength: float, phase: float = 0.0, sigma: float = 1.5
) -> Float[Tensor, "orientations side side"]:
    """exp(−(x² + y²) / 2σ²) cos(2π d / wavelength + phase) minus its mean, scaled to Σ w² = 1, for each orientation.

    These are the textbook's model of a cell that responds to an edge (phase ±π/2) or a line (phase 0) of one
    orientation (Daugman 1985): a filter whose orientation is known, by which a measure can be checked.

    Raises `InputError` for a side below 2, and a wavelength or sigma that is not positive.

    >>> import torch
    >>> from limelight.data.stimuli import gabors
    >>> gabors(5, torch.tensor([0.0]), wavelength=4.0)[0, :, 2].sign()
    tensor([-1., -1.,  1., -1., -1.])
    """
    _require_positive("gabors", side=side - 1, wavelength=wavelength, sigma=sigma)
    along, across = _turned(side, orientations)
    envelope = (-(along.square() + across.square()) / (2 * sigma**2)).exp()
    wave = envelope * (2 * math.pi / wavelength * across + phase).cos()
    wave = wave - wave.mean((1, 2), keepdim=True)
    return wave / wave.square().sum((1, 2), keepdim=True).sqrt()


def _require_positive(who: str, **given: float) -> None:
    for name, value in given.items():
        if not value > 0:
            raise InputError(f"{who}({name}=…) expects a number above 0, got {value!r}")


def _turned(side: int, orientations: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's coordinates along and across a line of each orientation, (orientations, side, side)."""
    at = torch.arange(side, dtype=orientations.dtype) - (side - 1) / 2
    x, y = at[None, :].expand(side, side), -at[:, None].expand(side, side)
    return _components(torch.stack([x, y], -1), orientations)


def _components(points: Float[Tensor, "*shape 2"], orientations: Tensor) -> tuple[Tensor, Tensor]:
    """The components of points (x, y) along and across each orientation, (orientations, *shape); for one dimension
    of points (orientations, points, 1, 1), which broadcasts with images."""
    cos, sin = (f(orientations)[:, None, None] for f in (torch.cos, torch.sin))
    x, y = points[..., 0], points[..., 1]
    along, across = x * cos + y * sin, y * cos - x * sin
    return (along, across) if points.ndim == 3 else (along[:, 0, :, None, None], across[:, 0, :, None, None])


def _stroke(distance: Tensor, width: float) -> Tensor:
    """White within half the width of the middle line, and black from half a pixel beyond it on."""
    return (width / 2 + 0.5 - distance).clamp(0, 1)


def _distance(along: Tensor, across: Tensor, length: float, turn: float) -> Tensor:
    """The distance of each point from an arc around the origin that bulges to positive `across`.

    The arc has the radius r = length / turn, and its center of mass lies r sin(turn/2) / (turn/2) from the circle's
    center. Seen from there, a point within the arc's angle is |ρ − r| away from it, and any other as far as the nearer
    of its two ends.
    """
    if turn == 0:
        return torch.hypot((along.abs() - length / 2).clamp(min=0), across)
    radius, half = length / turn, turn / 2
    across = across + radius * math.sin(half) / half
    beside = torch.hypot(along.abs() - radius * math.sin(half), across - radius * math.cos(half))
    within = torch.atan2(along.abs(), across) <= half
    return torch.where(within, (torch.hypot(along, across) - radius).abs(), beside)
