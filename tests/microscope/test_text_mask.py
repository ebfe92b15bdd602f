"""Masks and biases are kept as few numbers where they have a pattern, and exactly as they are where they have none."""

import pytest
import torch

from limelight import Attention, causal, documents, window
from limelight.mask import Band, Boolean
from limelight.microscope.pair_bias import PairBias
from limelight.microscope.text_mask import CallMask, visible

N = 9


def boolean(mask, n=N, m=N):
    return mask.block(slice(0, n), slice(0, m), torch.device("cpu"))


def only(allowed, **given):
    n, m = allowed.shape[-2:]
    (text,) = visible(CallMask(1, n, m, allowed[None, None], is_causal=False, is_cross=False, **given))
    return text


@pytest.mark.parametrize(
    "mask",
    [causal, window(2, 0), window(0, 2), window(2, 3), window(8, 0), window(20, 20), Band(None, 3), Band(3, None)],
)
def test_bands_are_recognized(mask):
    text = only(boolean(mask))
    assert text.mask is None or isinstance(text.mask, Band)
    kept = torch.ones(N, N, dtype=torch.bool) if text.mask is None else boolean(text.mask)
    assert torch.equal(kept, boolean(mask))
    assert text.positions.tolist() == list(range(N))


@pytest.mark.parametrize("mask", [documents(torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])), window(1, 1) | window(0, 3)])
def test_other_patterns_are_kept_as_they_are(mask):
    kept = only(boolean(mask)).mask
    assert torch.equal(boolean(kept), boolean(mask))
    broken = boolean(causal).clone()
    broken[5, 2] = False
    assert torch.equal(only(broken).mask.allowed, broken)


def test_heads_with_masks_of_their_own():
    allowed = torch.stack([boolean(causal), boolean(window(2, 0))])
    (text,) = visible(CallMask(1, N, N, allowed[None], is_causal=False, is_cross=False))
    assert isinstance(text.mask, Boolean)
    assert torch.equal(text.mask.allowed, allowed)


@pytest.mark.parametrize("real", [slice(3, N), slice(0, 5)])
def test_padding_on_either_side_is_left_out(real):
    is_real = torch.zeros(N, dtype=torch.bool)
    is_real[real] = True
    text = only(boolean(causal) & is_real)
    count = int(is_real.sum())
    assert text.keys.tolist() == text.queries.tolist() == list(range(N))[real]
    assert repr(text.mask) == "causal"
    assert text.positions.tolist() == list(range(count))


def test_a_cache_with_padding_that_a_window_hides_too():
    """One query that sees the last four of nine keys, of which the first two are padding."""
    allowed = torch.arange(N)[None] >= 5
    real = torch.arange(N)[None] >= 2
    text = only(allowed, real_keys=real)
    assert text.keys.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert text.positions.tolist() == [6]
    assert text.mask.block(slice(0, 1), slice(0, 7), torch.device("cpu")).tolist() == [[False] * 3 + [True] * 4]
    assert only(allowed).keys.tolist() == list(range(N))  # nothing is known of padding
    wrong = torch.arange(N)[None] >= 7  # a mask of tokens that contradicts what the layer sees
    assert only(allowed, real_keys=wrong).keys.tolist() == list(range(N))


def test_a_bias_of_relative_positions_takes_few_numbers():
    offsets = torch.randn(2, 5 + 7 - 1, generator=torch.Generator().manual_seed(0))
    table = torch.stack([offsets[:, 4 - i : 11 - i] for i in range(5)], 1)  # (2, 5, 7), constant along diagonals
    bias = PairBias.of(table)
    assert bias.is_relative
    assert bias.numbers.shape == (2, 11)
    one_is_not = PairBias.of(torch.stack([table[0], torch.randn(5, 7)]))
    assert not one_is_not.is_relative
    for found in (bias, one_is_not):
        right = table if found is bias else found.numbers
        i, j = torch.arange(5).repeat_interleave(7), torch.arange(7).repeat(5)
        assert torch.equal(found.at(i, j), right.flatten(1))
        q, k = torch.zeros(2, 5, 3), torch.zeros(2, 7, 3)
        P = Attention(q, k, found.similarity(torch.float32))
        torch.testing.assert_close(P.dense(), right.softmax(-1))
        head = Attention(q[0], k[0], found.head(1).similarity(torch.float32))
        torch.testing.assert_close(head.dense(), right[1].softmax(-1))
    wide = PairBias.of(table.mT.contiguous())  # more queries than keys
    assert torch.equal(wide.at(torch.tensor([6]), torch.tensor([0])), table.mT[:, 6, :1])
    P = Attention(torch.zeros(2, 7, 3), torch.zeros(2, 5, 3), wide.similarity(torch.float32))
    torch.testing.assert_close(P.dense(), table.mT.softmax(-1))
