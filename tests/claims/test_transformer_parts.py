"""A Transformer's parts: each arm lacks what it says, and what is measured is what is meant."""

import pytest
import torch

from limelight.claims import transformer_parts as claim
from limelight.data.reversals import larger_of_pairs, pair_names, reversal, sequences
from limelight.data.special_tokens import BEGIN, END, FIRST
from limelight.models.transformer import ResidualFeedForward, Skip


def seeded(seed=1000):
    return torch.Generator().manual_seed(seed)


def test_what_is_to_be_written_by_hand():
    source = FIRST + torch.tensor([[0, 1, 3, 2]])
    assert reversal(source).tolist() == [[BEGIN, FIRST + 2, FIRST + 3, FIRST + 1, FIRST, END]]
    assert pair_names(source, symbols=4).tolist() == [[BEGIN, FIRST + 11, FIRST + 13, FIRST + 4, END]]
    assert larger_of_pairs(source).tolist() == [[BEGIN, FIRST + 3, FIRST + 3, FIRST + 1, END]]


def test_every_task_has_room_for_what_is_written():
    for task in (claim.REVERSAL, claim.NAMING, claim.MAXIMUM):
        target = task.target(sequences(2000, task.length, task.symbols, seeded()))
        assert target[:, 1:-1].unique().tolist() == list(range(FIRST, FIRST + task.written))


def test_sequences_have_all_symbols():
    drawn = sequences(300, 5, 4, seeded())
    assert drawn.shape == (300, 5)
    assert drawn.unique().tolist() == [FIRST, FIRST + 1, FIRST + 2, FIRST + 3]


def test_unseen_sequences_were_not_shown():
    task = claim.Task(length=3, symbols=4, written=4, target=reversal)  # 64 sequences
    shown = sequences(60, 3, 4, seeded())
    left = claim.unseen(20, task, shown, seeded(1))
    assert left.shape[1] == 3
    assert len(left) > 5
    assert not {tuple(row) for row in left.tolist()} & {tuple(row) for row in shown.tolist()}


def parts(arm):
    torch.manual_seed(0)
    return claim.ARMS[arm].model()


def test_each_arm_lacks_its_part_and_no_other():
    whole = parts(claim.WHOLE)
    decoder = whole.decoder[0]
    assert not any(isinstance(part, Skip) for part in whole.modules())
    assert isinstance(parts(claim.NO_POSITIONS).positions, torch.nn.Identity)
    assert isinstance(parts(claim.NO_CROSS).decoder[0].cross_attention, Skip)
    assert not any(isinstance(part, ResidualFeedForward) for part in parts(claim.NO_FEED_FORWARD).modules())
    assert parts(claim.NO_MASK).decoder[0].mask is None
    assert decoder.mask is not None
    one = parts(claim.ONE_HEAD)
    assert one.decoder[0].cross_attention.attention.num_heads == 1
    assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in whole.parameters())
    assert parts(claim.PAIRS_ONE_HEAD).tokens == FIRST + claim.NAMING.written


class Oracle(torch.nn.Module):
    """A model that writes the reversal of what its memory, the source itself, says."""

    def __init__(self, goes_on=False):
        super().__init__()
        self.goes_on = goes_on

    def decode(self, target, memory):
        right = reversal(memory)
        if self.goes_on:  # never ends
            right = torch.where(right == END, FIRST, right)
        place = (torch.arange(target.shape[1]) + 1).clamp(max=right.shape[1] - 1)
        return torch.nn.functional.one_hot(right[:, place], 20).float()


def test_exact_means_every_symbol_and_the_end():
    source = sequences(50, 4, 10, seeded())
    target = reversal(source)
    assert claim.written_exactly(Oracle(), source, target) == 1.0
    assert claim.written_exactly(Oracle(goes_on=True), source, target) == 0.0
    other = source.clone()
    other[:25, 0] = FIRST + (other[:25, 0] - FIRST + 1) % 10  # one symbol of half of the sequences is another one
    assert claim.written_exactly(Oracle(), other, target) == 0.5
    assert claim.written_exactly(Oracle(), source[:, 1:], target) == 0.0  # ends too early


@pytest.mark.parametrize("arm", [claim.WHOLE, claim.NO_MASK])
def test_one_pass_is_step_by_step_only_with_the_mask(arm):
    model, source = parts(arm).double(), sequences(10, 8, 10, seeded())
    change = claim.change_step_by_step(model, source, reversal(source))
    assert (change < 1e-12) == (arm == claim.WHOLE)


def test_the_decoder_knows_no_order_of_the_memory():
    model, source = parts(claim.WHOLE).double(), sequences(10, 8, 10, seeded())
    assert claim.change_by_reordering(model, source, reversal(source), seeded()) < 1e-12
    moved = source[
        :, torch.randperm(8, generator=seeded())
    ]  # what the encoder reads in another order is another memory
    assert (model(moved, reversal(source)) - model(source, reversal(source))).abs().max() > 1e-3
    memory = claim.mean_memory(model, source)
    assert torch.equal(memory[:, 0], memory[:, 7])
