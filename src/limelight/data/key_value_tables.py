"""Generated data: tables of keys and values, and for each a query, which is one of the keys with noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ENTRIES = 16  # entries of a table
WIDTH = 8  # width of a key
BITS = 4  # bits of a value
BLUR = 0.1  # standard deviation of the query about its key, in each coordinate


@dataclass(frozen=True)
class Tables:
    """n tables, a query for each, and the value of the key that the query came from (bits ±1)."""

    query: Float[Tensor, "n width"]
    keys: Float[Tensor, "n entries width"]
    values: Float[Tensor, "n entries bits"]
    target: Float[Tensor, "n bits"]


def key_pool(size: int, generator: torch.Generator) -> Float[Tensor, "size width"]:
    """Keys of length one in random directions."""
    keys = torch.randn(size, WIDTH, generator=generator)
    return keys / keys.norm(dim=-1, keepdim=True)


def tables(
    n: int, generator: torch.Generator, pool: Float[Tensor, "size width"] | None = None, stretch: float = 0.0
) -> Tables:
    """n tables with keys from `pool`; with None, new random keys.

    stretch is the standard deviation of the logarithm of the key lengths; 0 leaves them at one.
    """
    if pool is None:
        keys = key_pool(n * ENTRIES, generator).view(n, ENTRIES, WIDTH)
    else:
        keys = pool[torch.rand(n, len(pool), generator=generator).topk(ENTRIES).indices]
    values = torch.where(torch.rand(n, ENTRIES, BITS, generator=generator) < 0.5, -1.0, 1.0)
    rows, wanted = torch.arange(n), torch.randint(ENTRIES, (n,), generator=generator)
    query = keys[rows, wanted] + BLUR * torch.randn(n, WIDTH, generator=generator)
    lengths = (stretch * torch.randn(n, ENTRIES, 1, generator=generator)).exp()
    return Tables(query, keys * lengths, values, values[rows, wanted])
