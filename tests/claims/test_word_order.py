"""Word order: what is blind to order by construction, and what the data say."""

import pytest
import torch

from limelight.claims import word_order as claim
from limelight.data.marked_words import (
    DISTANCE,
    FARTHEST,
    FIRST_MARK,
    LENGTH,
    PHRASE,
    SECOND_MARK,
    SENTENCE,
    WORDS,
    pairs,
    sentences,
    with_phrase,
)
from limelight.similarity import RelativeBias


def seeded(seed=1000):
    return torch.Generator().manual_seed(seed)


def places(words, mark):
    found = words == mark
    assert (found.sum(1) == 1).all()
    return found.int().argmax(1)


def test_a_sentence_has_both_marks_once_and_its_class_is_their_order():
    words, label = sentences(500, seeded())
    assert words.shape == (500, SENTENCE)
    assert torch.equal(label == 1, places(words, FIRST_MARK) < places(words, SECOND_MARK))
    assert 200 < label.sum() < 300
    assert not torch.isin(words, torch.tensor(PHRASE)).any()
    assert words.max() == WORDS - 1


def test_the_phrase_moves_and_the_rest_stays_in_order():
    words, _ = sentences(5, seeded())
    last, first = with_phrase(words, at_the_end=True), with_phrase(words, at_the_end=False)
    assert torch.equal(last[:, :SENTENCE], words)
    assert torch.equal(first[:, len(PHRASE) :], words)
    assert last[0, SENTENCE:].tolist() == first[0, : len(PHRASE)].tolist() == list(PHRASE)


def test_pairs_stand_where_they_should_and_their_class_is_their_distance():
    words, label = pairs(800, claim.SEEN, seeded())
    first, distance = places(words, FIRST_MARK), places(words, SECOND_MARK) - places(words, FIRST_MARK)
    assert set(first.tolist()) == set(claim.SEEN)
    assert set(distance.tolist()) == set(range(1, FARTHEST + 1))
    assert torch.equal(label == 1, distance == DISTANCE)
    assert 300 < label.sum() < 500


def test_no_marked_word_of_training_stands_at_a_place_of_the_test():
    assert claim.SEEN[-1] + FARTHEST < claim.UNSEEN[0]
    assert claim.UNSEEN[-1] + FARTHEST < LENGTH


@pytest.mark.parametrize("arm", claim.ARMS)
def test_only_without_positions_outputs_follow_the_words(arm):
    torch.manual_seed(0)
    model = claim.ARMS[arm]()
    for part in model.modules():
        if isinstance(part, RelativeBias):
            torch.nn.init.normal_(part.table)  # it is zero at first, and then no bias at all
    words, _ = sentences(20, seeded())
    changes = claim.change_by_reordering(model, words, seeded())
    if arm in (claim.NONE, claim.BAG):
        assert max(changes) < 1e-12
    else:
        assert min(changes) > 1e-3


def test_a_share_counts_the_answers_on_the_right_side():
    probability, label = torch.tensor([0.9, 0.4, 0.6, 0.1]), torch.tensor([1, 1, 0, 0])
    assert claim.share_right(probability, label) == 0.5
