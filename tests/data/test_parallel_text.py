"""Words become tokens and words again; Multi30k is loaded where its package is."""

import sys
from types import SimpleNamespace

import pytest
import torch

from limelight.data.parallel_text import UNKNOWN, Vocabulary, multi30k, words_of
from limelight.data.special_tokens import BEGIN, END, FIRST, PAD
from limelight.errors import InputError, MissingExtraError

WORDS = Vocabulary.of(["the dog sees the cat", "a cat"])


def test_words_become_tokens_and_words_again():
    assert WORDS.words == ("a", "cat", "dog", "sees", "the")
    assert WORDS.tokens == FIRST + 1 + 5
    tokens = WORDS.encoded(["the dog", "cat sees a dog", ""])
    assert tokens.shape == (3, 6)
    assert tokens[0].tolist() == [BEGIN, FIRST + 5, FIRST + 3, END, PAD, PAD]
    assert tokens[2].tolist() == [BEGIN, END, PAD, PAD, PAD, PAD]
    assert WORDS.decoded(tokens) == ["the dog", "cat sees a dog", ""]


def test_a_word_that_is_not_known_is_so_named():
    tokens = WORDS.encoded(["the bird"])
    assert tokens.tolist() == [[BEGIN, FIRST + 5, UNKNOWN, END]]
    assert WORDS.decoded(tokens) == ["the ?"]
    assert Vocabulary.of(["a a b"], least=2).words == ("a",)


def test_no_sentence_is_no_row_and_a_foreign_token_is_refused():
    assert WORDS.encoded([]).shape == (0, 0)
    assert WORDS.decoded(torch.zeros(0, 3, dtype=torch.long)) == []
    for token in (-1, WORDS.tokens):
        with pytest.raises(InputError, match="expected tokens from 0 to 8"):
            WORDS.decoded(torch.tensor([[BEGIN, token]]))


def test_punctuation_marks_are_words():
    assert words_of("Zwei Männer, die  (schnell) laufen!") == "zwei männer , die ( schnell ) laufen !"


def test_multi30k_comes_from_the_package_datasets(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return [{"en": "Two dogs.", "de": "Zwei Hunde."}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert multi30k("test") == [("two dogs .", "zwei hunde .")]
    assert asked == [("bentrevett/multi30k", "test")]
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match="pip install datasets"):
        multi30k()
