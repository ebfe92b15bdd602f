"""What a page may say over its websocket, and what any message may hold. Nothing else is listened to.

A message is JSON, no deeper than 200, without NaN, infinities or half characters. Each kind has its own names and no
others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from limelight.lab.address import LONGEST


def _finite(value: JsonValue) -> JsonValue:
    """The value as it came. Raises `ValueError` for NaN and infinities, which are no JSON but are read as such."""
    waiting: list[JsonValue] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, float) and not math.isfinite(each):
            raise ValueError("only finite numbers are JSON")
        waiting += each if isinstance(each, list) else each.values() if isinstance(each, dict) else []
    return value


Json = Annotated[JsonValue, AfterValidator(_finite)]
Name = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=LONGEST)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]  # that a browser's numbers hold exactly
Held = bool | Whole | float | Text | Annotated[list[Name], Field(max_length=10)] | None  # what a control can hold
Settings = Annotated[dict[Name, Held], Field(max_length=100)]


class Message(BaseModel):
    """Of these names and types and no others; nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Ask(Message):
    """For a frame newer than `after`; at first with the values to begin with."""

    after: Whole
    values: Settings | None = None


class Set(Message):
    """What the controls hold."""

    set: Settings


class Press(Message):
    """A button."""

    press: Literal["play", "pause", "step", "reset"]


class Act(Message):
    """Anything else that a visitor does; what plays on the page knows what may be `given`."""

    act: Name
    given: Json = None


_SAID: TypeAdapter[Ask | Set | Press | Act] = TypeAdapter(Ask | Set | Press | Act)


def heard(text: str) -> Ask | Set | Press | Act:
    """The message in a text. Raises `ValueError` where there is none."""
    try:
        return _SAID.validate_json(text)
    except ValidationError:
        raise ValueError("no such message") from None


def is_from_here(headers: Mapping[str, str]) -> bool:
    """True if the websocket was opened by a page of this lab."""
    try:
        return bool(headers.get("host")) and urlsplit(headers.get("origin", "")).netloc == headers.get("host")
    except ValueError:  # an address that is none
        return False
