"""The parts that need no second process: which rows a rank has, and the mask of a block."""

import itertools

import pytest
import torch

from limelight import Boolean, InputError, causal, documents, padding, window
from limelight.distributed.order import Run, _dealt, count, pieces, runs
from limelight.distributed.sharded_mask import ShardedMask
from limelight.mask import Band

CPU = torch.device("cpu")


@pytest.mark.parametrize("order", ["zigzag", "contiguous"])
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [0, 1, 3, 8, 13])
def test_every_row_is_dealt_to_one_rank(order, p, n):
    dealt = _dealt(order, n, p)
    rows = [row for own in dealt for run in own for row in range(run.start, run.start + run.length)]
    assert sorted(rows) == list(range(n))
    lengths = [sum(run.length for run in own) for own in dealt]
    assert max(lengths) - min(lengths) <= 2
    assert runs(order, lengths, "rows") == dealt


def test_zigzag_takes_runs_from_both_ends():
    assert [[run.start for run in own] for own in _dealt("zigzag", 8, 4)] == [[0, 7], [1, 6], [2, 5], [3, 4]]


def test_contiguous_rows_may_have_any_lengths():
    assert runs("contiguous", [3, 0, 2], "rows")[2] == [Run(slice(0, 2), 3)]


def test_lengths_that_are_not_those_of_the_order_are_refused():
    with pytest.raises(InputError, match=r"13 rows are dealt to 2 ranks as \[7, 6\], got \[6, 7\]"):
        runs("zigzag", [6, 7], "rows")


@pytest.mark.parametrize("order", ["zigzag", "contiguous"])
@pytest.mark.parametrize(("n", "p", "parts"), [(13, 2, 3), (8, 1, 4), (3, 4, 2), (0, 2, 2), (64, 4, 5)])
def test_pieces_take_equal_parts_of_every_run_and_put_them_back(order, n, p, parts):
    dealt = _dealt(order, n, p)
    x = torch.arange(float(n))[:, None]
    for rank, own in enumerate(dealt):
        mine = torch.cat([x[run.start : run.start + run.length] for run in own])
        cut, back = pieces(dealt, rank, parts), torch.full_like(mine, -1)
        for piece in cut:
            rows = piece.of(mine)
            assert piece.lengths[rank] == len(rows)
            for run in piece.runs[rank]:
                assert torch.equal(rows[run.at], x[run.start : run.start + run.length])
            piece.put(back, rows)
        assert torch.equal(back, mine)
        for which in range(len(own)):  # the share of each run in a piece is the same, to one row
            lengths = [piece.runs[rank][which].length for piece in cut]
            assert max(lengths) - min(lengths) <= 1


def test_only_long_runs_of_several_ranks_are_cut():
    runs = [[Run(slice(0, 5000), 0)], [Run(slice(0, 10), 5000)]]
    assert (count(1, runs), count(2, runs, 1024), count(2, runs), count(2, runs[1:])) == (1, 4, 8, 1)


LIMITS = [None, 0, 1, 3]


@pytest.mark.parametrize(("before", "after"), [*itertools.product(LIMITS, LIMITS), (-1, 3), (4, -2)])
def test_a_band_between_two_runs_is_the_part_of_the_whole_band(before, after):
    band, places = Band(before, after), range(7)
    for a, n, b, m in itertools.product(places, (1, 2, 3), places, (1, 2, 4)):
        queries, keys = Run(slice(0, n), a), Run(slice(0, m), b)
        part = band.block(slice(a, a + n), slice(b, b + m), CPU)
        mask = ShardedMask([band])
        seen = mask.visible(queries, keys)
        assert (seen is None) == (not part.any())
        if seen is not None:
            cut = band.block(*(slice(run.start, run.start + run.length) for run in seen), CPU)
            assert cut.sum() == part.sum()  # nothing that is visible is left out
            assert cut.any(0).all()
            assert cut.any(1).all()
            assert [run.at.start - run.start for run in seen] == [-a, -b]
            own = mask.between(*seen, [])
            assert (own is None) == bool(cut.all())
            assert own is None or torch.equal(own.block(*(slice(0, run.length) for run in seen), CPU), cut)


def test_padding_and_documents_of_a_block_are_taken_from_what_travels():
    real, ids = torch.rand(2, 1, 6) > 0.3, torch.arange(6) // 2
    mask = ShardedMask.of(padding(keys=real, queries=real) & documents(ids, ids + 1) & causal)
    own = mask.between(Run(slice(2, 6), 8), Run(slice(0, 3), 0), [x[..., :4, :] for x in mask.of_keys])
    expected = real[..., 2:6, None] & real[..., None, :3] & (ids[2:6, None] == ids[None, :3] + 1)
    assert torch.equal(own.block(slice(0, 4), slice(0, 3), CPU).expand(expected.shape), expected)


@pytest.mark.parametrize("mask", [Boolean(torch.ones(2, 2, dtype=torch.bool)), ~window(0, 0), causal | window(1, 1)])
def test_a_mask_that_cannot_be_sharded_is_refused(mask):
    with pytest.raises(InputError, match="cannot be sharded"):
        ShardedMask.of(causal & mask)
