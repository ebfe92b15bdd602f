"""Data sets are as their docstrings say, and the same for the same seed."""

import pytest
import torch

from limelight.data import copy_memory, digits, key_value_tables
from limelight.data.argmax_retrieval import TOKENS, argmax_retrieval
from limelight.data.moons import moons
from limelight.data.odd_token import CLASSES, NOISE, odd_token, prototypes
from limelight.data.slope_bands import CENTERS, SLOPES
from limelight.data.slope_points import slopes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_slopes_are_five_lines():
    points, z = slopes(2000, seeded(), x=(2.0, 4.0))
    assert (points[:, 0].abs() >= 2).all()
    assert (points[:, 0].abs() < 4).all()
    for center, slope in zip(CENTERS, SLOPES, strict=True):
        band = (points[:, 1] - center).abs() <= 0.25
        assert 300 < band.sum() < 500
        torch.testing.assert_close(z[band], slope * points[band, 0])
    noisy = slopes(2000, seeded(), x=(2.0, 4.0), noise=0.5)[1]
    assert 0.4 < (noisy - z).std() < 0.6


def test_the_token_with_the_highest_priority_gives_the_answer():
    tokens, target, which = argmax_retrieval(500, seeded())
    assert tokens.shape == (500, TOKENS, 2)
    for i in range(500):
        best = max(range(TOKENS), key=lambda j, i=i: tokens[i, j, 0])
        assert which[i] == best
        assert target[i] == tokens[i, best, 1]
    assert (tokens[..., 1].abs() >= 0.5).all()
    assert len(which.unique()) == TOKENS


def test_all_tokens_but_one_are_of_one_class_and_the_odd_one_is_the_target():
    centers = prototypes(seeded())
    tokens, target, which = odd_token(300, 12, centers, seeded())
    assert tokens.shape == (300, 12, centers.shape[1])
    labels = torch.cdist(tokens.flatten(0, 1), centers).argmin(-1).view(300, 12)
    assert (labels.gather(1, which[:, None])[:, 0] == target).float().mean() > 0.95  # the noise hides few
    others = torch.stack([row[torch.arange(12) != i].mode()[0] for row, i in zip(labels, which, strict=True)])
    assert (others != target).all()
    assert sorted(target.unique().tolist()) == list(range(CLASSES))
    assert len(which.unique()) == 12
    spread = (tokens - centers[others][:, None]).square().mean((1, 2)).sqrt()
    assert spread.median() < 3 * NOISE


def test_a_table_holds_the_key_that_is_asked_for():
    pool = key_value_tables.key_pool(64, seeded())
    torch.testing.assert_close(pool.norm(dim=-1), torch.ones(64))
    known = key_value_tables.tables(300, seeded(1), pool)
    assert all((known.keys[0, j] == pool).all(-1).any() for j in range(key_value_tables.ENTRIES))
    assert all(len(keys.unique(dim=0)) == key_value_tables.ENTRIES for keys in known.keys)
    for asked in (known, key_value_tables.tables(300, seeded(2))):
        nearest = (asked.query[:, None] - asked.keys).norm(dim=-1).argmin(-1)
        right = (asked.values[torch.arange(300), nearest] == asked.target).all(-1)
        assert right.float().mean() > 0.95
    stretched = key_value_tables.tables(300, seeded(3), stretch=0.5)
    assert 0.4 < stretched.keys.norm(dim=-1).log().std() < 0.6


def test_digits_in_a_frame_are_whole_and_anywhere():
    images, labels = digits.digits()
    assert images.shape == (1797, 8, 8)
    assert labels.bincount().min() > 170
    framed = digits.in_frame(images, seeded())
    torch.testing.assert_close(framed.sum((1, 2)), images.sum((1, 2)))
    assert (framed.mean(0)[0] > 0).any()
    assert (framed.mean(0)[-1] > 0).any()


def test_a_shuffle_is_one_for_all_images():
    images, _ = digits.digits()
    shuffled = digits.permuted(images, seeded())
    torch.testing.assert_close(shuffled.flatten(1).sort(-1).values, images.flatten(1).sort(-1).values)
    order = torch.randperm(64, generator=seeded())
    torch.testing.assert_close(shuffled.flatten(1), images.flatten(1)[:, order])


def test_a_split_has_no_overlap():
    (train, _), (test, _) = digits.split(1200, 500, seeded())
    assert (len(train), len(test)) == (1200, 500)
    index = {image.numpy().tobytes() for image in train}
    assert sum(image.numpy().tobytes() in index for image in test) < 5  # a few images are equal


def test_moons():
    points, labels = moons(500, 0.2, seed=3)
    assert points.shape == (500, 2)
    assert labels.bincount().tolist() == [250, 250]


@pytest.mark.parametrize(
    "draw", [
        lambda g: slopes(9, g)[1], lambda g: odd_token(9, 5, prototypes(g), g)[0], lambda g: argmax_retrieval(9, g)[0],
        lambda g: key_value_tables.tables(9, g).query, lambda g: digits.in_frame(digits.digits()[0][:9], g),
    ],
)  # fmt: skip
def test_the_seed_decides(draw):
    assert torch.equal(draw(seeded(5)), draw(seeded(5)))
    assert not torch.equal(draw(seeded(5)), draw(seeded(6)))


@pytest.mark.parametrize("task", [copy_memory.copy_memory, copy_memory.denoise])
def test_symbols_have_to_be_said_again_in_their_order(task):
    tokens, targets = task(400, 9, seeded())
    said_at = copy_memory.LENGTH
    assert tokens.shape == (400, 9 + 2 * said_at)
    for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        assert [token for token in row if token < copy_memory.SYMBOLS] == wanted
        assert row[-said_at:] == [copy_memory.BLANK] * said_at
        assert [i for i, token in enumerate(row) if token == copy_memory.DELIMITER] == [len(row) - said_at - 1]
    assert sorted(targets.unique().tolist()) == list(range(copy_memory.SYMBOLS))
    places = (tokens < copy_memory.SYMBOLS).double().mean(0)
    before = len(places) - said_at - 1
    if task is copy_memory.copy_memory:
        assert places[:said_at].tolist() == [1.0] * said_at
    else:
        assert places[:before].numpy() == pytest.approx(said_at / before, abs=0.1)
    assert (tokens == task(400, 9, seeded())[0]).all()
    assert (tokens != task(400, 9, seeded(1))[0]).any()
