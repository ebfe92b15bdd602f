"""The small language keeps its rules: order, agreement, and words whose meaning follows from the verb."""

import pytest

from limelight.data import small_language as language
from limelight.data.small_language import AMBIGUOUS, sentence_pairs
from limelight.errors import InputError

PAIRS = sentence_pairs(3000, seed=0)
NOUNS = {
    noun.other + ending: (noun, ending == "i")
    for noun in (
        *language.PERSONS,
        *language.ANIMALS,
        *language.THINGS,
        *(n for senses in language.BATS for n in senses),
    )
    for ending in ("", "i")
}
ARTICLES = {
    form: (gender, bool(plural))
    for kind in (language.DEFINITE, language.INDEFINITE)
    for gender in (language.MALE, language.FEMALE)
    for plural, form in enumerate(kind[gender])
}
VERBS = {
    verb.other + tense + number: (verb, bool(number))
    for verb in (*language.FOR_ANIMALS, *language.FOR_THINGS)
    for tense in ("a", "ut")
    for number in ("", "n")
}


def phrases(translation):
    """[(article, noun, adjective or None)] of a translation."""
    words = translation.split()
    found = []
    for i, word in enumerate(words):
        if word in ARTICLES:
            after = words[i + 2] if i + 2 < len(words) else ""
            stems = language.ADJECTIVES.values()
            found.append((word, words[i + 1], after if any(after[:-1] == stem for stem in stems) else None))
    return found


def test_sentences_differ_and_are_the_same_for_the_same_seed():
    assert len({english for english, _ in PAIRS}) == 3000
    assert sentence_pairs(3000, seed=0) == PAIRS
    assert PAIRS[:10] != sentence_pairs(10, seed=1)
    for n in (0, 200_000):
        with pytest.raises(InputError, match="sentence_pairs\\(n\\) expects"):
            sentence_pairs(n, seed=0)


def test_no_word_is_in_both_languages():
    english, other = ({word for pair in PAIRS for word in pair[side].split()} for side in (0, 1))
    assert not english & other


def test_every_word_of_a_phrase_agrees_with_its_noun():
    for _, translation in PAIRS:
        assert len(phrases(translation)) in (2, 3)
        for article, word, adjective in phrases(translation):
            noun, plural = NOUNS[word]
            assert ARTICLES[article] == (noun.gender, plural)
            if adjective:
                assert adjective[-1] == language.ENDINGS[noun.gender][plural]


def test_the_verb_agrees_with_the_number_of_who_does_it():
    for english, translation in PAIRS:
        (does,) = [word for word in translation.split() if word in VERBS]
        assert VERBS[does][1] == NOUNS[phrases(translation)[0][1]][1]
        forms = VERBS[does][0].english
        (said,) = [word for word in english.split() if word in forms]
        assert forms.index(said) == (2 if "ut" in does[-3:] else 0 if VERBS[does][1] else 1)


def test_the_order_of_words():
    for english, translation in PAIRS:
        words = translation.split()
        never = "never" in english.split()
        assert (words[-1] == "nea") == never
        assert words[-1 - never] in VERBS
        beside = {"apud", "kun"} & {*words}
        assert len(phrases(translation)) == 2 + len(beside)
        if beside:
            assert words[-2 - never] in beside  # just before the verb
            preposition = {"apud": "near", "kun": "with"}[beside.pop()]
            verb = next(
                i for i, word in enumerate(english.split()) if any(word in v.english for v, _ in VERBS.values())
            )
            assert english.split().index(preposition) < verb


def test_a_bat_is_an_animal_where_it_is_fed_and_a_thing_where_it_is_repaired():
    senses = {english: {} for english in ("bat", "crane", "mouse", "seal")}
    for english, translation in PAIRS:
        noun, _ = NOUNS[phrases(translation)[1][1]]
        if noun.english in senses:
            (does,) = [word for word in translation.split() if word in VERBS]
            living = VERBS[does][0] in language.FOR_ANIMALS
            assert noun.english in english.replace("cranes", "crane")
            senses[noun.english].setdefault(noun.other, set()).add(living)
    for animal, thing in language.BATS:
        assert animal.english == thing.english
        assert senses[animal.english] == {animal.other: {True}, thing.other: {False}}
        assert {animal.other, thing.other + "i"} <= AMBIGUOUS
    assert not AMBIGUOUS & {noun.other for noun in (*language.PERSONS, *language.ANIMALS, *language.THINGS)}
