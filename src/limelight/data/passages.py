"""Passages of English prose: the descriptions of scikit-learn's data sets, which it ships (BSD), in pieces of words."""

from __future__ import annotations

import hashlib
import random
import re
from functools import cache
from importlib import import_module

NAMES = ("iris", "wine", "breast_cancer", "diabetes", "linnerud", "digits")
WORDS = 24


@cache
def passages() -> tuple[str, ...]:
    """Passages of `WORDS` words each, without tables, links and markup, in a mixed order; no two overlap.

    >>> from limelight.data.passages import passages
    >>> len(passages()) >= 60, {len(passage.split()) for passage in passages()}
    (True, {24})
    """
    datasets = import_module("sklearn.datasets")
    found = []
    for name in NAMES:
        words = _prose(getattr(datasets, f"load_{name}")().DESCR).split()
        found += [" ".join(words[i : i + WORDS]) for i in range(0, len(words) - WORDS + 1, WORDS)]
    return tuple(random.Random(0).sample(found, len(found)))


@cache
def fingerprint() -> str:
    """SHA-256 of the passages, which differ between versions of scikit-learn."""
    return hashlib.sha256("\n".join(passages()).encode()).hexdigest()


def _prose(description: str) -> str:
    """The lines with mostly letters: no rules, tables and links."""
    lines = [line.strip() for line in description.splitlines()]
    kept = [
        line for line in lines if line and _letters(line) > 0.75 and "http" not in line and not line.startswith("..")
    ]
    return re.sub(r"[*:|_`=]+", " ", " ".join(kept))


def _letters(line: str) -> float:
    return sum(character.isalpha() or character in " ,.'" for character in line) / len(line)
