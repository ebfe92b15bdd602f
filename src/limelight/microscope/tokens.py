"""Tokens as people read them: without the marks of a tokenizer, and an emoji that is several tokens as that emoji."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

_UNKNOWN = "\ufffd"  # what a tokenizer decodes a part of a character to
_LONGEST = 12  # tokens that one character may be split into
_SPACES = {"\n": "↵", "\t": "⇥", " ": "␣", "\xa0": "␣"}
_JOINING = ("Cf", "Mn", "Mc", "Me")  # characters that show something only together with others


def readable(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """A label for each token.

    Tokens are decoded one by one. Where that gives no whole character (an emoji is four bytes, which are up to four
    tokens), more of the following tokens are decoded together, and each of them is labeled with the character and its
    place: "🙂 1/2", "🙂 2/2". Spaces around a token are left out, and one of spaces is shown as ␣, ⇥ or ↵. An accent
    without its letter stands on a dotted circle, and a token of invisible characters alone is shown by their names, as
    "ZERO WIDTH JOINER", which holds together an emoji of several.
    """
    out: list[str] = []
    has_pieces = _marks_pieces(tokenizer)
    while len(out) < len(ids):
        group = _whole(tokenizer, ids[len(out) :])
        label = _label(tokenizer, group, has_pieces)
        out += [label] if len(group) == 1 else [f"{label} {i}/{len(group)}" for i in range(1, len(group) + 1)]
    return out


def _whole(tokenizer: Any, ids: Sequence[int]) -> Sequence[int]:
    """The first token, or the first few if only together they are whole characters."""
    sizes = range(1, min(_LONGEST, len(ids)) + 1)
    return next((ids[:size] for size in sizes if _UNKNOWN not in _decoded(tokenizer, ids[:size])), ids[:1])


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _label(tokenizer: Any, ids: Sequence[int], has_pieces: bool) -> str:
    text = _decoded(tokenizer, ids)
    if not text:  # a mark alone, such as ▁
        text = str(tokenizer.convert_ids_to_tokens(int(ids[0]))).replace("▁", " ").replace("Ġ", " ")
    if has_pieces and text.startswith("##") and len(text) > 2:
        text = text[2:]
    text = text.strip(" ") or text
    if all(unicodedata.category(character) in _JOINING for character in text):
        return "".join(_alone(character) for character in text)
    return "".join(_SPACES.get(character, character) for character in text)


def _alone(character: str) -> str:
    """A character of `_JOINING` by itself: a mark on a dotted circle, or the name of what cannot be seen."""
    is_invisible = unicodedata.category(character) == "Cf" or unicodedata.name(character, "").startswith("VARIATION")
    return unicodedata.name(character, f"U+{ord(character):04X}") if is_invisible else f"◌{character}"


def _marks_pieces(tokenizer: Any) -> bool:
    """True if ## marks the pieces of a word after the first one, as in BERT."""
    piece = tokenizer.convert_tokens_to_ids("##s")
    return piece is not None and piece != getattr(tokenizer, "unk_token_id", None)
