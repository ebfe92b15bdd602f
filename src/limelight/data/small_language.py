"""Generated sentences in a small English, and their translations into an invented language with rules of its own.

They stand in for corpora such as Multi30k, which would have to be downloaded. What makes a translation hard is there:

- order: English says who, near what, does, what; the invented language who, what, near what, does, and `nea` for never
  at the end. Adjectives follow their noun, and "near" and "with" follow what they belong to.
- agreement: every noun has a gender, which English does not show. Article and adjective agree with it and with the
  number; the verb agrees with the number of its subject, also in the past, where the English verb does not.
- ambiguity: "bat", "crane", "mouse" and "seal" are animals or things. Which one is meant follows from the verb: who is
  fed is an animal, what is repaired is a thing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from limelight.data.parallel_text import Pair
from limelight.errors import InputError

MALE, FEMALE = 0, 1
ENDINGS = (("o", "i"), ("a", "e"))  # of adjectives, by gender and number
DEFINITE, INDEFINITE = (("lo", "li"), ("la", "le")), (("un", "uni"), ("una", "une"))
PHRASE, NEVER = 0.4, 0.3  # the probabilities of "near …" or "with …", and of "never"


@dataclass(frozen=True)
class Noun:
    """An English noun, which takes an s in the plural, the invented one, which takes an i, and its gender."""

    english: str
    other: str
    gender: int


@dataclass(frozen=True)
class Verb:
    """An English verb in the plural, the singular and the past, and the stem of the invented one."""

    english: tuple[str, str, str]
    other: str


def _nouns(text: str) -> tuple[Noun, ...]:
    """Nouns from `english other m` or `english other f`, separated by commas."""
    rows = [part.split() for part in text.split(",")]
    return tuple(Noun(english, other, MALE if gender == "m" else FEMALE) for english, other, gender in rows)


def _verbs(text: str) -> tuple[Verb, ...]:
    rows = [part.split() for part in text.split(",")]
    return tuple(Verb((plural, singular, past), other) for plural, singular, past, other in rows)


PERSONS = _nouns("teacher dosal m, farmer gor m, sailor nav m, doctor meda f, painter pikta f, singer kanta f")
ANIMALS = _nouns("dog kan m, horse ekvo m, bird avi f, goat kapra f")
THINGS = _nouns("wall mur m, boat barko m, door porta f, table mensa f")
BATS = (  # the animal and the thing that share an English name
    *zip(
        _nouns("bat nokto m, crane grua f, mouse muso m, seal foka f"),
        _nouns("bat bato f, crane leva m, mouse klika f, seal stampo m"),
        strict=True,
    ),
)
FOR_ANIMALS = _verbs("feed feeds fed nutr, call calls called vok, fear fears feared tim, follow follows followed sek")
FOR_THINGS = _verbs(
    "build builds built konstr, repair repairs repaired repar, sell sells sold vend, break breaks broke romp"
)
ADJECTIVES = {"old": "vet", "small": "pik", "tall": "alt", "red": "rub", "quiet": "silent", "young": "jun"}
PREPOSITIONS = {"near": "apud", "with": "kun"}
AMBIGUOUS = frozenset(noun.other + ending for senses in BATS for noun in senses for ending in ("", "i"))


def sentence_pairs(n: int, seed: int) -> list[Pair]:
    """n different English sentences, each with its translation, in random order.

    Raises `InputError` for a number of sentences that is not in [1, 100,000].

    >>> from limelight.data.small_language import sentence_pairs
    >>> sentence_pairs(1, seed=1)[0]
    ('the small doctors never fed some quiet cranes', 'le medai pike une gruai silente nutrutn nea')
    """
    if not 1 <= n <= 100_000:
        raise InputError(f"sentence_pairs(n) expects a whole number from 1 to 100,000, got {n}")
    draw, found = random.Random(seed), dict[str, str]()
    while len(found) < n:
        english, other = _sentence(draw)
        found[english] = other
    return list(found.items())


def _sentence(draw: random.Random) -> Pair:
    """Who does what, perhaps near or with something, perhaps never."""
    living = draw.random() < 0.5
    verb = draw.choice(FOR_ANIMALS if living else FOR_THINGS)
    plural, past = draw.random() < 0.5, draw.random() < 0.5
    who = _phrase(draw, draw.choice(PERSONS), plural)
    named = [senses[not living] for senses in BATS] + list(ANIMALS if living else THINGS)
    what = _phrase(draw, draw.choice(named), draw.random() < 0.5)
    does = (
        verb.english[2 if past else 0 if plural else 1],
        verb.other + ("ut" if past else "a") + ("n" if plural else ""),
    )
    beside, never = _prepositional_phrase(draw), (("never", "nea") if draw.random() < NEVER else ("", ""))
    return (
        _joined(who[0], beside[0], never[0], does[0], what[0]),
        _joined(who[1], what[1], beside[1], does[1], never[1]),
    )


def _prepositional_phrase(draw: random.Random) -> Pair:
    """A phrase with a preposition in English, which comes after its noun in the invented language; or nothing."""
    if draw.random() >= PHRASE:
        return "", ""
    english, other = draw.choice(list(PREPOSITIONS.items()))
    noun = _phrase(draw, draw.choice((*PERSONS, *ANIMALS, *THINGS)), draw.random() < 0.5)
    return _joined(english, noun[0]), _joined(noun[1], other)


def _phrase(draw: random.Random, noun: Noun, plural: bool) -> Pair:
    """Article, perhaps an adjective, and a noun; in the invented language article, noun, adjective."""
    definite, described = draw.random() < 0.5, draw.random() < 0.5
    article = "the" if definite else "some" if plural else "a"
    adjective, stem = draw.choice(list(ADJECTIVES.items())) if described else ("", "")
    other = (DEFINITE if definite else INDEFINITE)[noun.gender][plural]
    agreeing = stem + ENDINGS[noun.gender][plural] if described else ""
    return (
        _joined(article, adjective, noun.english + "s" * plural),
        _joined(other, noun.other + "i" * plural, agreeing),
    )


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)
