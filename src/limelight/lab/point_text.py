"""The positions of moved points as a short text for an address.

Each point takes five bytes: an index of 8 bits and two coordinates of 16 bits in thousandths. The bytes are written in
URL-safe base 64.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping

_ONE = struct.Struct("<Bhh")
_UNIT = 1000

Places = Mapping[int, tuple[float, float]]


def encoded(places: Places) -> str:
    """The text that encodes these points; empty if there are none."""
    packed = (_ONE.pack(i, round(x * _UNIT), round(y * _UNIT)) for i, (x, y) in sorted(places.items()))
    return base64.urlsafe_b64encode(b"".join(packed)).decode().rstrip("=")


def decoded(text: str, most: int, reach: float) -> Places:
    """The points in a text: at most `most`, each with an index below `most` and coordinates within ±`reach`.

    Raises `ValueError` for any other text.
    """
    if len(text) > 4 * most * _ONE.size // 3 + 4:
        raise ValueError("too long")
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = [(i, x / _UNIT, y / _UNIT) for i, x, y in _ONE.iter_unpack(packed)]
    except (binascii.Error, struct.error) as problem:
        raise ValueError(str(problem)) from None
    if any(i >= most or max(abs(x), abs(y)) > reach for i, x, y in found):
        raise ValueError("out of reach")
    return {i: (x, y) for i, x, y in found}
