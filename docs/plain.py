"""An extension for the site that shows docstrings as plain text: a star in a shape, (*batch, n, d), is no emphasis.

An example, from `>>> ` to the next empty line, becomes a block of code.
"""

import re

from griffe import Extension, Object

_CODE = re.compile(r"((?s:^```.*?^```)|`[^`]*`|^(?: {4}|\t).*$)", re.MULTILINE)
_EXAMPLE = re.compile(r"^>>> .*(?:\n.*\S.*)*", re.MULTILINE)


def escaped(text: str) -> str:
    """The text with its stars, underscores, angle and square brackets escaped, except in code."""
    parts = _CODE.split(_EXAMPLE.sub(lambda found: f"```pycon\n{found.group()}\n```", text))
    return "".join(part if i % 2 else re.sub(r"([*_<>\[\]])", r"\\\1", part) for i, part in enumerate(parts))


class Plain(Extension):
    """Escapes every docstring when it is read."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = escaped(obj.docstring.value)
