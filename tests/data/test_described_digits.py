"""Described digits: what is drawn is what is described, and no pair that is held out is ever seen."""

import pytest
import torch

from limelight.data.described_digits import (
    WORDS,
    all_scenes,
    describe,
    draw_scenes,
    sentence,
    split_scenes,
)
from limelight.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def flat_digits(each=3):
    """Images of each digit that are as gray as the digit is large, so that a drawn digit can be read."""
    labels = torch.arange(10).repeat(each)
    return ((labels + 1) / 10)[:, None, None].expand(-1, 8, 8).clone(), labels


def test_every_scene_is_there_once():
    scenes = all_scenes()
    assert len({tuple(row) for row in scenes.tolist()}) == len(scenes) == 180
    assert (scenes[:, 0] != scenes[:, 1]).all()


@pytest.mark.parametrize("held_out", [1, 9, 44])
def test_a_pair_that_is_held_out_is_seen_in_no_order_and_no_layout(held_out):
    seen, unseen = split_scenes(held_out, seeded())
    assert len(seen) + len(unseen) == 180
    assert len(unseen) == 4 * held_out
    pairs = [{frozenset(row[:2]) for row in part.tolist()} for part in (seen, unseen)]
    assert not pairs[0] & pairs[1]


@pytest.mark.parametrize("held_out", [0, 45, -3])
def test_too_few_or_too_many_pairs_are_refused(held_out):
    with pytest.raises(InputError, match="1 to 44 pairs"):
        split_scenes(held_out, seeded())


def test_digits_stand_where_the_scene_says():
    pictures = draw_scenes(torch.tensor([[3, 7, 0], [3, 7, 1]]), *flat_digits(), seeded())
    beside, above = pictures
    assert beside[4:12, :8].unique().tolist() == pytest.approx([0.4])
    assert beside[4:12, 8:].unique().tolist() == pytest.approx([0.8])
    assert above[:8, 4:12].unique().tolist() == pytest.approx([0.4])
    assert above[8:, 4:12].unique().tolist() == pytest.approx([0.8])
    assert float(beside[:4].sum() + beside[12:].sum() + above[:, :4].sum() + above[:, 12:].sum()) == 0


def test_every_image_of_a_digit_is_drawn():
    images, labels = flat_digits(each=4)
    images = images + torch.arange(len(images))[:, None, None]
    scenes = torch.tensor([[9, 2, 0]]).expand(200, -1)
    drawn = draw_scenes(scenes, images, labels, seeded())
    assert {round(float(x), 3) for x in drawn[:, 4, 0]} == {round(float(x), 3) for x in images[labels == 9, 0, 0]}


def test_a_digit_without_an_image_is_reported():
    images, labels = flat_digits()
    with pytest.raises(InputError, match="none of 9"):
        draw_scenes(torch.tensor([[9, 2, 0]]), images[labels < 9], labels[labels < 9], seeded())


def test_both_descriptions_of_a_scene_are_true():
    assert len(WORDS) == len(set(WORDS)) == 14
    for scene, both in (
        ([3, 7, 0], {"three left of seven", "seven right of three"}),
        ([3, 7, 1], {"three above seven", "seven below three"}),
    ):
        words = describe(torch.tensor([scene]).expand(40, -1), seeded())
        assert {sentence(each) for each in words} == both


def test_no_two_scenes_share_a_description():
    texts = [{tuple(row) for row in describe(all_scenes(), seeded(seed)).tolist()} for seed in range(2)]
    assert [len(each) for each in texts] == [180, 180]
