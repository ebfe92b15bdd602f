"""Text from outside, made safe for a terminal or a page, and readable in the terminal's encoding.

A claim's name, an error message or a folder's name can contain characters that move the cursor, change a terminal's
colors or title, or reverse the order of the text that follows. `visible` shows each of them as an escape in Python's
notation: ESC becomes the four characters `\\x1b`. `encodable` spells out characters that an encoding lacks: in ASCII,
≥ becomes `>=` and α becomes `alpha`.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

# Control characters other than newline and tab, line and paragraph separators, marks that change the direction of text,
# and halves of surrogate pairs, which no encoding has: Python reads the undecodable byte 0xe9 of a file name as U+DCE9.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SPELLED = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "‑": "-", "…": "...", "·": "*", "•": "*", "×": "x", "÷": "/", "⁄": "/", "±": "+-",
        "≥": ">=", "≤": "<=", "≠": "!=", "≈": "~", "∼": "~", "∞": "inf", "√": "sqrt ", "∑": "sum", "Σ": "sum",
        "∂": "d", "∇": "grad ", "∈": " in ", "∝": " ~ ", "⟨": "<", "⟩": ">", "‖": "||", "°": " degrees",
        "✓": "v", "✗": "x", "→": "->", "←": "<-", "↔": "<->", "‘": "'", "’": "'", "“": '"', "”": '"',
        "ᵀ": "^T", "ø": "o", "Ø": "O", "ß": "ss", "ł": "l", "Ł": "L",
        "─": "-", "━": "-", "│": "|", "╭": "+", "╮": "+", "╯": "+", "╰": "+", "█": "#",
    }
)  # fmt: skip
SPELL = "limelight.spell"  # the name of the error handler of codecs


def visible(text: str) -> str:
    """The text with each control character and each other invisible character shown as its escape."""
    return _INVISIBLE.sub(lambda found: _escape(found.group()), text)


def one_line(text: str) -> str:
    """The text as from `visible`, with line breaks and tabs as single spaces."""
    return re.sub(r"\s*[\n\t]\s*", " ", visible(text)).strip()


def encodable(text: str, encoding: str) -> str:
    """The text with characters that the encoding lacks spelled in ASCII: `2 ≥ α` becomes `2 >= alpha` in ASCII."""
    return text.encode(encoding, SPELL).decode(encoding)


def spell(character: str) -> str:
    """A character in ASCII: by a table, by its Greek name, as a superscript or subscript, or without accents."""
    known = character.translate(_SPELLED)
    if known != character:
        return known
    letter = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)", unicodedata.name(character, ""))
    if letter:
        return letter[2].lower() if letter[1] == "SMALL" else letter[2].capitalize()
    mark = {"<super>": "^", "<sub>": "_"}.get(unicodedata.decomposition(character).split(" ")[0], "")
    plain = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    plain = plain.translate(_SPELLED)
    return mark + plain if plain.isascii() and plain else _escape(character)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that could not be decoded
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _spell_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(spell, error.object[error.start : error.end])), error.end


codecs.register_error(SPELL, _spell_error)
