"""The work of `limelight inspect`: a model reads one text, several texts, or a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from limelight.microscope.head_measures import Measure
from limelight.microscope.head_table import Table
from limelight.microscope.load import Loaded
from limelight.microscope.reading import Reading, read, read_picture
from limelight.microscope.scope import Scope
from limelight.what_if.over_texts import OverTexts

_LABEL = 60  # characters of a text by which it is named


class Found(NamedTuple):
    """A reading; of several texts its table has the means, and its maps are those of the first one."""

    reading: Reading
    over: OverTexts | None


@dataclass(frozen=True)
class Session:
    """The texts or the picture, and what is to be measured."""

    texts: Sequence[str]
    image: Path | None = None
    tokens: int | None = None
    more: Sequence[Callable[[Scope, Any], Measure]] = ()

    def of(self, loaded: Loaded) -> Found:
        """What is found in a model; of all texts but the first one only the table is kept."""
        if self.image is not None:
            return Found(read_picture(loaded, self.image, self.more), None)
        first = read(loaded, self.texts[0], self.tokens, self.more)
        if len(self.texts) == 1:
            return Found(first, None)
        tables: list[Table] = [first.table]
        tables += [read(loaded, text, self.tokens, self.more).table for text in self.texts[1:]]
        over = OverTexts(tuple(_label(text) for text in self.texts), tuple(tables))
        return Found(replace(first, table=over.table()), over)


def _label(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LABEL else f"{words[:_LABEL].rstrip()} …"
