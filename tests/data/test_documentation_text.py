"""The text is Python's own documentation, without what occurs twice, and is split by topics."""

import torch

from limelight.data import documentation_text as text


def decoded(numbers):
    return "".join(text.CHARACTERS[i] for i in numbers)


def test_the_text_is_made_plain():
    assert text.plain("  An  Example\n  of “CODE”: x = 3 % 4\té ") == "an example of code: x = 3 4"
    assert decoded(text.encoded("a b.")) == "a b."


def test_both_parts_are_the_documentation_and_share_no_paragraph():
    train, test = map(decoded, text.characters())
    assert "the following is" in train
    assert len(test) < len(train) / 5
    pieces = [test[i : i + 400] for i in range(0, len(test) - 400, 400)]
    assert sum(piece in train for piece in pieces) == 0


def test_no_paragraph_occurs_twice(monkeypatch):
    from pydoc_data import topics

    monkeypatch.setattr(topics, "topics", {"a": "One.\n\nTwo.", "b": "two.\n\nThree."})
    found = text.characters.__wrapped__()
    assert [decoded(part) for part in found] == ["three.", "one. two."]


def test_excerpts_are_pieces_of_the_text_from_anywhere_in_it():
    numbers = torch.arange(20)
    found = text.excerpts(numbers, 500, 5, torch.Generator().manual_seed(0))
    assert found.shape == (500, 5)
    assert (found.diff(dim=-1) == 1).all()
    assert found[:, 0].unique().tolist() == list(range(16))


def test_the_fingerprint_is_that_of_the_text():
    assert text.fingerprint() == text.fingerprint()
    assert len(text.fingerprint()) == 64
