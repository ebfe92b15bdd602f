"""Articulated bodies: points lie on the surface of their part, and rotations and seeds do what they ought to."""

import pytest
import torch

from limelight.data import articulated_bodies as data
from limelight.data.articulated_bodies import PARTS, articulated_bodies, random_rotations, rotation
from limelight.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def distances(points, starts, ends):
    """From each point to the axis of each capsule, (bodies, n, capsules)."""
    axis = (ends - starts)[:, None]
    offset = points[:, :, None] - starts[:, None]
    along = ((offset * axis).sum(-1) / axis.square().sum(-1)).clamp(0, 1)
    return (offset - along[..., None] * axis).norm(dim=-1)


def test_every_point_is_on_its_part_and_inside_no_other():
    bodies = articulated_bodies(20, 300, seeded())
    starts, ends, radii = data.capsules(20, seeded(), 0.1, 1.0)
    gaps = distances(bodies.points, starts, ends) - radii[:, None]
    own = bodies.parts[..., None] == data.PART_OF_CAPSULE
    assert gaps.min() > -1e-5
    assert gaps.masked_fill(~own, torch.inf).amin(-1).abs().max() < 1e-5
    on = gaps.argmin(-1)[..., None].expand(-1, -1, 3)
    start, end = starts.gather(1, on), ends.gather(1, on)
    along = (((bodies.points - start) * (end - start)).sum(-1) / (end - start).square().sum(-1)).clamp(0, 1)
    outward = torch.nn.functional.normalize(bodies.points - start - along[..., None] * (end - start), dim=-1)
    assert ((outward * bodies.normals).sum(-1) > 0.999).float().mean() > 0.99  # but for points where two parts touch


def test_points_are_spread_evenly_over_a_capsule():
    start, end, radius = torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 2.0]]]), torch.full((1, 1), 0.5)
    points, normals, capsule = data._on_surface(start, end, radius, 40_000, seeded())
    z = points[0, :, 2]
    side = ((z > 0) & (z < 2)).float().mean()
    assert side == pytest.approx(2 / 3, abs=0.01)  # 2πrl of 2πrl + 4πr²
    middle = z[(z > 0) & (z < 2)]
    assert (middle < 0.5).float().mean() == pytest.approx(0.25, abs=0.01)
    assert (z > 2.25).float().mean() == pytest.approx(1 / 12, abs=0.01)  # half the height of a half sphere
    assert normals.mean(1).norm() < 0.02
    assert capsule.unique().tolist() == [0]


def test_all_eight_parts_are_there_in_every_body():
    bodies = articulated_bodies(30, 400, seeded(1))
    assert (bodies.points.shape, bodies.normals.shape) == ((30, 400, 3), (30, 400, 3))
    for parts in bodies.parts:
        assert parts.unique().tolist() == list(range(len(PARTS)))
    torch.testing.assert_close(bodies.normals.norm(dim=-1), torch.ones(30, 400))


def test_without_bend_a_body_stands_with_hanging_arms_and_is_its_own_mirror_image():
    starts, ends, _ = data.capsules(4, seeded(), 0.1, 0.0)
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(starts[:, 2:8], starts[:, 8:] * mirror)
    torch.testing.assert_close(ends[:, 2:8], ends[:, 8:] * mirror)
    direction = torch.nn.functional.normalize(ends - starts, dim=-1)[..., 2]
    assert (direction[:, :2] > 0.999).all()  # head and torso point up
    assert (direction[:, 2:] < -0.999).all()  # limbs hang
    assert (ends[:, :, 2].argmax(1) == 0).all()


def test_joints_bend_as_those_of_people_do():
    starts, ends, _ = data.capsules(500, seeded(), 0.0, 1.0)
    axes = torch.nn.functional.normalize(ends - starts, dim=-1)
    upper, lower, foot = axes[:, 5], axes[:, 6], axes[:, 7]
    assert (foot[:, 1] - lower[:, 1]).median() > 0.3  # a foot points forward from the leg
    bent = (upper * lower).sum(-1)
    assert bent.min() < 0.2
    assert bent.max() > 0.95
    in_own_plane = torch.linalg.cross(upper, lower)[:, 0]
    assert (in_own_plane < 0.01).all()  # a knee bends backward only
    assert (starts[:, 2, 0] > starts[:, 8, 0]).all()  # the right shoulder is at the right


def test_bodies_differ_in_pose_and_proportions():
    same = data.capsules(50, seeded(), 0.0, 0.0)
    torch.testing.assert_close(same[1], same[1][:1].expand(50, -1, -1))
    posed = data.capsules(50, seeded(), 0.0, 1.0)
    assert posed[1].std(0).max() > 0.1
    lengths = (posed[1] - posed[0]).norm(dim=-1)
    torch.testing.assert_close(lengths, lengths[:1].expand(50, -1), atol=1e-4, rtol=1e-4)
    sized = data.capsules(2000, seeded(), 0.2, 0.0)
    assert sized[2].log().std(0).mean() == pytest.approx(0.2, rel=0.05)


def test_a_rotation_leaves_the_parts_and_all_distances():
    bodies, R = articulated_bodies(3, 50, seeded()), random_rotations(3, seeded(1), upright=False)
    turned = bodies.rotated(R)
    assert torch.equal(turned.parts, bodies.parts)
    squares = [torch.cdist(x.points, x.points).square() for x in (turned, bodies)]
    torch.testing.assert_close(*squares, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(turned.points[1, 7], R[1] @ bodies.points[1, 7])
    torch.testing.assert_close(turned.normals[2, 9], R[2] @ bodies.normals[2, 9])
    assert (turned.points - bodies.points).abs().max() > 0.1


def test_rotations_are_drawn_from_all_or_from_those_about_the_vertical():
    for upright in (False, True):
        R = random_rotations(4000, seeded(), upright=upright)
        torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(4000, 3, 3), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(R.det(), torch.ones(4000))
        assert R[:, 0, 0].mean().abs() < 0.05
        assert (R[:, 2, 2] == 1).all() == upright
    R = random_rotations(4000, seeded(), upright=False)
    assert R[:, 2, 2].var() == pytest.approx(1 / 3, rel=0.1)  # evenly on the sphere


def test_a_quarter_turn_about_z_takes_x_to_y():
    R = rotation(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([torch.pi / 2]))[0]
    torch.testing.assert_close(R @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_standardized_bodies_have_one_place_and_size():
    bodies = articulated_bodies(4, 60, seeded()).standardized()
    torch.testing.assert_close(bodies.points.mean(1), torch.zeros(4, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(bodies.points.square().sum(-1).mean(1), torch.full((4,), 3.0))


def test_the_same_seed_gives_the_same_bodies():
    first, again, other = (articulated_bodies(3, 40, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.points, again.points)
    assert torch.equal(first.parts, again.parts)
    assert not torch.equal(first.points, other.points)
    assert len(first[:2]) == 2
    assert torch.equal(first[torch.tensor([2])].points[0], first.points[2])


@pytest.mark.parametrize(
    ("count", "points", "settings"),
    [(0, 10, {}), (2, 0, {}), (2, 10, {"proportions": -0.1}), (2, 10, {"bend": float("nan")})],
)
def test_impossible_bodies_are_refused(count, points, settings):
    with pytest.raises(InputError, match="articulated bodies expect"):
        articulated_bodies(count, points, seeded(), **settings)
