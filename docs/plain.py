"""Docstrings are plain text: what Markdown would take for emphasis in a shape, (*batch, n, d), is meant."""

import re

from griffe import Extension, Object

_CODE = re.compile(r"(`[^`]*`|^(?: {4}|\t).*$)", re.MULTILINE)


def escaped(text: str) -> str:
    """The text with its stars, underscores, angle and square brackets escaped, except in code."""
    parts = _CODE.split(text)
    return "".join(part if i % 2 else re.sub(r"([*_<>\[\]])", r"\\\1", part) for i, part in enumerate(parts))


class Plain(Extension):
    """Escapes every docstring as it is read."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = escaped(obj.docstring.value)
