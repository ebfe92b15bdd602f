"""Generated human bodies in random poses, as points on their surface that know their part of the body.

A body is made of capsules: a head, a torso, and left and right an upper arm, a lower arm, a hand, an upper leg, a lower
leg and a foot. It stands in for scanned bodies (Maron et al. 2017, see `limelight.data.human_bodies`), which would have
to be downloaded, and like them it has eight parts. Left and right share a label, as they do there: the mirror image of
a body exchanges them and leaves every distance and every angle as it is, so that no score of distances could tell them
apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError

PARTS = ("head", "torso", "upper arm", "lower arm", "hand", "upper leg", "lower leg", "foot")
PART_OF_CAPSULE = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6, 7])  # the right limbs, then the left ones
LENGTHS = (0.10, 0.42, 0.28, 0.25, 0.09, 0.42, 0.40, 0.14)  # of each part's axis in meters, and its radius
RADII = (0.10, 0.15, 0.05, 0.042, 0.04, 0.075, 0.055, 0.042)
SHOULDER, HIP = 0.20, 0.10  # from the middle of the body to a joint, in meters
DOWN, FORWARD, RIGHT = torch.tensor([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class Bodies:
    """Points on the surface of several bodies, their outward unit normals, and the number of the part of each."""

    points: Float[Tensor, "bodies n 3"]
    normals: Float[Tensor, "bodies n 3"]
    parts: Int[Tensor, "bodies n"]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, which: slice | Tensor) -> Bodies:
        """Some of the bodies."""
        return Bodies(self.points[which], self.normals[which], self.parts[which])

    def rotated(self, rotations: Float[Tensor, "bodies 3 3"]) -> Bodies:
        """Each body after x ↦ R x, with the same parts."""
        return Bodies(self.points @ rotations.mT, self.normals @ rotations.mT, self.parts)

    def standardized(self) -> Bodies:
        """Each body moved and scaled: the mean of its points is 0, and the mean of their squared lengths is 3."""
        centered = self.points - self.points.mean(1, keepdim=True)
        return Bodies(centered / centered.square().mean((1, 2), keepdim=True).sqrt(), self.normals, self.parts)


# The skeleton is built from the pelvis on: a limb begins where the one before it ends, and turns with it. An angle is
# the same rotation whichever side it is on, but for the sign of the sideways ones, so that left and right are alike.
def articulated_bodies(
    count: int, points: int, generator: torch.Generator, *, proportions: float = 0.1, bend: float = 1.0
) -> Bodies:
    """x = a + t (b − a) + r n on capsules with the axis from a to b and the radius r: bodies along z that face y.

    Lengths and radii differ between bodies; `proportions` is the standard deviation of their logarithm. `bend` scales
    all joint angles: with 0 all bodies stand with hanging arms. Points are spread evenly over the surface, and none
    lies inside another part.

    Raises `InputError` for fewer than one body or point, or a negative spread.

    >>> import torch
    >>> from limelight.data.articulated_bodies import articulated_bodies
    >>> bodies = articulated_bodies(5, 200, torch.Generator().manual_seed(0))
    >>> bodies.points.shape, bodies.parts.unique().tolist()
    (torch.Size([5, 200, 3]), [0, 1, 2, 3, 4, 5, 6, 7])
    """
    if count < 1 or points < 1 or not 0 <= proportions < math.inf or not math.isfinite(bend):
        raise InputError(
            "articulated bodies expect at least one body and one point, a spread of proportions of 0 or more and a "
            f"finite bend; got {count} bodies, {points} points, proportions {proportions:g}, bend {bend:g}"
        )
    starts, ends, radii = capsules(count, generator, proportions, bend)
    found, normals, capsule = _on_surface(starts, ends, radii, 3 * points, generator)
    hidden = _inside(found, starts, ends, radii, capsule)
    kept = hidden.int().argsort(dim=1, stable=True)[:, :points]  # the first ones that are not hidden
    take = kept[..., None].expand(-1, -1, 3)
    return Bodies(found.gather(1, take), normals.gather(1, take), PART_OF_CAPSULE[capsule.gather(1, kept)])


def capsules(
    count: int, generator: torch.Generator, proportions: float, bend: float
) -> tuple[Float[Tensor, "b 14 3"], Float[Tensor, "b 14 3"], Float[Tensor, "b 14"]]:
    """The two ends of each capsule's axis, and its radius."""
    size = (proportions * torch.randn(count, 2, len(PARTS), generator=generator)).exp()
    lengths, radii = torch.tensor(LENGTHS) * size[:, 0], torch.tensor(RADII) * size[:, 1]
    turn = _Turns(count, generator, bend)

    pelvis, trunk = torch.zeros(count, 3), turn.about(RIGHT, -10, 25)
    neck = pelvis - _along(trunk, DOWN, lengths[:, 1])
    head = trunk @ turn.about(RIGHT, -25, 25) @ turn.about(FORWARD, -20, 20)
    gap = radii[:, 0] + radii[:, 1] / 2  # from the end of the torso's axis to that of the head's
    axes = [
        (neck - _along(head, DOWN, gap), neck - _along(head, DOWN, gap + lengths[:, 0])),
        (pelvis, neck),
    ]
    for side in (1.0, -1.0):
        shoulder = neck + _along(trunk, side * RIGHT, SHOULDER * size[:, 0, 1])
        arm = trunk @ turn.about(RIGHT, -40, 110) @ turn.about(-side * FORWARD, 5, 100)
        axes += _limb(shoulder, (arm, turn.about(RIGHT, 0, 120), turn.about(RIGHT, -30, 30)), lengths[:, 2:5])
        hip = pelvis + _along(trunk, side * RIGHT, HIP * size[:, 0, 1])
        leg = turn.about(RIGHT, -25, 70) @ turn.about(-side * FORWARD, 0, 35)
        foot = turn.about(RIGHT, 70, 110)
        axes += _limb(hip, (leg, turn.about(RIGHT, -90, 0), foot), lengths[:, 5:8])
    starts, ends = (torch.stack(each, 1) for each in zip(*axes, strict=True))
    return starts, ends, radii[:, PART_OF_CAPSULE]


@dataclass(frozen=True)
class _Turns:
    """Rotations by random angles, one for each body."""

    count: int
    generator: torch.Generator
    bend: float

    def about(self, axis: Float[Tensor, " 3"], least: float, most: float) -> Float[Tensor, "b 3 3"]:
        """About an axis, by an angle between two degrees."""
        degrees = least + (most - least) * torch.rand(self.count, generator=self.generator)
        return rotation(axis.expand(self.count, 3), self.bend * degrees * math.pi / 180)


def rotation(axis: Float[Tensor, "b 3"], angle: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    """exp(θ [a]ₓ): the rotation by θ about a unit vector a, counterclockwise as seen from its tip."""
    x, y, z = axis.mT
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    return torch.linalg.matrix_exp(angle[:, None, None] * cross)


def random_rotations(count: int, generator: torch.Generator, *, upright: bool) -> Float[Tensor, "b 3 3"]:
    """Rotations drawn evenly from all of them, or from those about the vertical axis z.

    >>> import torch
    >>> from limelight.data.articulated_bodies import random_rotations
    >>> R = random_rotations(2, torch.Generator().manual_seed(0), upright=False)
    >>> torch.allclose(R @ R.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5)
    True
    """
    if upright:
        return rotation(-DOWN.expand(count, 3), 2 * math.pi * torch.rand(count, generator=generator))
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]  # evenly drawn from the orthogonal matrices
    return q * q.det().sign()[:, None, None]  # in three dimensions −Q is a rotation where Q is none


def _along(turned: Float[Tensor, "b 3 3"], direction: Tensor, length: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    return length[:, None] * (turned @ direction)


def _limb(
    joint: Float[Tensor, "b 3"], turns: tuple[Tensor, Tensor, Tensor], lengths: Float[Tensor, "b 3"]
) -> list[tuple[Tensor, Tensor]]:
    """The axes of three capsules in a row, each turned relative to the one before it; unturned they hang down."""
    axes, orientation = [], torch.eye(3)
    for turn, length in zip(turns, lengths.mT, strict=True):
        orientation = orientation @ turn
        end = joint + _along(orientation, DOWN, length)
        axes.append((joint, end))
        joint = end
    return axes


def _on_surface(
    starts: Tensor, ends: Tensor, radii: Tensor, points: int, generator: torch.Generator
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"], Int[Tensor, "b n"]]:
    """Points drawn evenly from the surfaces of the capsules, their normals, and the capsule of each.

    A capsule of length l and radius r has the area 2πrl of its side and 4πr² of its two ends, halves of a sphere.
    """
    side, sphere = (ends - starts).norm(dim=-1) * radii, 2 * radii.square()  # divided by 2π
    capsule = torch.multinomial(side + sphere, points, replacement=True, generator=generator)
    of = capsule[..., None].expand(-1, -1, 3)
    start, axis = starts.gather(1, of), (ends - starts).gather(1, of)
    on_side = torch.rand(capsule.shape, generator=generator) < (side / (side + sphere)).gather(1, capsule)
    normal = torch.nn.functional.normalize(torch.randn(*capsule.shape, 3, generator=generator), dim=-1)
    unit = torch.nn.functional.normalize(axis, dim=-1)
    height = (normal * unit).sum(-1, keepdim=True)
    across = torch.nn.functional.normalize(normal - height * unit, dim=-1)
    along = torch.where(on_side[..., None], torch.rand(*capsule.shape, 1, generator=generator), (height > 0).float())
    normal = torch.where(on_side[..., None], across, normal)
    return start + along * axis + radii.gather(1, capsule)[..., None] * normal, normal, capsule


def _inside(found: Tensor, starts: Tensor, ends: Tensor, radii: Tensor, own: Tensor) -> Tensor:
    """True for points that lie inside a capsule other than their own."""
    axis = (ends - starts)[:, None]
    offset = found[:, :, None] - starts[:, None]
    along = ((offset * axis).sum(-1) / axis.square().sum(-1)).clamp(0, 1)
    distance = (offset - along[..., None] * axis).norm(dim=-1)
    within = distance < radii[:, None]
    return within.scatter(2, own[..., None], torch.zeros_like(own[..., None], dtype=torch.bool)).any(-1)
