"""Masks: every block of every combination equals the predicate, and the span contains all visible keys."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limelight import Boolean, DtypeError, Graph, InputError, attend, causal, documents, padding, window
from limelight.kernels.tiles import _rows_per_tile
from limelight.mask import Band, Mask, conjuncts, real_keys, split_additive
from tests.oracle import band

CPU = torch.device("cpu")


def whole(mask: Mask, n: int, m: int) -> torch.Tensor:
    return mask.block(slice(0, n), slice(0, m), CPU).expand(n, m)


@st.composite
def masks(draw, n, m, depth=2):
    """(mask, the same as a matrix)"""
    kind = draw(
        st.sampled_from(["band", "padding", "boolean", "documents", "graph"] + ["and", "or", "not"] * (depth > 0))
    )
    if kind == "band":
        before, after = draw(st.none() | st.integers(0, n)), draw(st.none() | st.integers(0, m))
        unlimited = float("inf")
        matrix = band(n, m, unlimited if before is None else before, unlimited if after is None else after)
        return Band(before, after), matrix
    if kind == "padding":
        keys = torch.tensor(draw(st.lists(st.booleans(), min_size=m, max_size=m)))
        queries = torch.tensor(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        return padding(keys=keys, queries=queries), keys[None, :] & queries[:, None]
    if kind == "boolean":
        matrix = torch.tensor(draw(st.lists(st.booleans(), min_size=n * m, max_size=n * m))).view(n, m)
        return Boolean(matrix), matrix
    if kind == "documents":
        order = sorted if draw(st.booleans()) else list
        ids = [draw(st.lists(st.integers(0, 2), min_size=length, max_size=length)) for length in (n, m)]
        queries, keys = (torch.tensor(order(some)) for some in ids)
        return documents(queries, keys), queries[:, None] == keys[None, :]
    if kind == "graph":
        pair = st.tuples(st.integers(0, n - 1), st.integers(0, m - 1))
        edges = torch.tensor(draw(st.lists(pair, max_size=n * m)), dtype=torch.long).view(-1, 2).T
        matrix = torch.zeros(n, m, dtype=torch.bool)
        matrix[edges[0], edges[1]] = True
        return Graph(edges, (n, m)), matrix
    left, left_matrix = draw(masks(n, m, depth - 1))
    if kind == "not":
        return ~left, ~left_matrix
    right, right_matrix = draw(masks(n, m, depth - 1))
    return (left & right, left_matrix & right_matrix) if kind == "and" else (left | right, left_matrix | right_matrix)


@st.composite
def sized(draw):
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    return n, m, *draw(masks(n, m))


@given(sized(), st.data())
def test_a_block_is_that_part_of_the_matrix(case, data):
    n, m, mask, matrix = case
    assert torch.equal(whole(mask, n, m), matrix)
    assert torch.equal(whole(mask.T, m, n), matrix.T)
    every = torch.cartesian_prod(torch.arange(n), torch.arange(m)).T
    assert torch.equal(mask.pairs(*every), matrix.flatten())
    rows = slice(*sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))))
    cols = slice(*sorted((data.draw(st.integers(0, m)), data.draw(st.integers(0, m)))))
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    assert torch.equal(mask.block(rows, cols, CPU).expand(shape), matrix[rows, cols])


@given(sized(), st.data())
def test_nothing_is_seen_outside_the_span(case, data):
    n, m, mask, matrix = case
    start = data.draw(st.integers(0, n - 1))
    rows = slice(start, data.draw(st.integers(start + 1, n)))
    span = mask.span(rows, m)
    assert 0 <= span.start <= span.stop <= m
    outside = matrix[rows].clone()
    outside[:, span] = False
    assert not outside.any()


@given(sized())
def test_real_keys_are_the_keys_that_padding_keeps(case):
    _, _, mask, matrix = case
    real = real_keys(mask)
    if real is not None:
        assert not matrix[:, ~real].any()
    assert all(isinstance(part, Mask) for part in conjuncts(mask))


def is_causal(mask: Mask, n: int, m: int) -> bool:
    return mask.is_causal(n, m, CPU)


def test_a_causal_mask_is_recognized_in_every_form():
    keys = torch.tensor([True, False, True, True, True])
    prefix = causal | Boolean((torch.arange(5) < 3).expand(5, 5))
    for mask in (
        causal, window(3, 0), causal & padding(keys=keys), Boolean(band(5, 5, after=0)), Band(None, -1), prefix,
        ~~causal, ~Band(-1, None), causal & window(1, 1),
    ):  # fmt: skip
        assert is_causal(mask, 5, 5), mask
    assert is_causal(Boolean(band(3, 7, after=4)), 3, 7)  # a cache of four keys
    symmetric = torch.rand(5, 5) > 0.4
    for mask in (
        window(2, 2), padding(keys=keys), Boolean(symmetric | symmetric.T), Boolean(torch.eye(5).bool()),
        Boolean(torch.ones(5, 5).bool()), Band(0, 0), ~causal,
    ):  # fmt: skip
        assert not is_causal(mask, 5, 5), mask
    assert not is_causal(Boolean(torch.ones(1, 5).bool()), 1, 5)


def test_the_future_is_looked_for_a_few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr("limelight.mask.base_mask._ENTRIES", 14)
    assert is_causal(Boolean(band(9, 7, after=0)), 9, 7)
    assert is_causal(Boolean(band(3, 7, after=4)), 3, 7)
    assert not is_causal(Boolean(band(9, 7, 3, 1)), 9, 7)


def test_a_narrow_window_gets_narrow_tiles():
    assert _rows_per_tile(window(50, 50), 100_000, 100_000, 1) <= 256
    assert _rows_per_tile(Boolean(torch.ones(1, 1).bool()), 4096, 4096, 1) == 512
    assert _rows_per_tile(Boolean(torch.ones(1, 1).bool()), 4096, 4096, 64) == 8


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Boolean(torch.ones(3, 3)), DtypeError, "torch.bool"),
        (lambda: Boolean(torch.ones(3).bool()), InputError, "at least 2 dimensions"),
        (lambda: padding(), InputError, "keys=, queries= or both"),
        (lambda: padding(keys=torch.ones(3).long()), DtypeError, r"mask\.bool\(\)"),
        (lambda: padding(keys=[True, False]), DtypeError, "got list"),
        (lambda: window(-1, 0), InputError, "before"),
        (lambda: window(1.5, 0), InputError, "whole number"),
        (lambda: Band(-3, 2), InputError, r"before \+ after ≥ 0"),
        (lambda: causal & torch.ones(3, 3), DtypeError, "torch.bool"),
        (lambda: causal & 3, DtypeError, "got int"),
        (lambda: causal.at(-1), InputError, "earlier keys ≥ 0, got -1"),
        (lambda: documents(torch.ones(3)), DtypeError, "whole numbers .* got torch.float32"),
        (lambda: Graph(torch.zeros(2, 3), 4), DtypeError, r"edges \(2, E\) of whole numbers"),
        (lambda: Graph(torch.zeros(3, 2).long(), 4), InputError, r"queries first, got \(3, 2\)"),
        (lambda: Graph(torch.tensor([[0, 4], [0, 1]]), 4), InputError, "keys from 0 to 3, got queries 0 to 4"),
    ],
)
def test_an_invalid_mask_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


LEAST = torch.finfo(torch.float64).min
PADDED = torch.zeros(2, 1, 1, 7).double()
PADDED[1, ..., 5:] = LEAST


@pytest.mark.parametrize(
    ("mask", "rows"),
    [
        (PADDED.expand(2, 1, 6, 7), 1),
        (PADDED.repeat(1, 1, 6, 1), 1),
        (PADDED.repeat(1, 1, 6, 1).index_fill(-2, torch.tensor([3]), LEAST), 6),  # first and last row are equal
        (PADDED.repeat(1, 1, 6, 1).index_add(-1, torch.tensor([1]), torch.ones(2, 1, 6, 1).double()), 1),
    ],
)
def test_a_float_mask_whose_rows_are_alike_is_one_row(mask, rows):
    allowed, added = split_additive(mask, 6)
    assert allowed.allowed.shape[-2] == rows
    assert added is None or added.shape[-2] == rows
    q, k, v = torch.randn(2, 3, 6, 4).double(), torch.randn(2, 3, 7, 4).double(), torch.randn(2, 3, 7, 4).double()
    hidden = (mask == LEAST).all(-1, keepdim=True)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask).masked_fill(hidden, 0)
    torch.testing.assert_close(attend(q, k, v, mask), expected)


def test_a_float_mask_with_nan_is_refused():
    q, k, v = torch.randn(6, 4), torch.randn(7, 4), torch.randn(7, 4)
    with pytest.raises(InputError, match="finite"):
        attend(q, k, v, torch.full((6, 7), torch.nan))
