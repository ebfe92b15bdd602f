"""Symmetries move pixels as their names say, and combine as groups do."""

import pytest
import torch

from limelight import InputError
from limelight.data.digits import digits
from limelight.data.pixel_symmetries import drawn, mirror, nonsense, quarter_turns, reorderings, shifts


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


ALL = {"mirror": mirror(), "turns": quarter_turns(), "shifts": shifts(), "sets": reorderings(3)}
GROUPS = {name: table for name, table in ALL.items() if name != "shifts"}  # two shifts by a pixel are one by two


@pytest.mark.parametrize("name", ALL)
def test_the_first_element_leaves_images_as_they_are(name):
    table = ALL[name]
    assert table[0].tolist() == list(range(table.shape[1]))
    assert torch.equal(table.sort(1).values, table[:1].expand_as(table))  # each element moves every pixel once


@pytest.mark.parametrize(
    "change", [lambda table: table, lambda table: nonsense(table, seeded())], ids=["as is", "nonsense"]
)
@pytest.mark.parametrize("name", GROUPS)
def test_two_elements_are_one(name, change):
    table = change(GROUPS[name])
    rows = {tuple(row) for row in table.tolist()}
    assert len(rows) == len(table)
    assert all(tuple(a[b].tolist()) in rows for a in table for b in table)


def test_images_are_mirrored_turned_and_shifted():
    image = digits()[0][3]
    x = image.flatten()
    assert torch.equal(x[mirror()[1]].view(8, 8), image.flip(1))
    for turns, row in enumerate(quarter_turns()):
        assert torch.equal(x[row].view(8, 8), image.rot90(turns))
    moved = {tuple(x[row].tolist()) for row in shifts()}
    assert tuple(image.roll((-1, 1), (0, 1)).flatten().tolist()) in moved


def test_a_set_is_put_into_every_order():
    x = torch.cat([torch.full((64,), float(i)) for i in range(3)])
    orders = {tuple(x[row].view(3, 64).mean(1).tolist()) for row in reorderings(3)}
    assert len(orders) == 6


def test_nonsense_is_no_mirror():
    image = digits()[0][3]
    moved = image.flatten()[nonsense(mirror(), seeded())[1]].view(8, 8)
    assert not torch.equal(moved, image.flip(1))
    assert not torch.equal(moved, image)


def test_elements_are_drawn_evenly_for_a_share_of_the_images():
    x = digits()[0][:1].flatten(1).expand(4000, -1)
    for share, expected in ((0.0, 0.0), (0.2, 0.1), (1.0, 0.5)):
        mirrored = (drawn(x, mirror(), seeded(), share) != x).any(1).float().mean()
        assert float(mirrored) == pytest.approx(expected, abs=0.03)
    turned = drawn(x, quarter_turns(), seeded())
    counts = [(turned == x[:1, row]).all(1).sum().item() for row in quarter_turns()]
    assert sum(counts) == 4000
    assert min(counts) > 900
    with pytest.raises(InputError, match="from 0 to 1"):
        drawn(x, mirror(), seeded(), 1.1)


def test_a_batch_of_batches_is_moved_image_by_image():
    x = torch.arange(2 * 3 * 64.0).view(2, 3, 64)
    assert drawn(x, quarter_turns(), seeded()).shape == x.shape
    assert torch.equal(drawn(x, quarter_turns(), seeded()).sort(-1).values, x)
