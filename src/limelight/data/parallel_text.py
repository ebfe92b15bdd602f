"""Sentences with their translations, as words and as tokens: a vocabulary, padded batches, and Multi30k by a loader.

Words are what blanks separate. The sentences may be generated (`limelight.data.small_language`), or those of Multi30k
(Elliott et al. 2016, 1605.00459), captions of photographs in English and German, where a network exists.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module

import torch
from jaxtyping import Int
from torch import Tensor

from limelight.data.special_tokens import BEGIN, END, FIRST, PAD
from limelight.errors import InputError, MissingExtraError

Pair = tuple[str, str]
UNKNOWN = FIRST  # a word that the vocabulary does not have


@dataclass(frozen=True)
class Vocabulary:
    """Words and the token of each: `UNKNOWN` for all others, and from FIRST + 1 on the words of this tuple.

    >>> from limelight.data.parallel_text import Vocabulary
    >>> words = Vocabulary.of(["the dog sees", "the cat"])
    >>> words.words, words.tokens
    (('cat', 'dog', 'sees', 'the'), 8)
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, sentences: Iterable[str], least: int = 1) -> Vocabulary:
        """The words that occur at least `least` times, in alphabetical order."""
        count = Counter(word for sentence in sentences for word in sentence.split())
        return cls(tuple(sorted(word for word, times in count.items() if times >= least)))

    @property
    def tokens(self) -> int:
        """The number of different tokens, those of `limelight.data.special_tokens` included."""
        return FIRST + 1 + len(self.words)

    def encoded(self, sentences: Sequence[str]) -> Int[Tensor, "n t"]:
        """The tokens of each sentence between BEGIN and END, filled up with PAD.

        >>> from limelight.data.parallel_text import Vocabulary
        >>> Vocabulary(("a", "b")).encoded(["b a", "c"])
        tensor([[1, 5, 4, 2],
                [1, 3, 2, 0]])
        """
        number = {word: FIRST + 1 + i for i, word in enumerate(self.words)}
        rows = [[BEGIN, *(number.get(word, UNKNOWN) for word in sentence.split()), END] for sentence in sentences]
        longest = max(map(len, rows), default=0)
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows]).reshape(len(rows), longest)

    def decoded(self, tokens: Int[Tensor, "n t"]) -> list[str]:
        """The words of each row up to its END, without the tokens that are no words; `?` for `UNKNOWN`.

        Raises `InputError` for a token that the vocabulary does not have.

        >>> import torch
        >>> from limelight.data.parallel_text import Vocabulary
        >>> Vocabulary(("a", "b")).decoded(torch.tensor([[1, 5, 4, 2, 5]]))
        ['b a']
        """
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.tokens:
            raise InputError(
                f"expected tokens from 0 to {self.tokens - 1}, got {int(tokens.min())} to {int(tokens.max())}"
            )
        words = ("?", *self.words)
        rows = [row[: row.index(END)] if END in row else row for row in tokens.tolist()]
        return [" ".join(words[token - FIRST] for token in row if token >= FIRST) for row in rows]


def multi30k(split: str = "train") -> list[Pair]:
    """English captions and their German translations: 29,000 to train on, 1,014 in `validation`, 1,000 in `test`.

    The package datasets downloads them from the Hub. Letters are in lower case, and punctuation marks are words.

    Raises `MissingExtraError` where datasets is not installed.
    """
    try:
        load = import_module("datasets").load_dataset
    except ImportError as missing:
        raise MissingExtraError(
            "Multi30k needs the package datasets, which is not installed, and a network: pip install datasets; "
            "limelight.data.small_language generates sentences without either"
        ) from missing
    return [(words_of(row["en"]), words_of(row["de"])) for row in load("bentrevett/multi30k", split=split)]


def words_of(text: str) -> str:
    """The text in lower case with a blank before and after each punctuation mark.

    >>> from limelight.data.parallel_text import words_of
    >>> words_of("Two dogs, running.")
    'two dogs , running .'
    """
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))
