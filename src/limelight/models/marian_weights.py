"""The weights in a file of Marian, a toolkit for translation: names, types and shapes, and then plain numbers.

All integers are little-endian. The file begins with a version (8 bytes) and the number of arrays. Four integers of 8
bytes follow for each array: the length of its name, its type, the number of its dimensions, and the bytes of its data.
Then come all names, each with a zero byte at its end, all dimensions (4 bytes each), an offset, as many empty bytes as
it says, and the data one array after the other.

A matrix that was reduced to eight bits is stored transposed, except for an embedding, and after its whole numbers comes
the factor by which they were multiplied.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limelight.errors import InputError

VERSION = 1
_FLOATS, _EIGHT_BITS, _BYTES = (
    0x404,
    0x4101,
    0x101,
)  # the types of arrays that are read: float32, int8 with a factor, text
_EMBEDDING = "Wemb"


def named(*parts: str) -> str:
    """The name of an array, which says where it belongs.

    >>> from limelight.models.marian_weights import named
    >>> named('encoder', 'l1', 'ffn', 'W1')
    'encoder_l1_ffn_W1'
    """
    return "_".join(parts)


def read_marian(path: Path) -> dict[str, Tensor]:
    """The arrays of a file in float32, by name. Text, such as the settings of the model, is left out.

    Raises `InputError` for a file of another kind or version, for arrays of other types, and for a file that is cut.
    """
    content = path.read_bytes()
    try:
        return _arrays(content, path.name)
    except (struct.error, ValueError, UnicodeDecodeError) as problem:
        raise InputError(f"{path.name} is no file of Marian, or is cut: {problem}") from None


def _arrays(content: bytes, name: str) -> dict[str, Tensor]:
    version, count = struct.unpack_from("<QQ", content)
    if version != VERSION or count > len(content) // 32:
        raise InputError(f"{name} is no file of Marian of version {VERSION}")
    headers = [struct.unpack_from("<4Q", content, 16 + 32 * i) for i in range(count)]
    at = 16 + 32 * count
    names, shapes, found = [], [], {}
    for length, *_ in headers:
        names.append(content[at : at + length - 1].decode())
        at += length
    for _, _, dimensions, _ in headers:
        shapes.append(struct.unpack_from(f"<{dimensions}i", content, at))
        at += 4 * dimensions
    at += 8 + struct.unpack_from("<Q", content, at)[0]
    for own, (_, kind, _, size), shape in zip(names, headers, shapes, strict=True):
        if kind != _BYTES:
            found[own] = _array(content[at : at + size], kind, shape, own)
        at += size
    return found


def _array(data: bytes, kind: int, shape: tuple[int, ...], name: str) -> Tensor:
    count = math.prod(shape)
    if kind == _FLOATS:
        return torch.from_numpy(np.frombuffer(data, "<f4", count).copy()).view(shape)
    if kind != _EIGHT_BITS:
        raise InputError(f"the array {name!r} has the type {kind:#x}, which is not read")
    (factor,) = struct.unpack_from("<f", data, count)
    numbers = torch.from_numpy(np.frombuffer(data, np.int8, count).copy()).float() / factor
    return numbers.view(shape) if name == _EMBEDDING else numbers.view(*shape[::-1]).mT.contiguous()
