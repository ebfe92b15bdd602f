"""What all ranks must agree on before anything travels, since otherwise they would wait for each other or mix numbers.

Each rank sends a short text, of one size for all, and every rank compares all of them. A rank that refuses its own
input says so there, so that the others raise too, instead of waiting for it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import torch

from limelight.distributed.ring import Ring
from limelight.errors import InputError, LimelightError

_BYTES = 2048
_LONGEST = 120  # characters of one value; a longer one is cut, and its checksum is compared too


def lengths_of_all(
    ring: Ring, n: int, m: int, facts: Mapping[str, object], refused: LimelightError | None
) -> list[tuple[int, int]]:
    """(n, m) of every rank: its numbers of queries and of keys.

    Raises the rank's own error `refused`, if there is one, and `InputError` on every rank if another one has refused
    its input, or if the facts of two ranks differ.
    """
    own = {"n": n, "m": m, "refused": None if refused is None else _short(str(refused))}
    said = {name: _short(repr(fact)) for name, fact in facts.items()}
    text = _as_bytes({**own, "facts": said})
    if len(text) > _BYTES:
        text = _as_bytes({**own, "facts": {name: _checksum(fact) for name, fact in said.items()}})
    sent = torch.tensor([*text.ljust(_BYTES)], dtype=torch.uint8, device=ring.of_messages)
    every = [json.loads(bytes(x.tolist())) for x in ring.gather_small(sent)]
    if refused is not None:
        raise refused
    for rank, other in enumerate(every):
        if other["refused"] is not None:
            raise InputError(f"rank {rank} refused its input: {other['refused']}")
    _require_equal([other["facts"] for other in every])
    return [(other["n"], other["m"]) for other in every]


def _require_equal(every: list[dict[str, str]]) -> None:
    for rank, facts in enumerate(every):
        for name, fact in facts.items():
            if every[0].get(name) != fact:
                raise InputError(
                    f"all ranks must pass the same {name}, but rank 0 has {every[0].get(name)} and rank {rank} {fact}"
                )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({_checksum(text)})"


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _as_bytes(description: dict[str, object]) -> bytes:
    return json.dumps(description, ensure_ascii=False).encode()
