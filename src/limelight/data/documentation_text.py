"""Text in English: the reference documentation of Python's language, which every installation of Python brings along.

It stands in for the corpora of published language models, which would have to be downloaded. It is the text behind
Python's `help()` (Python Software Foundation license), without paragraphs that occur a second time.
"""

from __future__ import annotations

import hashlib
import string
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

CHARACTERS = " " + string.ascii_lowercase + string.digits + ".,:;'\"()[]{}=_*-+<>/|`"
_HELD_OUT = 10  # one in so many topics is not for training


class Split(NamedTuple):
    """The characters to train on and those of other topics to test on, each the number of its place in `CHARACTERS`."""

    train: Int[Tensor, " n"]
    test: Int[Tensor, " m"]


@cache
def characters() -> Split:
    """The whole text, of which every tenth topic is for testing.

    >>> from limelight.data.documentation_text import characters
    >>> train, test = characters()
    >>> len(train) > 200_000 and len(test) > 20_000
    True
    """
    from pydoc_data.topics import topics

    parts: tuple[list[str], list[str]] = [], []
    known: set[str] = set()
    for number, name in enumerate(sorted(topics)):
        for paragraph in topics[name].split("\n\n"):
            text = plain(paragraph)
            if text not in known:
                known.add(text)
                parts[number % _HELD_OUT == 0].append(text)
    return Split(*(encoded(" ".join(part)) for part in parts))


def plain(text: str) -> str:
    """The text in lower case, any space between words as one blank, and without characters not in `CHARACTERS`."""
    kept = "".join(c for c in " ".join(text.lower().split()) if c in CHARACTERS)
    return " ".join(kept.split())


def encoded(text: str) -> Int[Tensor, " n"]:
    """The number of each character."""
    number = {character: i for i, character in enumerate(CHARACTERS)}
    return torch.tensor([number[character] for character in text])


def excerpts(
    text: Int[Tensor, " n"], count: int, length: int, generator: torch.Generator
) -> Int[Tensor, "count length"]:
    """Pieces of the text, which begin anywhere with equal probability."""
    start = torch.randint(len(text) - length + 1, (count, 1), generator=generator)
    return text[start + torch.arange(length)]


@cache
def fingerprint() -> str:
    """SHA-256 of the text, which is another one in another version of Python."""
    return hashlib.sha256(b"".join(part.numpy().astype("<i8").tobytes() for part in characters())).hexdigest()
