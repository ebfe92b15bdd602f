"""The settings of a page, and their form in the page's address.

    /slopes?experts=3&seed=7  ↔  {"experts": 3, "seed": 7, every other setting at its default}

Every value from a browser passes through `read`, which replaces an invalid one and returns a sentence that says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

from limelight.lab.point_text import decoded, encoded

Value = float | int | str | bool
Values = dict[str, Value]

LONGEST = 4000  # characters of an address
_ROOM = 3000  # characters of an address that a text may take, where a letter beyond ASCII takes six or more
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # no part of a text, unlike line breaks and tabs


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`, an integer if `step` is one. With `log` its slider is logarithmic."""

    name: str
    label: str
    low: float
    high: float
    default: float
    step: float = 1
    log: bool = False

    def read(self, given: Any) -> tuple[Value, str]:
        try:
            value = float(given)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if isinstance(given, bool) or not math.isfinite(value):
            problem = f"{self.label}: {shown(given)} is not a number; {self.default:g} is used."
            return self._rounded(self.default), problem
        inside = min(max(value, self.low), self.high)
        wrong = "" if inside == value else f"{self.label}: {value:g} is not between {self.low:g} and {self.high:g}; "
        return self._rounded(inside), wrong and f"{wrong}{inside:g} is used."

    def _rounded(self, value: float) -> Value:
        return round(value) if float(self.step).is_integer() else float(f"{value:.6g}")


@dataclass(frozen=True)
class Choice:
    """One of several names. `options` maps each name to its label on the page."""

    name: str
    label: str
    options: Mapping[str, str]
    default: str

    def read(self, given: Any) -> tuple[Value, str]:
        if isinstance(given, str) and given in self.options:
            return given, ""
        near = get_close_matches(str(given), self.options, n=1)
        chosen = near[0] if near else self.default
        return chosen, f"{self.label}: {shown(given)} is not one of {', '.join(self.options)}; {chosen} is used."


@dataclass(frozen=True)
class Switch:
    """On or off."""

    name: str
    label: str
    default: bool

    def read(self, given: Any) -> tuple[Value, str]:
        if isinstance(given, bool):
            return given, ""
        if isinstance(given, str) and given in ("on", "off"):
            return given == "on", ""
        default = "on" if self.default else "off"
        return self.default, f"{self.label}: {shown(given)} is neither on nor off; {default} is used."


@dataclass(frozen=True)
class Moved:
    """Points that were moved by hand: at most `most`, coordinates within ±`reach`, written as text by `places`."""

    name: str
    label: str
    most: int
    reach: float
    default: str = ""

    def read(self, given: Any) -> tuple[Value, str]:
        try:
            return encoded(decoded(str(given), self.most, self.reach)), ""
        except ValueError:
            return (
                "",
                f"{self.label}: {shown(given)} encodes no positions of points; no point is moved.",
            )


@dataclass(frozen=True)
class Text:
    """A text that a visitor types: at most `most` characters, in a field of `rows` rows.

    A text that cannot be used is not cut: it is replaced as a whole, by the last one that could (see `controls.held`).
    """

    name: str
    label: str
    most: int
    default: str
    rows: int = 4

    def read(self, given: Any) -> tuple[Value, str]:
        wrong = self._wrong(given)
        return (self.default, f"{self.label}: {wrong}, so it is not used.") if wrong else (given, "")

    def _wrong(self, given: Any) -> str:
        """Why this cannot be used; empty if it can. A page sends the length of a text that no message may hold."""
        is_length = isinstance(given, int) and not isinstance(given, bool) and given > self.most
        if not isinstance(given, str) and not is_length:
            return f"{shown(given)} is not a text"
        length = given if is_length else len(given)
        if length > self.most:
            return f"this text has {length:,} characters, and the field takes at most {self.most:,}"
        if not given.strip():
            return "this text has no words"
        if odd := _CONTROL.search(given):
            return f"this text holds the control character U+{ord(odd[0]):04X}"
        if (size := len(quote_plus(given))) > _ROOM:
            return f"this text takes {size:,} characters of the page's address, which has room for {_ROOM:,}"
        return ""


@dataclass(frozen=True)
class Listed:
    """One of several names that are known only to the simulation, such as the heads of the model that it has loaded.

    The simulation lists them (`Simulation.choices`), and says what it takes instead of a name that is not among them.
    Here a name is any text of at most `most` printable characters.
    """

    name: str
    label: str
    default: str
    most: int = 40

    def read(self, given: Any) -> tuple[Value, str]:
        if isinstance(given, str) and 0 < len(given) <= self.most and given.isprintable():
            return given, ""
        return self.default, f"{self.label}: {shown(given)} is not one of its names; {self.default} is used."


Field = (
    Number | Choice | Switch | Moved | Text | Listed
)  # `read` returns a value, and a sentence if the given one is invalid


def read(fields: Sequence[Field], given: Mapping[str, Any]) -> tuple[Values, list[str]]:
    """The value of each field, and a sentence for each given value that is invalid or has an unknown name."""
    known = {field.name: field for field in fields}
    values: Values = {field.name: field.read(field.default)[0] for field in fields}
    wrong = []
    for name, value in given.items():
        if name not in known:
            wrong.append(f"This page has no setting called {shown(name)}.")
            continue
        values[name], complaint = known[name].read(value)
        wrong += [complaint] if complaint else []
    return values, wrong


def from_query(fields: Sequence[Field], query: str) -> tuple[Values, list[str]]:
    """The values in the query of an address, and the sentences, as `read` returns them."""
    if len(query) > LONGEST:
        return read(fields, {})[0], [f"The address is longer than {LONGEST} characters; it is not used."]
    return read(fields, dict(parse_qsl(query.lstrip("?"), keep_blank_values=True, errors="replace")))


def to_query(fields: Sequence[Field], values: Mapping[str, Value]) -> str:
    """The query of the address that restores these values: those that differ from their defaults, and the seed."""
    written = {
        field.name: _written(value)
        for field in fields
        if (value := values[field.name]) != field.read(field.default)[0] or field.name == "seed"
    }
    return "?" + urlencode(written) if written else ""


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else f"{value:g}"


def shown(given: Any) -> str:
    """A given value in quotation marks, cut to 40 characters, for a sentence."""
    text = str(given)
    return f"“{text if len(text) <= 40 else text[:39] + '…'}”"
