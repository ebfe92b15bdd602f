"""What the heads of a model do on a text, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limelight.microscope.head_table import Table
from limelight.microscope.reading import Reading
from limelight.what_if.over_texts import OverTexts


@dataclass(frozen=True)
class _Kind:
    """Heads whose measure is above a threshold, and what they do."""

    measure: str
    above: float
    does: str


_KINDS = (
    _Kind("first_token", 0.3, "put more than 30% of their weight on the first token"),
    _Kind("separators", 0.5, "put more than half of it on separators"),
    _Kind("previous_token", 0.5, "attend mostly to the token before"),
    _Kind("next_token", 0.5, "attend mostly to the token after"),
    _Kind("same_token", 0.5, "attend mostly to the token itself"),
    _Kind("induction", 0.3, "look at what followed earlier occurrences of a token (induction)"),
    _Kind("duplicate_token", 0.3, "look at earlier occurrences of a token"),
)
_NAMED = 3  # heads that a sentence names


def sentences(reading: Reading, over: OverTexts | None = None) -> list[str]:
    """The first says how large the model and the text are; the others say what its heads do."""
    table, heads = reading.table, len(reading.table["head"])
    layers, tokens = len({*table["layer"]}), _what_was_read(reading, over)
    keys = _finite(table["effective_keys"])
    spread = f"; a token spreads its weight over about {sum(keys) / len(keys):.3g} of them" if keys else ""
    size = f"{_counted(heads, 'head')} in {_counted(layers, 'attention layer')}"
    out = [f"{reading.kind} has {size}, and read {tokens}{spread}."]
    said = [sentence for kind in _KINDS if (sentence := _of_kind(table, kind))]
    return [*out, *_about_picture(reading), *(said or ["No head shows one of the usual patterns here."])]


def _what_was_read(reading: Reading, over: OverTexts | None) -> str:
    if over is not None:
        return f"{len(over.texts)} texts, over which all numbers are means"
    tokens = " and ".join(_counted(len(text), "token") for text in reading.texts)
    return tokens if reading.picture is None else f"a picture as {tokens}"


def _about_picture(reading: Reading) -> list[str]:
    """How large the picture is, and how the model got it."""
    if reading.picture is None:
        return []
    (width, height), seen = reading.picture.size, reading.picture.pixels
    model = f"{seen.shape[1]} × {seen.shape[0]} pixels in {reading.picture.rows} × {reading.picture.columns} patches"
    if not reading.picture.was_resized:
        return [f"The picture has {model}."]
    return [f"The picture has {width} × {height} pixels; the model takes {model}, to which its processor resized it."]


def _of_kind(table: Table, kind: _Kind) -> str:
    found = [row for row in table.strongest(kind.measure, len(table["head"])) if row[kind.measure] > kind.above]
    if not found:
        return ""
    names = ", ".join(name_of(row) for row in found[:_NAMED])
    most = f"most of all {names}" if len(found) > _NAMED else names
    count, does = (f"{len(found)} heads", kind.does) if len(found) > 1 else ("One head", _of_one(kind.does))
    return f"{count} {does}: {most}."


def _of_one(does: str) -> str:
    verb, rest = does.split(" ", 1)
    return f"{verb}s {rest.replace('their', 'its')}"


def name_of(row: dict[str, Any]) -> str:
    """A head's short name, layer.head."""
    return f"{row['layer']}.{row['head']}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _finite(values: Sequence[float]) -> list[float]:
    return [x for x in values if math.isfinite(x)]
