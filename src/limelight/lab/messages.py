"""The schema of the messages that a page may send over its websocket. Every other message is refused.

A message is JSON with at most 200 levels of nesting, without NaN, infinities or unpaired surrogates. Each kind of
message has a fixed set of fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from limelight.lab.address import LONGEST


def _finite(value: JsonValue) -> JsonValue:
    """The value unchanged. Raises `ValueError` for NaN and infinities: Python's parser accepts them, JSON does not."""
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
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]  # integers that JavaScript represents exactly
Held = bool | Whole | float | Text | Annotated[list[Name], Field(max_length=10)] | None  # the value of a control
Settings = Annotated[dict[Name, Held], Field(max_length=100)]


class Message(BaseModel):
    """Base of all messages: unknown fields are refused, and no value is converted to another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class FrameRequest(Message):
    """The request for a frame newer than `after`. The first request carries the values to begin with."""

    after: Whole
    values: Settings | None = None


class ControlValues(Message):
    """The values that the controls hold."""

    set: Settings


class ButtonPress(Message):
    """A button was pressed."""

    press: Literal["play", "pause", "step", "reset"]


class Action(Message):
    """Any other action of a visitor. The simulation of the page validates `given`."""

    act: Name
    given: Json = None


_MESSAGE: TypeAdapter[FrameRequest | ControlValues | ButtonPress | Action] = TypeAdapter(
    FrameRequest | ControlValues | ButtonPress | Action
)


def parsed(text: str) -> FrameRequest | ControlValues | ButtonPress | Action:
    """The message in a text. Raises `ValueError` if it holds no valid message."""
    try:
        return _MESSAGE.validate_json(text)
    except ValidationError:
        raise ValueError("no such message") from None


def is_from_here(headers: Mapping[str, str]) -> bool:
    """True if the websocket was opened by a page of this lab."""
    try:
        return bool(headers.get("host")) and urlsplit(headers.get("origin", "")).netloc == headers.get("host")
    except ValueError:  # the origin is not a valid URL
        return False
