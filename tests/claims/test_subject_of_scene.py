"""The claim about the subject of a scene: its maps are those of the network, chosen on other scenes than the judged."""

import pytest
import torch

from limelight.claims import subject_of_scene as claim
from limelight.models.class_token_network import ClassTokenNetwork
from tests.claims.brief import cut_short

SEED = 4242


@pytest.fixture
def brief(monkeypatch):
    cut_short("subject_of_scene", monkeypatch)
    return monkeypatch


def test_maps_are_those_of_the_class_token(brief):
    torch.manual_seed(0)
    model, images = ClassTokenNetwork(18, 10).eval(), torch.rand(3, 18, 18)
    found = claim.class_token_maps(model, images, claim.HEAD)
    assert found.shape == (3, 2, 4, 81)
    q, k = model.asked(images)[1]
    P = (q @ k.mT / 8**0.5).softmax(-1)
    torch.testing.assert_close(found[:, 1], P[:, :, 0, 1:])
    lengths = claim.class_token_maps(model, images, claim.LENGTHS)
    torch.testing.assert_close(lengths[:, 1], k.norm(dim=-1)[..., 1:])
    even = torch.nn.functional.normalize(k, dim=-1) * k.norm(dim=-1).mean(-1)[..., None, None]
    right = (q @ even.mT / 8**0.5).softmax(-1)[:, :, 0, 1:]
    torch.testing.assert_close(claim.class_token_maps(model, images, claim.EQUAL)[:, 1], right)


def test_every_arm_has_maps_of_the_places(brief):
    test = claim.scenes_of(SEED)[1]
    maps = {arm: claim.maps_of(arm, SEED, test) for arm in claim.SubjectOfScene.arms}
    assert {arm: one.shape[1] for arm, one in maps.items()} == {
        claim.HEAD: 8, claim.LAST: 1, claim.EQUAL: 8, claim.LENGTHS: 16, claim.GRADIENT: 1, claim.BRIGHTNESS: 1,
        claim.MIDDLE: 1, claim.UNTRAINED: 8,
    }  # fmt: skip
    assert all(one.shape == (20, one.shape[1], 9, 9) and (one >= 0).all() for one in maps.values())
    torch.testing.assert_close(maps[claim.LAST][:, 0], maps[claim.HEAD][:, 4:].mean(1))
    assert not torch.allclose(maps[claim.HEAD], maps[claim.UNTRAINED])


def test_masks_are_the_boxes():
    test = claim.scenes_of(SEED)[1]
    masks = claim.masks_of(test)
    top, left, bottom, right = test.boxes[3].tolist()
    assert masks[3, top:bottom, left:right].all()
    assert masks[3].sum() == (bottom - top) * (right - left)


def test_the_best_map_and_its_share_are_chosen():
    """Of three maps the second is the digit's box, at half of its height."""
    masks = claim.masks_of(claim.scenes_of(SEED)[0])[:10]
    places = torch.nn.functional.max_pool2d(masks.float(), 2)
    noise = torch.rand(10, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    maps = torch.stack([noise[:, 0], places + 0.4 * noise[:, 1], 1 - places], 1)
    found = claim.chosen(maps, masks)
    assert found.map == 1
    assert 0.4 <= found.share <= 0.8
    weights = claim.weights_on(maps, masks)
    assert weights[1] > 2 > 1.2 > weights[0] > 0.8 > weights[2]


def test_scenes_that_choose_are_of_other_digits_than_the_judged(monkeypatch):
    asked = []
    monkeypatch.setattr(claim, "scenes", lambda images, labels, count, generator: asked.append(images))
    claim.scenes_of.__wrapped__(SEED)
    (first, second) = asked
    assert len(first) == len(second) == 250
    assert not (first[:, None] == second).all((-1, -2)).any()
