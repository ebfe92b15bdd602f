"""Generated data: sequences of words with two marked ones, whose order or whose distance gives the class.

Words are numbers: two marked words, three words that make up a phrase, and others that mean nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

FIRST_MARK, SECOND_MARK = 0, 1
PHRASE = (2, 3, 4)
WORDS = 13  # all different words; those from 5 on mean nothing
SENTENCE = 8  # words of a sentence without the phrase
LENGTH, DISTANCE, FARTHEST = 20, 3, 5  # of a long sequence; the distance of class 1, and the largest one


def sentences(n: int, generator: torch.Generator) -> tuple[Int[Tensor, "n words"], Int[Tensor, " n"]]:
    """n sentences, each with both marked words somewhere. Class 1 if the first mark stands before the second."""
    words = _others(n, SENTENCE, generator)
    places = torch.rand(n, SENTENCE, generator=generator).topk(2).indices
    _put(words, places[:, 0], FIRST_MARK)
    _put(words, places[:, 1], SECOND_MARK)
    return words, (places[:, 0] < places[:, 1]).long()


def with_phrase(words: Int[Tensor, "n words"], at_the_end: bool) -> Int[Tensor, "n more_words"]:
    """The sentences with the three words of the phrase after them, or before them."""
    phrase = torch.tensor(PHRASE).expand(len(words), -1)
    return torch.cat([words, phrase] if at_the_end else [phrase, words], 1)


def pairs(n: int, starts: range, generator: torch.Generator) -> tuple[Int[Tensor, "n length"], Int[Tensor, " n"]]:
    """n long sequences with the first mark at one of the places `starts`, and the second one after it.

    Class 1, which is every other one on average, has the two at the distance `DISTANCE`; those of class 0 have another
    distance from 1 to `FARTHEST`.
    """
    words = _others(n, LENGTH, generator)
    label = torch.randint(2, (n,), generator=generator)
    wrong = torch.tensor([d for d in range(1, FARTHEST + 1) if d != DISTANCE])
    distance = wrong[torch.randint(len(wrong), (n,), generator=generator)]
    distance = torch.where(label == 1, DISTANCE, distance)
    place = starts.start + torch.randint(len(starts), (n,), generator=generator)
    _put(words, place, FIRST_MARK)
    _put(words, place + distance, SECOND_MARK)
    return words, label


def _others(n: int, length: int, generator: torch.Generator) -> Int[Tensor, "n length"]:
    return torch.randint(PHRASE[-1] + 1, WORDS, (n, length), generator=generator)


def _put(words: Int[Tensor, "n length"], places: Int[Tensor, " n"], word: int) -> None:
    words[torch.arange(len(words)), places] = word
